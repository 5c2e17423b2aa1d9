import Addresses
import Documents
import Netlink
import PluginKit

/// The collections that the operational state is made of: those of the facts, some of them with
/// more than a plan needs, and others for the state alone.
extension StateData {
    /// The objects of a collection by name. A collection without a reporter is empty.
    func state(of collection: String) throws -> [String: JSON] {
        switch collection {
        case "links": return try linkStates()
        case "probes": return Self.named(health.probes.json)
        case "services": return Self.named(.list(((try? places.pidOne.services()) ?? []).map(\.json)))
        case "counters": return try applier.counters().object ?? [:]
        case "commits": return Self.named(history, by: "number")
        case "feeds": return Self.named(feeds.list)
        default:
            return try facts.collections([collection]).collections[collection] ?? [:]
        }
    }

    private static func named(_ list: JSON, by key: String = "name") -> [String: JSON] {
        Dictionary((list.list ?? []).compactMap { item in item[key].map { ($0.text ?? $0.line, item) } }) { $1 }
    }

    private func linkStates() throws -> [String: JSON] {
        let counters = try routes.linkCounters()
        let addresses = Dictionary(grouping: try routes.addresses(), by: \.link)
        let leased = Set(
            facts.reported.reported([Facts.Lease.collection, Facts.Prefix.collection]).collections.values.flatMap(
                \.values
            )
            .compactMap { ($0["address"] ?? $0["prefix"])?.text })
        return Dictionary(
            try routes.links().map { link -> (String, JSON) in
                let own = (addresses[link.index] ?? []).map { Self.state(of: $0, leased) }
                var entries = counters[link.index].map { Self.state(of: $0) } ?? [:]
                entries["up"] = .boolean(link.isUp)
                entries["carrier"] = .boolean(link.hasCarrier)
                entries["oper-status"] = .text(link.operationalState.name)
                entries["kind"] = link.kind.map { .text($0) }
                entries["mtu"] = .integer(link.mtu)
                entries["mac"] = link.address.map { .text($0.description) }
                entries["addresses"] = .list(own.sorted { $0.line < $1.line })
                return (link.name, .object(entries))
            }
        ) { $1 }
    }

    private static func state(of counters: LinkCounters) -> [String: JSON] {
        let counted: [String: UInt64] = [
            "in-packets": counters.receivedPackets, "in-bytes": counters.receivedBytes,
            "in-errors": counters.receiveErrors, "in-drops": counters.receiveDrops,
            "out-packets": counters.sentPackets, "out-bytes": counters.sentBytes, "out-errors": counters.sendErrors,
            "out-drops": counters.sendDrops,
        ]
        return counted.mapValues { .integer(Int(clamping: $0)) }
    }

    private static func state(of address: InterfaceAddress, _ leased: Set<String>) -> JSON {
        let prefix = address.prefix.description
        return .object([
            "prefix": .text(prefix), "origin": .text(origin(of: address, isLeased: leased.contains(prefix))),
            "valid-lifetime": address.validLifetime.map { .integer($0) },
            "preferred-lifetime": address.preferredLifetime.map { .integer($0) },
        ])
    }

    /// As RFC 8344 calls it (ip-address-origin), by the protocol number of the address (IFAPROT_*
    /// of linux/if_addr.h).
    private static func origin(of address: InterfaceAddress, isLeased: Bool) -> String {
        switch address.origin {
        case LinkDriver.origin: isLeased ? "dhcp" : "static"
        // IFAPROT_KERNEL_LL
        case 3: "link-layer"
        // IFAPROT_KERNEL_RA
        case 2: "random"
        // Kernels before 6.4 don't say of IPv6.
        case 0 where address.prefix.description.hasPrefix("fe80:"): "link-layer"
        default: "other"
        }
    }
}

extension OperationalState {
    /// As RFC 8343 calls it (oper-status).
    fileprivate var name: String {
        switch self {
        case .unknown: "unknown"
        case .notPresent: "not-present"
        case .down: "down"
        case .lowerLayerDown: "lower-layer-down"
        case .testing: "testing"
        case .dormant: "dormant"
        case .up: "up"
        }
    }
}
