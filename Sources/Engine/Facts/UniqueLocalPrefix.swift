import Digests
import PluginKit

/// The IPv6 networks that are a box's own, without a provider: a /48 whose 40 bits no other box has,
/// but for one in 10^12 (RFC 4193, section 3.2.3).
///
/// The bits come from the box's machine ID, which is random, is made at the first start, and outlives
/// upgrades and a factory reset. So does the prefix, as a router's must (RFC 7084, ULA-2). The ID is
/// hashed: hosts learn the prefix, and must not learn the ID.
enum UniqueLocalPrefix {
    /// - Parameter machineID: 32 hexadecimal digits, as in machine-id(5).
    /// - Returns: nil for a text that is no machine ID.
    static func of(machineID: String) -> IPPrefix? {
        guard machineID.utf8.count == 32, let bytes = Hex.bytes(machineID) else { return nil }
        let digest = SHA256.hash(Array("vcpe unique-local\0".utf8) + bytes)
        let network = [0xFD] + digest.bytes.prefix(5) + [UInt8](repeating: 0, count: 10)
        return IPAddress(network).flatMap { IPPrefix($0, length: 48) }
    }
}
