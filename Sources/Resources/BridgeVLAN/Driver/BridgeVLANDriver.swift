import Netlink
import Planning
import PluginKit

extension BridgeVLANResource: DrivenResource { typealias ItsDriver = BridgeVLANDriver }

/// VLANs of bridges that filter them, and of their ports. The kernel makes each new port a member of
/// VLAN 1 (`vlan_default_pvid`): a membership that no plan has is removed.
struct BridgeVLANDriver: Driver {
    static let watch = DriftWatch.netlink

    private let socket: RouteSocket

    init(_ context: DriverContext) { socket = context.socket }

    func check(_ change: KindChange<BridgeVLANResource>) throws {
        _ = try Self.memberships(change.plans.new)
    }

    func steps(_ change: KindChange<BridgeVLANResource>) -> [Step] {
        [Step(.bridgeVLANs) { try self.converge(change.plans.new) }]
    }

    /// The flags of each VLAN of each link: bridges that filter, and their ports.
    ///
    /// - Throws: for a link that is neither, and for a link with two entries for one VLAN, or two
    ///   default VLANs.
    static func memberships(_ plan: Plan) throws -> [String: [Int: BridgeVLAN.Flags]] {
        let links = plan.values(LinkResource.self)
        let bridges = Set(links.filter { $0.type.as(BridgeLink.self)?.filtersVLANs == true }.map(\.name))
        let members = links.filter { bridges.contains($0.name) || $0.master.map(bridges.contains) == true }
        var wanted = Dictionary(members.map { ($0.name, [Int: BridgeVLAN.Flags]()) }) { $1 }
        var defaults: Set<String> = []
        for resource in plan.values(BridgeVLANResource.self) {
            let link = resource.link
            func invalid(_ problem: String) -> EngineError {
                EngineError("bridge-vlan \(resource.identity): \(problem)")
            }
            // Taken out, the dictionary is changed in place.
            guard var vlans = wanted.removeValue(forKey: link) else {
                throw invalid("\(link) is neither a bridge with vlan-filtering nor a port of one; plan that link, too")
            }
            if resource.isDefault, !defaults.insert(link).inserted {
                throw invalid("\(link) has another default VLAN; keep one")
            }
            let flags = BridgeVLAN.Flags(isUntagged: resource.isUntagged, isDefault: resource.isDefault)
            for vlan in resource.vlans {
                guard vlans.updateValue(flags, forKey: vlan) == nil else {
                    throw invalid("another entry has the VLAN \(vlan) of \(link), too; keep one")
                }
            }
            wanted[link] = vlans
        }
        return wanted
    }

    /// - Parameters:
    ///   - wanted: the planned VLANs by the link's index.
    ///   - present: the VLANs of all ports.
    static func difference(
        wanted: [Int: [Int: BridgeVLAN.Flags]], present: [BridgeVLAN]
    ) -> Difference<BridgeVLAN, BridgeVLAN> {
        let presentFlags = Dictionary(grouping: present, by: \.link).mapValues { vlans in
            Dictionary(vlans.map { ($0.vlan, $0.flags) }) { $1 }
        }
        return Difference(
            extra: present.filter { vlan in wanted[vlan.link].map { $0[vlan.vlan] == nil } ?? false },
            missing: wanted.flatMap { link, vlans in
                vlans.filter { presentFlags[link]?[$0.key] != $0.value }
                    .map { BridgeVLAN(link: link, vlan: $0.key, flags: $0.value) }
            }.sorted { ($0.link, $0.vlan) < ($1.link, $1.vlan) })
    }

    private func difference(_ plan: Plan) throws -> (Difference<BridgeVLAN, BridgeVLAN>, PlannedLinks)? {
        let wanted = try Self.memberships(plan)
        // A kernel without VLAN filtering has nothing to list.
        if wanted.isEmpty { return nil }
        let links = try PlannedLinks(plan, present: try socket.links())
        var byIndex: [Int: [Int: BridgeVLAN.Flags]] = [:]
        for (name, vlans) in wanted {
            if let index = try links.index(of: name) { byIndex[index] = vlans }
        }
        return (Self.difference(wanted: byIndex, present: try socket.bridgeVLANs()), links)
    }

    func drift(from plan: Plan) throws -> [String] {
        guard let (difference, links) = try difference(plan) else { return [] }
        func words(_ range: (first: BridgeVLAN, last: Int)) -> String {
            let last = range.last == range.first.vlan ? "" : " to \(range.last)"
            return "VLAN \(range.first.vlan)\(last) of \(links.name(of: range.first.link))"
        }
        return Self.ranges(difference.extra).map { "\(words($0)) is not planned" }
            + Self.ranges(difference.missing).map { "\(words($0)) is missing or has other flags" }
    }

    /// Neighbouring VLANs with the same flags, in the order of links.
    static func ranges(_ vlans: [BridgeVLAN]) -> [(first: BridgeVLAN, last: Int)] {
        var ranges: [(first: BridgeVLAN, last: Int)] = []
        for vlan in vlans.sorted(by: { ($0.link, $0.vlan) < ($1.link, $1.vlan) }) {
            if let (first, last) = ranges.last, first.link == vlan.link, last + 1 == vlan.vlan,
                first.flags == vlan.flags, !vlan.flags.isDefault
            {
                ranges[ranges.count - 1].last = vlan.vlan
            } else {
                ranges.append((vlan, vlan.vlan))
            }
        }
        return ranges
    }

    private func converge(_ plan: Plan) throws {
        guard let (difference, links) = try difference(plan) else { return }
        let bridges = Set(plan.values(LinkResource.self).filter { $0.type.as(BridgeLink.self) != nil }.map(\.name))
        func isBridge(_ vlan: BridgeVLAN) -> Bool { bridges.contains(links.name(of: vlan.link)) }
        // New ones first: a port that changes its default VLAN has one at any time.
        for (vlan, last) in Self.ranges(difference.missing) {
            try socket.add(vlan, through: last, isBridge: isBridge(vlan))
        }
        for (vlan, last) in Self.ranges(difference.extra) {
            try tolerant { () throws(NetlinkError) in
                try socket.delete(vlan, through: last, isBridge: isBridge(vlan))
            }
        }
    }
}
