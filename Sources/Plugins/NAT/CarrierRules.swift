import PluginKit

/// What a carrier-grade translation is in the kernel: a map of blocks, two maps that packets fill, and limits.
extension CarrierGrade {
    /// Seconds that mappings stay after their last packet from inside: RFC 4787, REQ-5; RFC 5382, REQ-5.
    private static let (udp, transitory, established) = (300, 240, 7440)
    private static let mappings = 1 << 20

    private var prefix: String { "nat.carrier.\(name)" }

    /// A mapping's key, inside or outside.
    private static func endpoint(_ address: Expression, _ port: Expression) -> Expression {
        .concatenation([address, port, .meta(.l4proto)])
    }

    private static func tuple(_ direction: Selector.Direction, _ field: Selector.TupleField) -> Expression {
        .selector(.tuple(direction, field))
    }

    func plan(
        _ published: Published, comment: String, _ rules: inout NATRules, _ output: inout PlanOutput
    ) {
        let from = output.zone(self.from.value, at: self.from.path, in: published)
        let to = output.zone(self.to.value, at: self.to.path, in: published)
        guard let from, let to else { return }
        output.rememberConnections()
        output.add(
            SysctlResource(key: "net/netfilter/nf_conntrack_tcp_timeout_established", value: "\(Self.established)"))
        let isSubscriber = { (field: String) in
            Statement.match(.payload(.ip, field), .equal, Self.ranges(self.subscribers))
        }
        let comesFrom = Statement.match(.meta(.interface), .equal, .named(from.set))
        let hasPorts = Statement.match(.meta(.l4proto), .equal, .set([.text("tcp"), .text("udp")]))
        planMaps(&output)
        func counter(_ what: String) -> Statement {
            output.add(.counter(NamedCounter("\(prefix).\(what)", comment: comment)))
            return .counter("\(prefix).\(what)")
        }

        // Out: by the mapping that there is, or with a port of the block. Also to other subscribers' outside (RFC 6888 by RFC
        // 4787, REQ-9).
        let translation = Chain(
            "\(prefix).source",
            rules: [
                Rule(
                    [
                        hasPorts,
                        .nat(
                            .snat, .ip,
                            address: .map(
                                Self.endpoint(.payload(.ip, "saddr"), .payload(.th, "sport")), "\(prefix).inside"),
                            port: nil),
                    ], comment: comment),
                Rule(
                    [.nat(.snat, .ip, address: .map(.payload(.ip, "saddr"), "\(prefix).blocks"), port: nil)],
                    comment: comment),
            ])
        output.add(.chain(translation, stage: nil))
        let hairpin = Statement.match(.ct(.status), .any, .text("dnat"))
        for way in [
            [.match(.meta(.outputInterface), .equal, .named(to.set))],
            [
                .match(.meta(.outputInterface), .equal, .named(from.set)), hairpin,
            ],
        ] {
            rules.add(
                source: Rule(
                    [comesFrom] + way + [isSubscriber("saddr"), .verdict(.jump(translation.name))], comment: comment))
        }

        // In: whoever comes to a mapping's address outside.
        if filtering == .endpointIndependent {
            rules.add(
                destination: Rule(
                    [
                        hasPorts, .match(.payload(.ip, "daddr"), .equal, Self.ranges(pool)),
                        .nat(
                            .dnat, .ip,
                            address: .map(
                                Self.endpoint(.payload(.ip, "daddr"), .payload(.th, "dport")), "\(prefix).outside"),
                            port: nil),
                    ], comment: comment))
            rules.add(
                through: Rule(
                    [
                        .match(.meta(.outputInterface), .equal, .named(from.set)), hairpin, isSubscriber("daddr"),
                        // By a mapping of this one, and not by what others forward.
                        .match(Self.tuple(.original, .destination4), .equal, Self.ranges(pool)),
                        counter("inbound"), .verdict(.accept),
                    ], comment: comment))
        }
        planSlowPath(
            comesFrom, .match(.meta(.outputInterface), .equal, .named(from.set)), isSubscriber, comment, &output)
        planMappings(comesFrom, hasPorts, comment, counter("collisions"), counter("mappings"), &output)
        planLimits(comesFrom, isSubscriber("saddr"), comment, counter("refused"), &output)
    }

    /// Mappings stay as long as packets are seen: those of subscribers don't go the fast way.
    private func planSlowPath(
        _ comes: Statement, _ goes: Statement, _ isSubscriber: (String) -> Statement, _ comment: String,
        _ output: inout PlanOutput
    ) {
        let isEstablished = Statement.match(.ct(.state), .any, .text("established"))
        output.add(
            .chain(
                Chain(
                    "\(prefix).slow",
                    rules: [
                        Rule([comes, isSubscriber("saddr"), isEstablished, .verdict(.accept)], comment: comment),
                        Rule([goes, isSubscriber("daddr"), isEstablished, .verdict(.accept)], comment: comment),
                    ]), stage: .init(.noOffload, order: 100)))
    }

    private static func ranges(_ list: [Located<IPRange>]) -> Expression {
        // Neither list is empty.
        .any(of: list.map(\.value), .ipv4) ?? .set([])
    }

    private func planMaps(_ output: inout PlanOutput) {
        var elements: [SetElement] = []
        for place in 0..<count(subscribers) {
            guard let subscriber = Self.address(place, of: subscribers), let (address, ports) = block(at: place) else {
                continue
            }
            elements.append(
                SetElement(
                    .text(subscriber.description),
                    .data(
                        .concatenation([
                            .text(address.description),
                            .range(.number(ports.lowerBound), .number(ports.upperBound)),
                        ]))))
        }
        output.add(
            set: NamedSet(
                "\(prefix).blocks", key: [.ipv4Address], content: .ranges([.ipv4Address, .service]), elements: elements)
        )
        for side in ["inside", "outside"] {
            output.add(
                set: NamedSet(
                    "\(prefix).\(side)", key: [.ipv4Address, .service, .protocolNumber],
                    content: .values([.ipv4Address, .service]), flags: [.dynamic, .timeout], timeout: Self.udp,
                    size: Self.mappings))
        }
    }

    /// What is known of mappings, once a packet's translation is settled.
    private func planMappings(
        _ comesFrom: Statement, _ hasPorts: Statement, _ comment: String, _ collisions: Statement,
        _ made: Statement, _ output: inout PlanOutput
    ) {
        /// Both ways of a mapping, for as long as its connection is likely to need it.
        func keep(_ inside: (Expression, Expression), _ outside: (Expression, Expression)) -> [Rule] {
            func both(_ timeout: Int) -> [Statement] {
                [
                    .mapElement(
                        .update, Self.endpoint(outside.0, outside.1), .concatenation([inside.0, inside.1]),
                        map: "\(prefix).outside", timeout: timeout),
                    .mapElement(
                        .update, Self.endpoint(inside.0, inside.1), .concatenation([outside.0, outside.1]),
                        map: "\(prefix).inside", timeout: timeout),
                    .verdict(.return),
                ]
            }
            let isTCP = Statement.match(.meta(.l4proto), .equal, .text("tcp"))
            return [
                // Connection tracking keeps an established one long, and one that ends as short as it may.
                Rule(
                    [isTCP, .match(.ct(.expiration), .greater, .number(3600))] + both(Self.established),
                    comment: comment),
                Rule([isTCP] + both(Self.transitory), comment: comment),
                Rule(both(Self.udp), comment: comment),
            ]
        }
        let (original, reply) = (
            (
                inside: (Self.tuple(.original, .source4), Self.tuple(.original, .sourcePort)),
                outside: (Self.tuple(.reply, .destination4), Self.tuple(.reply, .port))
            ),
            (
                inside: (Self.tuple(.reply, .source4), Self.tuple(.reply, .sourcePort)),
                outside: (Self.tuple(.original, .destination4), Self.tuple(.original, .port))
            )
        )
        // A subscriber's packets, also those that answer somebody who came by a mapping.
        let keeping = Chain("\(prefix).keep", rules: keep(original.inside, original.outside))
        let answering = Chain("\(prefix).answer", rules: keep(reply.inside, reply.outside))
        func isKnown(_ endpoint: (Expression, Expression), _ side: String) -> Statement {
            .match(
                .map(Self.endpoint(endpoint.0, endpoint.1), "\(prefix).\(side)"), .notEqual,
                .concatenation([.text("0.0.0.0"), .number(0)]))
        }
        // The kernel may give a port that another mapping has, for another destination: two of the subscriber's sockets would
        // be one outside (RFC 4787, REQ-3). It is tried again with the next packet.
        let new = Chain(
            "\(prefix).new",
            rules: [
                Rule([isKnown(original.inside, "inside"), .verdict(.goto(keeping.name))], comment: comment),
                Rule([isKnown(original.outside, "outside"), collisions, .verdict(.drop)], comment: comment),
                Rule([made, .verdict(.goto(keeping.name))], comment: comment),
            ])
        for chain in [keeping, answering, new] { output.add(.chain(chain, stage: nil)) }
        let pool = Self.ranges(pool)
        output.add(
            .chain(
                Chain(
                    "\(prefix).translated",
                    rules: [
                        Rule(
                            [
                                comesFrom, hasPorts, .match(.ct(.direction), .equal, .text("original")),
                                .match(.payload(.ip, "saddr"), .equal, pool),
                                .match(.ct(.state), .any, .text("new")), .verdict(.goto(new.name)),
                            ], comment: comment),
                        Rule(
                            [
                                comesFrom, hasPorts, .match(.ct(.direction), .equal, .text("original")),
                                .match(.payload(.ip, "saddr"), .equal, pool), .verdict(.goto(keeping.name)),
                            ], comment: comment),
                        Rule(
                            [
                                comesFrom, hasPorts, .match(.ct(.direction), .equal, .text("reply")),
                                .match(.payload(.ip, "saddr"), .equal, pool), .verdict(.goto(answering.name)),
                            ], comment: comment),
                    ]), stage: .init(.translated, order: 100)))
    }

    /// No subscriber takes what others need, and whoever gets nothing is told so (RFC 6888, REQ-4, REQ-5, REQ-11).
    private func planLimits(
        _ comesFrom: Statement, _ isSubscriber: Statement, _ comment: String, _ refused: Statement,
        _ output: inout PlanOutput
    ) {
        var rules: [Rule] = []
        func refuse(_ each: Statement.Each, _ what: String, _ operation: Statement.SetOperation, _ set: NamedSet) {
            output.add(set: set)
            rules.append(
                Rule(
                    [
                        comesFrom, .match(.ct(.state), .any, .text("new")), isSubscriber,
                        .element(operation, .payload(.ip, "saddr"), set: set.name, timeout: nil, each: each), refused,
                        .reject(.icmpx("host-unreachable")),
                    ], comment: comment))
        }
        if var rate {
            rate.isOver = true
            refuse(
                .limit(rate), "rate", .update,
                NamedSet(
                    "\(prefix).rate", key: [.ipv4Address], flags: [.dynamic, .timeout], timeout: 60,
                    size: Self.mostSubscribers))
        }
        refuse(
            .connections(over: connections ?? blockSize), "count", .add,
            NamedSet("\(prefix).count", key: [.ipv4Address], flags: [.dynamic], size: Self.mostSubscribers))
        output.add(.chain(Chain("\(prefix).limits", rules: rules), stage: .init(.forwardGuard, order: 200)))
    }
}
