import PluginKit

/// How much a group, or each of its members, may send and receive through the box.
struct Bandwidth: Sendable {
    /// Bits a second.
    var upload: Int?
    var download: Int?
    /// Of each member by itself.
    var isEach = false
    /// To and from which it counts; nil for all that is forwarded.
    var zone: Located<String>?

    static var shape: Shape<Bandwidth> {
        .mapping("a bandwidth") { fields in
            let upload = fields.optional("upload", .bitRate)
            let download = fields.optional("download", .bitRate)
            let isEach = fields.optional("each", .boolean) ?? false
            let zone = fields.optional("zone", Shape<String>.name.located)
            if upload == nil, download == nil {
                fields.problems.add(
                    fields.node, fields.path, "a bandwidth that limits nothing", hint: "give upload, or download")
            }
            return Bandwidth(upload: upload, download: download, isEach: isEach, zone: zone)
        }
    }

    /// Packets beyond it are dropped. A quarter of a second's worth may come at once, and always a few full packets: TCP
    /// doesn't get near its rate with less.
    private static func limit(_ bits: Int) -> Statement.Limit {
        .init(rate: bits / 8, .bytes, per: .second, burst: max(bits / 8 / 4, 30_000), isOver: true)
    }

    // MARK: - Planning

    /// Before established connections pass, since it is about all packets of them.
    static func plan(
        _ groups: [Located<Identities.Group>], _ published: Published, slowly: Bool, _ output: inout PlanOutput
    ) {
        var (rules, slow): ([Rule], [Rule]) = ([], [])
        for group in groups {
            guard let bandwidth = group.value.bandwidth else { continue }
            let members = Members(group.value.name, comment: "firewall: \(group.path) bandwidth")
            var zone: Zone?
            if let name = bandwidth.zone {
                zone = output.zone(name.value, at: name.path, in: published)
                if zone == nil { continue }
            }
            for set in members.byMAC { output.add(set: set) }
            rules += members.remember
            for direction in Direction.allCases {
                let through = zone.map { [Statement.match(.meta(direction.link), .equal, .named($0.set))] } ?? []
                slow += members.rules(direction, [.match(.ct(.state), .any, .text("established")), .verdict(.accept)])
                guard let bits = direction == .upload ? bandwidth.upload : bandwidth.download else { continue }
                // Led there by goto, a packet that is a member's by two of its signs counts once.
                let name = "firewall.bandwidth.\(group.value.name).\(direction.rawValue)"
                let counter = NamedCounter(name, comment: members.comment)
                output.add(.counter(counter))
                let find = Chain(name, rules: members.rules(direction, [.verdict(.goto("\(name).meter"))]))
                let meter =
                    bandwidth.isEach
                    ? members.each(direction, limit(bits), name, &output)
                    : [Rule([.limit(limit(bits)), .counter(name), .verdict(.drop)], comment: members.comment)]
                for chain in [find, Chain("\(name).meter", rules: meter)] { output.add(.chain(chain, stage: nil)) }
                rules.append(Rule(through + [.verdict(.jump(find.name))], comment: members.comment))
            }
        }
        if rules.isEmpty { return }
        output.add(.chain(Chain("firewall.bandwidth", rules: rules), stage: .init(.forwardGuard, order: 200)))
        if slowly {
            output.add(.chain(Chain("firewall.bandwidth-slow", rules: slow), stage: .init(.noOffload, order: 50)))
        }
    }

    private enum Direction: String, CaseIterable {
        case upload, download

        /// Which of a packet's addresses is the member's.
        var field: String { self == .upload ? "saddr" : "daddr" }
        /// That leads to the zone, or comes from it.
        var link: Selector.Meta { self == .upload ? .outputInterface : .interface }
    }

    /// Packets of a group's members: by their addresses, by the hardware address where they send, and by the addresses that
    /// were seen with it where they receive.
    private struct Members {
        let group: String
        let comment: String
        let byMAC: [NamedSet]

        init(_ group: String, comment: String) {
            (self.group, self.comment) = (group, comment)
            byMAC = IPAddress.Family.allCases.map { family in
                NamedSet(
                    FedAddresses.name("firewall.bandwidth.\(group).by-mac", family),
                    key: [family == .ipv4 ? .ipv4Address : .ipv6Address], flags: [.dynamic, .timeout],
                    timeout: 3600, size: 65_535)
            }
        }

        private var sends: Statement {
            .match(.payload(.ether, "saddr"), .equal, .named(Identities.macs(group)))
        }

        private func field(_ family: IPAddress.Family, _ name: String) -> Expression {
            .payload(family == .ipv4 ? .ip : .ip6, name)
        }

        /// The addresses that members known by their hardware address alone send from.
        var remember: [Rule] {
            zip(IPAddress.Family.allCases, byMAC).map { family, set in
                Rule([sends, .element(.update, field(family, "saddr"), set: set.name, timeout: nil)], comment: comment)
            }
        }

        func rules(_ direction: Direction, _ then: [Statement]) -> [Rule] {
            var matches = IPAddress.Family.allCases.map {
                FedAddresses.isIn(Identities.feed(group), $0, direction.field)
            }
            if direction == .upload {
                matches.append(sends)
            } else {
                matches += zip(IPAddress.Family.allCases, byMAC).map {
                    FedAddresses.isIn(set: $1.name, $0, direction.field)
                }
            }
            return matches.map { Rule([$0] + then, comment: comment) }
        }

        /// A meter for each address.
        func each(
            _ direction: Direction, _ limit: Statement.Limit, _ name: String, _ output: inout PlanOutput
        ) -> [Rule] {
            IPAddress.Family.allCases.map { family in
                let set = NamedSet(
                    FedAddresses.name("\(name).each", family),
                    key: [family == .ipv4 ? .ipv4Address : .ipv6Address], flags: [.dynamic, .timeout], timeout: 60,
                    size: 65_535)
                output.add(set: set)
                return Rule(
                    [
                        .element(
                            .update, field(family, direction.field), set: set.name, timeout: nil, each: .limit(limit)),
                        .counter(name), .verdict(.drop),
                    ], comment: comment)
            }
        }
    }
}
