import PluginKit

extension NetworkConfiguration {
    /// The one key of an interface that says what it is. What cannot be read is noted, and taken for a
    /// dummy: other interfaces may name it.
    static func link(_ fields: inout Fields) -> Link {
        let port = fields.optional("port", Self.port.located)
        let bridge = fields.optional("bridge-ports", .list(of: Self.port.located))
        let bond = fields.optional("bond", Self.bond)
        let vlan = fields.optional("vlan", Self.vlan)
        let dummy = fields.optional("dummy", .boolean)
        let keys = ["port", "bridge-ports", "bond", "vlan", "dummy"]
        let given = keys.filter { fields.has($0) }
        if given.count != 1 || dummy == false {
            fields.problems.add(
                fields.node, fields.path,
                given.isEmpty || dummy == false
                    ? "it has no link" : "\(given.joined(separator: " and ")) together",
                hint: "give exactly one of \(keys.dropLast().joined(separator: ", ")) and dummy: true")
        }
        if let port { return .port(port) }
        if let bridge { return .bridge(bridge) }
        return bond ?? vlan.map { .vlan($0) } ?? .dummy
    }

    private static var bond: Shape<Link> {
        .mapping("a bond") { fields in
            let mode = fields.required(
                "mode", Shape.oneOf(BondLink.Mode.allCases.map(\.rawValue)).map { BondLink.Mode(rawValue: $0) })
            let ports = fields.required("ports", Shape.list(of: Self.port.located))
            let hash = fields.optional(
                "hash", Shape.oneOf(BondLink.Hash.allCases.map(\.rawValue)).map { BondLink.Hash(rawValue: $0) })
            let fast = fields.optional("fast-lacp", .boolean) ?? false
            if fast, let mode, mode != .lacp {
                fields.problems.add(
                    fields.node, fields.path + ".fast-lacp", "fast-lacp with the mode \(mode.rawValue)",
                    hint: "it is for the mode 802.3ad")
            }
            guard let mode, let ports else { return nil }
            return .bond(BondLink(mode, hash: hash ?? .layer2, isFastLACP: fast), ports: ports)
        }
    }

    private static var vlan: Shape<VLAN> {
        .mapping("a VLAN") { fields in
            let parent = fields.required("parent", Shape.text.located)
            let id = fields.required("id", .integer(BridgeVLANResource.identifiers))
            let tag = fields.optional(
                "tag", Shape.oneOf(VLANLink.Tag.allCases.map(\.rawValue)).map { VLANLink.Tag(rawValue: $0) })
            let priority = fields.optional("priority", .integer(0...7)) ?? 0
            guard let parent, let id else { return nil }
            return VLAN(parent: parent, id: id, tag: tag ?? .customer, priority: priority)
        }
    }

    /// Parents that are interfaces, no VLAN twice, and none within itself.
    static func checkVLANs(_ interfaces: [Located<Interface>], _ problems: ProblemList) {
        var vlans: [String: VLAN] = [:]
        for interface in interfaces.map(\.value) {
            if case .vlan(let vlan) = interface.link { vlans[interface.name] = vlan }
        }
        let names = interfaces.map(\.value.name)
        var seen: [String: String] = [:]
        for interface in interfaces {
            guard case .vlan(let vlan) = interface.value.link else { continue }
            guard names.contains(vlan.parent.value) else {
                let meant = didYouMean(vlan.parent.value, among: names).map { "did you mean \($0)? " } ?? ""
                problems.add(
                    vlan.parent.problem(
                        "there is no interface \"\(vlan.parent.value)\"",
                        hint: meant + "interfaces are \(names.sorted().joined(separator: ", "))"))
                continue
            }
            let key = "\(vlan.parent.value) \(vlan.id) \(vlan.tag.rawValue)"
            if let other = seen[key] {
                problems.add(
                    interface.problem(
                        "VLAN \(vlan.id) of \(vlan.parent.value) is \(other) already",
                        hint: "give one of them another id, or another parent"))
            }
            seen[key] = seen[key] ?? interface.value.name
            var (parent, depth) = (vlan.parent.value, 1)
            while let next = vlans[parent], parent != interface.value.name, depth <= mostNested {
                (parent, depth) = (next.parent.value, depth + 1)
            }
            if parent == interface.value.name {
                problems.add(vlan.parent.problem("\(parent) carries itself", hint: "give it another parent"))
            } else if depth > mostNested {
                problems.add(
                    vlan.parent.problem("it has more than \(mostNested) tags", hint: "the kernel nests no more links"))
            }
        }
    }

    /// MAX_NEST_DEV (linux/netdevice.h) is 8, with the port.
    private static let mostNested = 7

    /// The MTU of each interface whose link must be told one: its own, or what the VLANs that it
    /// carries need.
    ///
    /// - Parameter conflict: called with a VLAN's own MTU and that of a parent that is smaller.
    func mtus(conflict: (_ vlan: Located<Int>, _ parent: Located<Int>) -> Void = { _, _ in }) -> [String: Int] {
        var carried: [String: [Interface]] = [:]
        for interface in interfaces.map(\.value) {
            if case .vlan(let vlan) = interface.link { carried[vlan.parent.value, default: []].append(interface) }
        }
        var wishes: [String: Located<Int>] = [:]
        /// Notes the largest wish of an interface and of all that it carries.
        func note(_ interface: Interface) {
            let above = carried[interface.name] ?? []
            for next in above { note(next) }
            let largest = above.compactMap { wishes[$0.name] }.max { $0.value < $1.value }
            guard let own = interface.mtu else {
                wishes[interface.name] = largest.flatMap { $0.value > MTURule.ethernet ? $0 : nil }
                return
            }
            if let largest, largest.value > own.value { conflict(largest, own) }
            wishes[interface.name] = own
        }
        var result: [String: Int] = [:]
        func descend(_ interface: Interface, within parent: Int?) {
            let own = wishes[interface.name]?.value
            // One that wishes nothing does not inherit what its neighbour needs.
            let mtu = own ?? parent.map { min($0, MTURule.ethernet) }
            result[interface.name] = mtu
            for next in carried[interface.name] ?? [] { descend(next, within: mtu) }
        }
        for interface in interfaces.map(\.value) {
            if case .vlan = interface.link { continue }
            note(interface)
            descend(interface, within: nil)
        }
        return result
    }
}

extension Network {
    /// - Returns: the interfaces that are there.
    static func planLinks(
        _ configuration: NetworkConfiguration, _ facts: Facts, _ output: inout PlanOutput
    ) -> Set<String> {
        var taken: [String: String] = [:]
        var present: Set<String> = []
        var conflicts: [(Located<Int>, Located<Int>)] = []
        let mtus = configuration.mtus { conflicts.append(($0, $1)) }
        for (vlan, parent) in conflicts {
            output.say(
                .error, path: vlan.path,
                "\(vlan.value) bytes do not fit into the \(parent.value) of the interface below (\(parent.path))",
                hint: "leave the MTU below out: it follows")
        }
        func add(_ located: Located<NetworkConfiguration.Interface>, _ module: String, _ type: some LinkType) {
            output.add(KernelModuleResource(module))
            output.add(
                LinkResource(name: located.value.name, type, mtu: mtus[located.value.name]), at: located.path)
            present.insert(located.value.name)
        }
        for located in configuration.interfaces {
            let interface = located.value
            var master: String? = interface.name
            switch interface.link {
            case .port: master = nil
            case .bridge: add(located, "bridge", BridgeLink())
            case .bond(let bond, _): add(located, "bonding", bond)
            case .dummy: add(located, "dummy", DummyLink())
            case .vlan: continue
            }
            for (number, selector) in interface.ports.enumerated() {
                guard let port = port(selector, facts, &taken, &output) else { continue }
                present.insert(interface.name)
                output.add(
                    LinkResource(
                        name: interface.portName(number), PortLink(path: port.path, mac: port.mac), master: master,
                        mtu: mtus[interface.name]), at: selector.path)
            }
        }
        // One after the other, each behind its parent.
        var waiting = configuration.interfaces
        while true {
            let (before, isWaiting) = (present, waiting)
            waiting = []
            for located in isWaiting {
                guard case .vlan(let vlan) = located.value.link else { continue }
                guard before.contains(vlan.parent.value) else {
                    waiting.append(located)
                    continue
                }
                let priorities = vlan.priority == 0 ? [] : (0...15).map { ($0, vlan.priority) }
                add(
                    located, "8021q",
                    VLANLink(
                        vlan.parent.value, id: vlan.id, tag: vlan.tag,
                        egress: Dictionary(priorities) { $1 }))
            }
            if present == before { return present }
        }
    }

    private static func port(
        _ selector: Located<NetworkConfiguration.PortSelector>, _ facts: Facts, _ taken: inout [String: String],
        _ output: inout PlanOutput
    ) -> Facts.Port? {
        let found = facts.ports.enumerated().filter { selector.value.matches($1, at: $0) }
        guard let port = found.first?.element else {
            let known = facts.ports.enumerated().map {
                "order \($0 + 1) (driver \($1.driver), path \($1.path.isEmpty ? "unknown" : $1.path), mac \($1.mac))"
            }
            output.say(
                .absent, path: selector.path, "no port of the box is that",
                hint: "ports are " + (known.isEmpty ? "none" : known.joined(separator: ", ")))
            return nil
        }
        if found.count > 1 {
            output.say(
                .error, path: selector.path, "\(found.count) ports of the box are that",
                hint: "by order, path or mac one is told from another")
            return nil
        }
        if let other = taken.updateValue(selector.path, forKey: port.mac.description + port.path) {
            output.say(.error, path: selector.path, "the port is taken already, by \(other)")
            return nil
        }
        return port
    }

    /// Where links have different MTUs, TCP's connections are told the smaller one (RFC 6691): a
    /// path that loses ICMP would keep their large segments from arriving (RFC 2923, section 2.1).
    ///
    /// The kernel takes the smaller of both ways' (`nft_rt.c`, get_tcpmss), and only ever lowers an
    /// option (`nft_exthdr.c`).
    static func planSegmentSizes(
        _ configuration: NetworkConfiguration, _ present: Set<String>, _ output: inout PlanOutput
    ) {
        let mtus = configuration.mtus()
        let used = configuration.interfaces.map(\.value).filter { $0.zone != nil && present.contains($0.name) }
        guard Set(used.map { mtus[$0.name] ?? MTURule.ethernet }).count > 1 else { return }
        let flags = Expression.list([.text("syn"), .text("rst")])
        output.add(
            .chain(
                Chain(
                    "network.segments",
                    rules: [
                        Rule([
                            .match(.and(.payload(.tcp, "flags"), flags), .equal, .text("syn")),
                            .mangle(.tcpOption(.maximumSegmentSize, .value), .selector(.routeMTU)),
                        ])
                    ]), stage: .init(.shape, order: 100)))
    }
}
