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

    struct Policy {
        var from: Located<Place>
        var to: Located<Place>
        var action: Action
    }

    /// Addresses, a set of them by its name, or a domain name.
    enum Addresses: Hashable {
        case range(IPRange)
        case set(String)
        case name(String)
    }

    /// Protocols that speak of connections to come, by the kernel's names.
    enum Helper: String, CaseIterable {
        case ftp, pptp, sip, tftp

        var transports: [String] {
            switch self {
            case .ftp, .pptp: ["tcp"]
            case .sip: ["tcp", "udp"]
            case .tftp: ["udp"]
            }
        }
    }

    enum FastPath: String, CaseIterable { case off, software, hardware }

    /// What holds for each address by itself.
    enum Each: String, CaseIterable { case source, destination }

    /// Connections at once of each address.
    struct Connections {
        var most: Int
        var each: Each
    }

    struct Rule {
        var name: String
        var isEnabled = true
        var from: Located<Place>
        var to: Located<Place>
        /// That packets come by.
        var interface: Located<String>?
        var sources: [Located<Addresses>]
        var destinations: [Located<Addresses>]
        /// Groups whose members are sources, or destinations, as well.
        var sourceGroups: [Located<String>]
        var destinationGroups: [Located<String>]
        var macs: [MACAddress]
        var services: [Service]
        var named: [Located<String>]
        var codePoints: [String]
        var action: Action
        var note: Logging.Note?
        /// Of connection tracking, for its connections.
        var helper: Helper?
        var rate: Statement.Limit?
        /// Nil for one rate for all.
        var rateEach: Each?
        var connections: Connections?
        var times: Times
    }

    var policies: [Located<Policy>]
    var rules: [Located<Rule>]
    var services: [Located<NamedService>]
    var sets: [Located<AddressSet>]
    var identities: Identities
    var protections: [Located<Protection>]
    var preventsSpoofing: Bool
    /// How established connections are forwarded without asking for rules.
    var fastPath: FastPath
    /// Packets that no rule takes are noted in the log, at most so many a second.
    var logsDrops: Bool
    var logging: Logging

    struct NamedService {
        var name: String
        var services: [Service]
    }

    struct AddressSet {
        var name: String
        var members: [IPRange]
        /// Domain names whose addresses are members too.
        var names: [String]
        /// Operators fill it, beside its members.
        var isFed: Bool

        var feed: String { "firewall.set.\(name)" }
    }
}

extension FirewallConfiguration {
    static var shape: Shape<FirewallConfiguration> {
        .mapping("the firewall") { fields in
            let policies = fields.optional("policies", .list(of: policy.located)) ?? []
            let rules = fields.optional("rules", .list(of: rule.located)) ?? []
            let services = fields.optional("services", .list(of: namedService.located)) ?? []
            let sets = fields.optional("sets", .list(of: set.located)) ?? []
            let identities = Identities.read(&fields)
            let protections = fields.optional("protection", .list(of: Protection.shape.located)) ?? []
            let preventsSpoofing = fields.optional("anti-spoofing", .boolean) ?? true
            let logsDrops = fields.optional("log-drops", .boolean) ?? false
            let fastPath =
                fields.optional(
                    "fast-path",
                    Shape.oneOf(FastPath.allCases.map(\.rawValue)).map { FastPath(rawValue: $0) }) ?? .off
            let logging = fields.optional("logging", Logging.shape) ?? Logging()
            fields.problems.checkUnique(rules, "rule") { $0.name }
            fields.problems.checkUnique(policies, "policy") { "\($0.from.value) to \($0.to.value)" }
            fields.problems.checkUnique(services, "service") { $0.name }
            fields.problems.checkUnique(sets, "set") { $0.name }
            fields.problems.checkUnique(protections, "protection of") { $0.zone.value }
            return FirewallConfiguration(
                policies: policies, rules: rules, services: services, sets: sets, identities: identities,
                protections: protections, preventsSpoofing: preventsSpoofing, fastPath: fastPath, logsDrops: logsDrops,
                logging: logging)
        }
    }

    private static var action: Shape<Action> {
        Shape.oneOf(Action.allCases.map(\.rawValue)).map { Action(rawValue: $0) }
    }

    private static var policy: Shape<Policy> {
        .mapping("a policy") { fields in
            let from = fields.required("from", place(box: false).located)
            let to = fields.required("to", place(box: true).located)
            let action = fields.required("action", Self.action)
            guard let from, let to, let action else { return nil }
            return Policy(from: from, to: to, action: action)
        }
    }

    private static var namedService: Shape<NamedService> {
        let part = Service.shape
        return .mapping("a service") { fields in
            let name = fields.required("name", .name)
            let services = Service.read(part, &fields)
            guard let name, let services else { return nil }
            if services.isEmpty {
                fields.problems.add(
                    fields.node, fields.path, "a service without a protocol", hint: "give it protocol, and ports")
            }
            return NamedService(name: name, services: services)
        }
    }

    private static var set: Shape<AddressSet> {
        let member = Shape<Addresses>.scalar("an address, a network, a range or a domain name") { scalar in
            IPRange(scalar.text).map { .range($0) }
                ?? (Shape.isDomainName(scalar.text) ? .name(scalar.text.lowercased()) : nil)
        }
        return .mapping("a set of addresses") { fields in
            let name = fields.required("name", .name)
            let isFed = fields.optional("fed", .boolean) ?? false
            let list = Shape.list(of: member)
            let members = isFed ? fields.optional("members", list) ?? [] : fields.required("members", list)
            guard let name, let members else { return nil }
            var (ranges, names): ([IPRange], [String]) = ([], [])
            for member in members {
                switch member {
                case .range(let range): ranges.append(range)
                case .name(let name): names.append(name)
                case .set: break
                }
            }
            return AddressSet(name: name, members: ranges, names: names, isFed: isFed)
        }
    }

    private static func place(box: Bool) -> Shape<Place> {
        Shape.name.map(box ? "a zone, box or any" : "a zone or any") { text in
            text == "any" ? .any : text == "box" ? (box ? .box : nil) : .zone(text)
        }
    }

    private static var addresses: Shape<Addresses> {
        .scalar("an address, a network, a range, a domain name, or a set of the site as @NAME") { scalar in
            if scalar.text.hasPrefix("@") { return .set(String(scalar.text.dropFirst())) }
            return IPRange(scalar.text).map { .range($0) }
                ?? (Shape.isDomainName(scalar.text) ? .name(scalar.text.lowercased()) : nil)
        }
    }

    private static var rule: Shape<Rule> {
        // Made once, and not for each of ten thousand rules.
        let (nameShape, source, destination) = (Shape.name, place(box: false).located, place(box: true).located)
        let (list, actionShape, names) = (
            Shape.list(of: addresses.located), action, Shape.list(of: Shape<String>.name.located)
        )
        let (macs, parts, moments) = (Shape.list(of: Shape<MACAddress>.macAddress), Service.shape, Times.shape)
        let (boolean, rateShape, interfaceName) = (Shape<Bool>.boolean, Self.ruleRate, Shape<String>.name.located)
        let codePoints = Shape.list(of: .oneOf(DataType.differentiatedServices(1).symbols.keys.sorted()))
        let noteParts = Logging.note
        let helperShape = Shape.oneOf(Helper.allCases.map(\.rawValue)).map { Helper(rawValue: $0) }
        let each = Shape.oneOf(Each.allCases.map(\.rawValue)).map { Each(rawValue: $0) }
        let connectionsShape = Shape<Connections>.mapping("connections at once") { fields in
            let most = fields.required("most", .integer(1...1_000_000))
            let each = fields.optional("each", each) ?? .source
            return most.map { Connections(most: $0, each: each) }
        }
        return .mapping("a rule") { fields in
            let name = fields.required("name", nameShape)
            let isEnabled = fields.optional("enabled", boolean) ?? true
            let from = fields.required("from", source)
            let to = fields.required("to", destination)
            let interface = fields.optional("interface", interfaceName)
            let services = Service.read(parts, &fields)
            let named = fields.optional("services", names) ?? []
            let sources = fields.optional("source", list) ?? []
            let destinations = fields.optional("destination", list) ?? []
            let sourceGroups = fields.optional("source-groups", names) ?? []
            let destinationGroups = fields.optional("destination-groups", names) ?? []
            let macs = fields.optional("source-mac", macs) ?? []
            let dscp = fields.optional("dscp", codePoints) ?? []
            let action = fields.required("action", actionShape)
            let note = Logging.read(noteParts, &fields)
            let helper = fields.optional("helper", helperShape)
            if helper != nil, action != nil, action != .accept {
                fields.problems.add(
                    fields.node["helper"]?.value ?? fields.node, fields.path + ".helper",
                    "a helper for connections that are not accepted", hint: "leave it out, or accept them")
            }
            let rate = fields.optional("rate", rateShape)
            let connections = fields.optional("connections", connectionsShape)
            let times = Times.read(moments, &fields)
            fields.refuseEmptyLists([
                "source", "destination", "source-groups", "destination-groups", "source-mac", "services", "dscp",
                "days",
            ])
            if !(services ?? []).isEmpty, !named.isEmpty {
                fields.problems.add(
                    fields.node["services"]?.value ?? fields.node, fields.path + ".services",
                    "services beside a protocol of its own", hint: "leave one of them out, or name a service for it")
            }
            func families(_ list: [Located<Addresses>]) -> Set<IPAddress.Family>? {
                var families: Set<IPAddress.Family> = []
                for item in list {
                    guard case .range(let range) = item.value else { return nil }
                    families.insert(range.family)
                }
                return families.isEmpty ? nil : families
            }
            if let one = families(sources), let other = families(destinations), one.isDisjoint(with: other) {
                fields.problems.add(
                    fields.node, fields.path, "its sources are of one family and its destinations of the other",
                    hint: "no packet is both; give addresses of the same family")
            }
            guard let name, let from, let to, let action, let services else { return nil }
            return Rule(
                name: name, isEnabled: isEnabled, from: from, to: to, interface: interface, sources: sources,
                destinations: destinations, sourceGroups: sourceGroups, destinationGroups: destinationGroups,
                macs: macs, services: services, named: named, codePoints: dscp, action: action, note: note,
                helper: helper,
                rate: rate?.limit, rateEach: rate?.each, connections: connections, times: times)
        }
    }

    private static var ruleRate: Shape<(limit: Statement.Limit, each: Each?)> {
        let each = Shape.oneOf(Each.allCases.map(\.rawValue)).map { Each(rawValue: $0) }
        return .mapping("a rate") { fields in
            let each = fields.optional("each", each)
            return Statement.Limit(&fields).map { ($0, each) }
        }
    }
}
