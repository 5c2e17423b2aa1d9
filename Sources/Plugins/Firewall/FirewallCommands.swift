import PluginKit

extension Firewall {
    public static func show(
        _ command: String, _ configuration: FirewallConfiguration, input: CommandInput, into output: inout ShowOutput
    ) {
        let rules = configuration.rules.map { rule in
            (
                rule.value.name, "rule \(rule.value.from.value) to \(rule.value.to.value)",
                "firewall.rule.\(rule.value.name)"
            )
        }
        let policies = configuration.policies.map { policy in
            let (from, to) = (policy.value.from.value, policy.value.to.value)
            return ("\(from)-\(to)", "policy", "firewall.policy.\(from).\(to)")
        }
        var rows = (rules + policies).map { (name: $0.0, what: $0.1, count: input.counters[$0.2] ?? (0, 0)) }
        if let name = input.arguments["rule"] {
            rows = rows.filter { $0.name == name }
            if rows.isEmpty {
                let meant = didYouMean(name, among: (rules + policies).map(\.0))
                output.say(
                    .error, path: "rules", "there is no rule \"\(name)\"", hint: meant.map { "did you mean \($0)?" })
            }
        }
        if command == "top" { rows = Array(rows.sorted { $0.count.packets > $1.count.packets }.prefix(10)) }
        output.columns = ["name", "what", "packets", "bytes"]
        for row in rows {
            output.add(.text(row.name), .text(row.what), .integer(row.count.packets), .integer(row.count.bytes))
        }
    }

    public static func act(
        _ command: String, _ configuration: FirewallConfiguration, input: CommandInput, into output: inout ActOutput
    ) {
        let text = input.arguments["address"] ?? ""
        guard let network = IPPrefix(text), network.isNetwork else {
            return output.say(
                .error, path: "", "\"\(text)\" is no address and no network",
                hint: "198.51.100.7 and 198.51.100.0/24 are")
        }
        var name = "block-" + text.map { $0.isLetter || $0.isNumber ? $0.lowercased() : "-" }.joined()
        // Names have at most 40 characters, and addresses as many.
        if name.utf8.count > 40 { name = "\(name.prefix(25))-\(String(name.fnv1a, radix: 36))" }
        let index = configuration.rules.firstIndex { $0.value.name == name }
        switch (command, index) {
        case ("block", nil):
            let rule: JSON = [
                "name": .text(name), "from": "any", "to": "any", "source": [.text(text)], "action": "drop",
            ]
            output.add(.insert(path: "rules", at: 0, rule))
            output.add(.say("\(text) is blocked; what is established already goes on until it ends"))
        case ("block", _): output.say(.error, path: "", "\(text) is blocked already")
        case (_, nil): output.say(.error, path: "", "\(text) is not blocked")
        case (_, let index?):
            output.add(.delete(path: "rules[\(index)]"))
            output.add(.say("\(text) is not blocked any more"))
        }
    }
}

extension FirewallConfiguration.Place: CustomStringConvertible {
    var description: String {
        switch self {
        case .any: "any"
        case .box: "box"
        case .zone(let name): name
        }
    }
}
