import PluginKit

/// `firewall:` of a site document.
public struct FirewallConfiguration: Sendable {
    enum Action: String, CaseIterable { case accept, drop, reject }

    /// What a rule's packets are to.
    enum Place: Hashable {
        case any
        /// The box itself.
        case box
        case zone(String)
    }

    enum Transport: String, CaseIterable { case tcp, udp, icmp, any = "tcp-and-udp", gre, esp }

    struct Policy {
        var from: Located<String>
        var to: Located<String>
        var action: Action
    }

    struct Rule {
        var name: String
        var from: Located<Place>
        var to: Located<Place>
        var transport: Transport?
        var ports: [ClosedRange<Int>]
        var sources: [IPPrefix]
        var destinations: [IPPrefix]
        var action: Action
        var isLogged: Bool
        /// Seconds since 1970 from which on it is none any more.
        var until: Int?
    }

    var policies: [Located<Policy>]
    var rules: [Located<Rule>]
    var preventsSpoofing: Bool
    /// Packets that no rule takes are noted in the log, at most so many a second.
    var logsDrops: Bool
}

extension FirewallConfiguration {
    static var shape: Shape<FirewallConfiguration> {
        .mapping("the firewall") { fields in
            let policies = fields.optional("policies", .list(of: policy.located)) ?? []
            let rules = fields.optional("rules", .list(of: rule.located)) ?? []
            let preventsSpoofing = fields.optional("anti-spoofing", .boolean) ?? true
            let logsDrops = fields.optional("log-drops", .boolean) ?? false
            fields.problems.checkUnique(rules, "rule") { $0.name }
            fields.problems.checkUnique(policies, "policy") { "\($0.from.value) to \($0.to.value)" }
            return FirewallConfiguration(
                policies: policies, rules: rules, preventsSpoofing: preventsSpoofing, logsDrops: logsDrops)
        }
    }

    private static var action: Shape<Action> {
        Shape.oneOf(Action.allCases.map(\.rawValue)).map { Action(rawValue: $0) }
    }

    private static var policy: Shape<Policy> {
        .mapping("a policy") { fields in
            let from = fields.required("from", Shape.name.located)
            let to = fields.required("to", Shape.name.located)
            let action = fields.required("action", Self.action)
            guard let from, let to, let action else { return nil }
            return Policy(from: from, to: to, action: action)
        }
    }

    private static func place(box: Bool) -> Shape<Place> {
        Shape.name.map(box ? "a zone, box or any" : "a zone or any") { text in
            text == "any" ? .any : text == "box" ? (box ? .box : nil) : .zone(text)
        }
    }

    private static var rule: Shape<Rule> {
        // Made once, and not for each of ten thousand rules.
        let (nameShape, source, destination) = (Shape.name, place(box: false).located, place(box: true).located)
        let protocolShape = Shape.oneOf(Transport.allCases.map(\.rawValue)).map { Transport(rawValue: $0) }
        let (portList, networks, actionShape) = (
            Shape.list(of: Shape.ports), Shape.list(of: Shape<IPPrefix>.network), action
        )
        return .mapping("a rule") { fields in
            let name = fields.required("name", nameShape)
            let from = fields.required("from", source)
            let to = fields.required("to", destination)
            let transport = fields.optional("protocol", protocolShape)
            let ports = fields.optional("ports", portList) ?? []
            let sources = fields.optional("source", networks) ?? []
            let destinations = fields.optional("destination", networks) ?? []
            let action = fields.required("action", actionShape)
            let isLogged = fields.optional("log", .boolean) ?? false
            let until = fields.optional("until", .time)
            if !ports.isEmpty, ![.tcp, .udp, .any].contains(transport) {
                fields.problems.add(
                    fields.node["ports"]?.value ?? fields.node, fields.path + ".ports",
                    "ports without a protocol that has ports", hint: "protocol: tcp, udp or tcp-and-udp")
            }
            let families = (Set(sources.map(\.family)), Set(destinations.map(\.family)))
            if !families.0.isEmpty, !families.1.isEmpty, families.0.isDisjoint(with: families.1) {
                fields.problems.add(
                    fields.node, fields.path, "its sources are of one family and its destinations of the other",
                    hint: "no packet is both; give addresses of the same family")
            }
            guard let name, let from, let to, let action else { return nil }
            return Rule(
                name: name, from: from, to: to, transport: transport, ports: ports, sources: sources,
                destinations: destinations, action: action, isLogged: isLogged, until: until)
        }
    }
}
