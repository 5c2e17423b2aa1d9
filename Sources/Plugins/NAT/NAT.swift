import PluginKit

/// `nat:` of a site document.
public struct NATConfiguration: Sendable {
    struct Masquerade {
        var from: Located<String>
        var to: Located<String>
    }

    struct Forward {
        enum Transport: String, CaseIterable { case tcp, udp }

        var name: String
        /// Where the clients come from.
        var from: Located<String>
        var transport: Transport
        var ports: ClosedRange<Int>
        var to: Located<IPAddress>
        /// The first port at the host; nil for the same.
        var toPort: Int?
    }

    var masquerade: [Located<Masquerade>]
    var forwards: [Located<Forward>]
}

extension NATConfiguration {
    static var shape: Shape<NATConfiguration> {
        .mapping("address translation") { fields in
            let masquerade = fields.optional("masquerade", .list(of: Self.masquerade.located)) ?? []
            let forwards = fields.optional("forwards", .list(of: forward.located)) ?? []
            fields.problems.checkUnique(forwards, "forward") { $0.name }
            fields.problems.checkUnique(masquerade, "masquerade") { "\($0.from.value) to \($0.to.value)" }
            checkPorts(forwards, fields.problems)
            return NATConfiguration(masquerade: masquerade, forwards: forwards)
        }
    }

    private static func checkPorts(_ forwards: [Located<Forward>], _ problems: ProblemList) {
        for (i, forward) in forwards.enumerated() {
            let other = forwards[..<i].first {
                $0.value.from.value == forward.value.from.value && $0.value.transport == forward.value.transport
                    && $0.value.ports.overlaps(forward.value.ports)
            }
            if let other {
                problems.add(
                    forward.problem(
                        "its ports are forwarded by \"\(other.value.name)\" already", hint: "give other ports"))
            }
        }
    }

    private static var masquerade: Shape<Masquerade> {
        .mapping("whose packets are masqueraded") { fields in
            let from = fields.required("from", Shape.name.located)
            let to = fields.required("to", Shape.name.located)
            guard let from, let to else { return nil }
            return Masquerade(from: from, to: to)
        }
    }

    private static var forward: Shape<Forward> {
        .mapping("a port forward") { fields in
            let name = fields.required("name", .name)
            let from = fields.required("from", Shape.name.located)
            let transport = fields.required(
                "protocol",
                Shape.oneOf(Forward.Transport.allCases.map(\.rawValue)).map { Forward.Transport(rawValue: $0) })
            let ports = fields.required("ports", .ports)
            let host = Shape.ipAddress.map("the IPv4 address of a host") { $0.family == .ipv4 ? $0 : nil }
            let to = fields.required("to", host.located)
            let toPort = fields.optional("to-port", .integer(1...65535))
            guard let name, let from, let transport, let ports, let to else { return nil }
            if let toPort, toPort + ports.count - 1 > 65535 {
                fields.problems.add(
                    fields.node, fields.path + ".to-port", "\(ports.count) ports from \(toPort) on end beyond 65535")
            }
            // The kernel maps a range to a range port by port only when nothing is moved.
            if let toPort, ports.count > 1, toPort != ports.lowerBound {
                fields.problems.add(
                    fields.node, fields.path + ".to-port", "a range of ports can't be moved to other ports",
                    hint: "leave to-port out, or forward ports one by one")
            }
            return Forward(name: name, from: from, transport: transport, ports: ports, to: to, toPort: toPort)
        }
    }
}

/// Masquerade and port forwards, IPv4.
public enum NAT: Plugin {
    public static let manifest = PluginManifest(
        name: "nat", version: "0.1.0", summary: "Masquerade and port forwards, IPv4", key: "nat",
        yang: "vcpe-nat.yang", publishes: [], resources: ["nftables"],
        features: [.init("base", modules: ["nft_chain_nat", "nft_nat", "nft_masq", "nft_fib_ipv4", "nf_nat"])])

    public static var configuration: Shape<NATConfiguration> { NATConfiguration.shape }

    public static func publish(_ configuration: NATConfiguration, facts: Facts, into output: inout PublishOutput) {}

    public static func plan(_ configuration: NATConfiguration, input: PlanInput, into output: inout PlanOutput) {
        var (dnat, through, snat): ([Rule], [Rule], [Rule]) = ([], [], [])
        for forward in configuration.forwards {
            plan(forward, input.published, &dnat, &through, &snat, &output)
        }
        for masquerade in configuration.masquerade {
            let from = output.zone(masquerade.value.from.value, at: masquerade.value.from.path, in: input.published)
            let to = output.zone(masquerade.value.to.value, at: masquerade.value.to.path, in: input.published)
            guard let from, let to else { continue }
            snat.append(
                Rule(
                    [
                        .match(.meta(.nfproto), .equal, .text("ipv4")),
                        .match(.meta(.interface), .equal, .named(from.set)),
                        .match(.meta(.outputInterface), .equal, .named(to.set)), .masquerade,
                    ], comment: "nat: \(masquerade.path) \(from.name) to \(to.name)"))
        }
        output.add(.chain(Chain("nat.dnat", rules: dnat), stage: .init(.dnat, order: 100)))
        // Behind the firewall's rules, which may refuse what is forwarded, and before its policies.
        output.add(.chain(Chain("nat.forward", rules: through), stage: .init(.forward, order: 200)))
        output.add(.chain(Chain("nat.snat", rules: snat), stage: .init(.snat, order: 100)))
    }

    private static func plan(
        _ forward: Located<NATConfiguration.Forward>, _ published: Published, _ dnat: inout [Rule],
        _ through: inout [Rule], _ snat: inout [Rule], _ output: inout PlanOutput
    ) {
        let value = forward.value
        guard let from = output.zone(value.from.value, at: value.from.path, in: published) else { return }
        let home = published.interfaces.values.sorted { $0.name < $1.name }.first { interface in
            interface.addresses.contains { $0.contains(value.to.value) }
        }
        guard let home else {
            output.say(
                .error, path: value.to.path, "\(value.to.value) is in no network of an interface",
                hint: "forward to a host of a network that the box has an address in")
            return
        }
        let comment = "nat: forwards[\(value.name)]"
        let counter = "nat.forward.\(value.name)"
        output.add(.counter(NamedCounter(counter, comment: comment)))
        let header: Selector.Header = value.transport == .tcp ? .tcp : .udp
        func ports(_ range: ClosedRange<Int>) -> Expression {
            range.count == 1 ? .number(range.lowerBound) : .range(.number(range.lowerBound), .number(range.upperBound))
        }
        let target = value.toPort ?? value.ports.lowerBound
        let arrives: [Statement] = [
            .match(.payload(header, "dport"), .equal, ports(value.ports)), .counter(counter),
            .nat(
                .dnat, .ip, address: .text(value.to.value.description),
                port: value.ports.count == 1 ? .number(target) : nil),
        ]
        let isIPv4: Statement = .match(.meta(.nfproto), .equal, .text("ipv4"))
        dnat.append(
            Rule(
                [
                    isIPv4, .match(.meta(.interface), .equal, .named(from.set)),
                    .match(.selector(.fib([.daddr], .kind)), .equal, .text("local")),
                ] + arrives, comment: comment))
        // Hairpin: a host of the same network that asks for the outside address is answered like anybody, and its
        // answers come back through the box. The outside has none before a lease has come.
        let outside = published.interfaces.values.filter { $0.zone == from.name && $0.name != home.name }
            .flatMap(\.addresses).filter { $0.family == .ipv4 }.map(\.address).sorted()
        if !outside.isEmpty {
            dnat.append(
                Rule(
                    [
                        .match(.meta(.interface), .equal, .text(home.name)),
                        .match(.payload(.ip, "daddr"), .equal, .set(outside.map { .text($0.description) })),
                    ] + arrives, comment: comment + " (hairpin)"))
        }
        let arrived: [Statement] = [
            .match(.ct(.status), .any, .text("dnat")),
            .match(.payload(.ip, "daddr"), .equal, .text(value.to.value.description)),
            .match(.payload(header, "dport"), .equal, ports(target...target + value.ports.count - 1)),
        ]
        through.append(Rule(arrived + [.verdict(.accept)], comment: comment))
        snat.append(
            Rule(
                [
                    .match(.meta(.interface), .equal, .text(home.name)),
                    .match(.meta(.outputInterface), .equal, .text(home.name)),
                ] + arrived + [.masquerade], comment: comment + " (hairpin)"))
    }
}
