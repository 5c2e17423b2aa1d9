/// A bond of several links.
public struct BondLink: LinkType {
    public static let name = "bond"
    public static let kernelKind: String? = "bond"

    /// BOND_MODE_* (linux/if_bonding.h).
    public enum Mode: String, Sendable, CaseIterable {
        case activeBackup = "active-backup"
        case balanceXOR = "balance-xor"
        case lacp = "802.3ad"

        var number: UInt8 {
            switch self {
            case .activeBackup: 1
            case .balanceXOR: 2
            case .lacp: 4
            }
        }
    }

    /// BOND_XMIT_POLICY_* (linux/if_bonding.h).
    public enum Hash: String, Sendable, CaseIterable {
        case layer2 = "layer2"
        case layer34 = "layer3+4"
        case layer23 = "layer2+3"

        var number: UInt8 { UInt8(Self.allCases.firstIndex(of: self) ?? 0) }
    }

    public var mode: Mode
    public var hash: Hash
    /// LACP frames every second instead of every 30 (IEEE 802.1AX).
    public var isFastLACP: Bool

    public init(_ mode: Mode, hash: Hash = .layer2, isFastLACP: Bool = false) {
        (self.mode, self.hash, self.isFastLACP) = (mode, hash, isFastLACP)
    }

    public init(_ line: ResourceLine) throws(InvalidResource) {
        self.init(
            try line.value("mode") { Mode(rawValue: $0) },
            hash: try line.optional("hash") { Hash(rawValue: $0) } ?? .layer2, isFastLACP: try line.flag("fast-lacp"))
        if isFastLACP, mode != .lacp { throw line.invalid("\"fast-lacp\" is for the mode 802.3ad") }
    }

    public var fields: [String: JSON] {
        JSON.object([
            "mode": .text(mode.rawValue), "hash": hash == .layer2 ? nil : .text(hash.rawValue),
            "fast-lacp": isFastLACP ? .boolean(true) : nil,
        ]).object ?? [:]
    }

    /// Milliseconds between two checks of a port's carrier.
    private static let carrierCheck: UInt32 = 100

    /// IFLA_BOND_MODE 1, MIIMON 3, XMIT_HASH_POLICY 14, AD_LACP_RATE 21 (linux/if_link.h). The mode and
    /// the rate change only while the bond has no ports or is down.
    public var options: [LinkOption] {
        [
            LinkOption(1, .u8(mode.number), isFixed: true), LinkOption(3, .u32(Self.carrierCheck)),
            LinkOption(14, .u8(hash.number)),
        ] + (mode == .lacp ? [LinkOption(21, .u8(isFastLACP ? 1 : 0), isFixed: true)] : [])
    }

    public var isMTUOfPorts: Bool { true }
}
