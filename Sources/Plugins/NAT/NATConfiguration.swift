import PluginKit

/// `nat:` of a site document.
public struct NATConfiguration: Sendable {
    struct Masquerade {
        var from: Located<String>
        var to: Located<String>
    }

    /// What becomes of sources between two zones.
    struct SourceRule {
        enum Translation: Hashable {
            /// The outgoing interface's address.
            case masquerade
            /// The packets stay as they are.
            case none
            /// One of these, the same for all that a source talks to.
            case pool(IPRange)
        }

        var name: String
        var from: Located<String>
        var to: Located<String>
        var sources: [IPRange]
        var destinations: [IPRange]
        var translation: Located<Translation>
    }

    /// Addresses outside that stand for as many inside.
    struct OneToOne {
        var name: String
        /// The zone that the addresses outside are seen from.
        var zone: Located<String>
        var outside: Located<IPPrefix>
        var inside: Located<IPPrefix>
    }

    struct Forward {
        enum Transport: String, CaseIterable { case tcp, udp, both = "tcp-and-udp" }

        var name: String
        /// Where the clients come from.
        var from: Located<String>
        /// That they ask for; nil for any of the box's own.
        var outside: IPAddress?
        /// Whom it is for; none for all.
        var sources: [IPRange]
        var transport: Transport
        var ports: ClosedRange<Int>
        var to: Located<IPAddress>
        /// The first port at the host; nil for the same.
        var toPort: Int?
    }

    var masquerade: [Located<Masquerade>]
    var sourceRules: [Located<SourceRule>]
    var oneToOne: [Located<OneToOne>]
    var forwards: [Located<Forward>]
    var carriers: [Located<CarrierGrade>]
}

extension NATConfiguration {
    static var shape: Shape<NATConfiguration> {
        .mapping("address translation") { fields in
            let masquerade = fields.optional("masquerade", .list(of: Self.masquerade.located)) ?? []
            let sourceRules = fields.optional("source", .list(of: sourceRule.located)) ?? []
            let oneToOne = fields.optional("one-to-one", .list(of: Self.oneToOne.located)) ?? []
            let forwards = fields.optional("forwards", .list(of: forward.located)) ?? []
            let carriers = fields.optional("carrier-grade", .list(of: CarrierGrade.shape.located)) ?? []
            fields.problems.checkUnique(carriers, "carrier-grade translation") { $0.name }
            fields.problems.checkUnique(forwards, "forward") { $0.name }
            fields.problems.checkUnique(sourceRules, "source rule") { $0.name }
            fields.problems.checkUnique(oneToOne, "one-to-one mapping") { $0.name }
            fields.problems.checkUnique(masquerade, "masquerade") { "\($0.from.value) to \($0.to.value)" }
            checkPorts(forwards, fields.problems)
            checkAddresses(sourceRules, oneToOne, carriers, fields.problems)
            return NATConfiguration(
                masquerade: masquerade, sourceRules: sourceRules, oneToOne: oneToOne, forwards: forwards,
                carriers: carriers)
        }
    }

    private static func checkPorts(_ forwards: [Located<Forward>], _ problems: ProblemList) {
        for (i, forward) in forwards.enumerated() {
            let other = forwards[..<i].first {
                $0.value.from.value == forward.value.from.value
                    && $0.value.to.value.family == forward.value.to.value.family
                    && ($0.value.transport == forward.value.transport || $0.value.transport == .both
                        || forward.value.transport == .both)
                    && ($0.value.outside == nil || $0.value.outside == forward.value.outside)
                    && ($0.value.sources.isEmpty || $0.value.sources == forward.value.sources)
                    && $0.value.ports.overlaps(forward.value.ports)
            }
            if let other {
                problems.add(
                    forward.problem(
                        "its ports are forwarded by \"\(other.value.name)\" (\(other.path)) already",
                        hint: "give other ports, or another outside address"))
            }
        }
    }

    /// An address outside is somebody's alone: of one pool, which several rules may share, or of one mapping.
    private static func checkAddresses(
        _ rules: [Located<SourceRule>], _ mappings: [Located<OneToOne>], _ carriers: [Located<CarrierGrade>],
        _ problems: ProblemList
    ) {
        var known: [(what: String, path: String, range: IPRange, isPool: Bool)] = []
        func add<Value>(_ what: String, _ place: Located<Value>, _ range: IPRange, isPool: Bool) {
            let other = known.first {
                $0.range.family == range.family && $0.range.values.overlaps(range.values)
                    && !(isPool && $0.isPool && $0.range == range)
            }
            if let other {
                problems.add(
                    place.problem(
                        "\(range) overlaps \(other.range) of \(other.what) (\(other.path))",
                        hint: isPool && other.isPool ? "give the same pool, or one apart" : "give addresses of its own")
                )
            }
            known.append((what, place.path, range, isPool))
        }
        for mapping in mappings {
            let outside = mapping.value.outside
            guard let range = IPRange(outside.value.description) else { continue }
            add("the mapping \"\(mapping.value.name)\"", outside, range, isPool: false)
        }
        for rule in rules {
            guard case .pool(let range) = rule.value.translation.value else { continue }
            add("the rule \"\(rule.value.name)\"", rule.value.translation, range, isPool: true)
        }
        for carrier in carriers {
            for range in carrier.value.pool {
                add("the carrier-grade translation \"\(carrier.value.name)\"", range, range.value, isPool: false)
            }
        }
        for (i, carrier) in carriers.enumerated() {
            for subscribers in carrier.value.subscribers {
                let other = carriers[..<i].lazy.flatMap(\.value.subscribers).first {
                    $0.value.values.overlaps(subscribers.value.values)
                }
                guard let other else { continue }
                problems.add(
                    subscribers.problem(
                        "\(subscribers.value) overlaps \(other.value) (\(other.path))",
                        hint: "a subscriber belongs to one translation"))
            }
        }
        for (i, mapping) in mappings.enumerated() {
            let other = mappings[..<i].first {
                $0.value.inside.value.overlaps(mapping.value.inside.value)
                    && $0.value.zone.value == mapping.value.zone.value
                    && $0.value.inside.value.family == mapping.value.inside.value.family
            }
            if let other {
                problems.add(
                    mapping.value.inside.problem(
                        "\(mapping.value.inside.value) overlaps \(other.value.inside.value) of the mapping "
                            + "\"\(other.value.name)\" (\(other.value.inside.path))",
                        hint: "map each host once"))
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

    private static var sourceRule: Shape<SourceRule> {
        let translation = Shape<SourceRule.Translation>.scalar(
            "masquerade, none, or a pool: an address, a network or a range"
        ) { scalar in
            switch scalar.text {
            case "masquerade": .masquerade
            case "none": SourceRule.Translation.none
            default: IPRange(scalar.text).map { .pool($0) }
            }
        }
        return .mapping("a rule for sources") { fields in
            let name = fields.required("name", .name)
            let from = fields.required("from", Shape.name.located)
            let to = fields.required("to", Shape.name.located)
            let sources = fields.optional("source", .list(of: .addresses)) ?? []
            let destinations = fields.optional("destination", .list(of: .addresses)) ?? []
            let translate = fields.required("translate", translation.located)
            fields.refuseEmptyLists(["source", "destination"])
            guard let name, let from, let to, let translate else { return nil }
            let rule = SourceRule(
                name: name, from: from, to: to, sources: sources, destinations: destinations, translation: translate)
            if rule.families.isEmpty {
                fields.problems.add(
                    fields.node, fields.path, "its sources, destinations and pool are not of one family",
                    hint: "no packet is both; give addresses of the same family")
            }
            return rule
        }
    }

    private static var oneToOne: Shape<OneToOne> {
        .mapping("a one-to-one mapping") { fields in
            let name = fields.required("name", .name)
            let zone = fields.required("zone", Shape.name.located)
            let outside = fields.required("outside", Shape<IPPrefix>.network.located)
            let inside = fields.required("inside", Shape<IPPrefix>.network.located)
            guard let name, let zone, let outside, let inside else { return nil }
            if outside.value.family != inside.value.family || outside.value.length != inside.value.length {
                fields.problems.add(
                    inside.problem(
                        "\(inside.value) is not as large as \(outside.value)",
                        hint: "give an address for an address, and networks of one length and family"))
            }
            return OneToOne(name: name, zone: zone, outside: outside, inside: inside)
        }
    }

    private static var forward: Shape<Forward> {
        .mapping("a port forward") { fields in
            let name = fields.required("name", .name)
            let from = fields.required("from", Shape.name.located)
            let outside = fields.optional("outside", Shape<IPAddress>.ipAddress.located)
            let sources = fields.optional("source", Shape.list(of: Shape<IPRange>.addresses.located)) ?? []
            let transport = fields.required(
                "protocol",
                Shape.oneOf(Forward.Transport.allCases.map(\.rawValue)).map { Forward.Transport(rawValue: $0) })
            let ports = fields.required("ports", .ports)
            let to = fields.required("to", Shape<IPAddress>.ipAddress.located)
            let toPort = fields.optional("to-port", .integer(1...65535))
            fields.refuseEmptyLists(["source"])
            guard let name, let from, let transport, let ports, let to else { return nil }
            if let outside, outside.value.family != to.value.family {
                fields.problems.add(
                    outside.problem(
                        "\(outside.value) and \(to.value) are not of one family", hint: "give one as the other"))
            }
            for source in sources where source.value.family != to.value.family {
                fields.problems.add(
                    source.problem("\(source.value) and \(to.value) are not of one family", hint: "leave it out"))
            }
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
            return Forward(
                name: name, from: from, outside: outside?.value, sources: sources.map(\.value), transport: transport,
                ports: ports, to: to, toPort: toPort)
        }
    }
}

extension NATConfiguration.SourceRule {
    /// Those that its packets may be of: IPv4 where nothing says otherwise, since IPv6 is not translated unasked.
    var families: [IPAddress.Family] {
        var wanted = Set(IPAddress.Family.allCases)
        for list in [sources, destinations] where !list.isEmpty { wanted.formIntersection(list.map(\.family)) }
        if case .pool(let range) = translation.value { wanted.formIntersection([range.family]) }
        if sources.isEmpty, destinations.isEmpty, wanted.count == 2 { wanted = [.ipv4] }
        return IPAddress.Family.allCases.filter(wanted.contains)
    }
}
