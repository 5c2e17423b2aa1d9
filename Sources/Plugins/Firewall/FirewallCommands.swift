import PluginKit

extension Firewall {
    public static func show(
        _ command: String, _ configuration: FirewallConfiguration, input: CommandInput, into output: inout ShowOutput
    ) {
        switch command {
        case "names": return showNames(input, &output)
        case "blocked": return showBlocked(input, &output)
        case "sessions": return showSessions(input, &output)
        default: break
        }
        let rules = configuration.rules.map { rule in
            (
                rule.value.name, "rule \(rule.value.from.value) to \(rule.value.to.value)",
                "firewall.rule.\(rule.value.name)"
            )
        }
        let policies = configuration.policies.map { policy in
            let (from, to) = (policy.value.from.value, policy.value.to.value)
            return ("\(from)-\(to)", "policy", policy.value.counter)
        }
        // Those of all plugins' services: the counters are this plugin's.
        let allowed = input.counters.keys.filter { $0.hasPrefix(allowedCounters) }.sorted().map { counter in
            (String(counter.dropFirst(allowedCounters.count)), "allowed port", counter)
        }
        let all = rules + allowed + policies
        var rows = all.map { (name: $0.0, what: $0.1, count: input.counters[$0.2] ?? (0, 0)) }
        if let name = input.arguments["rule"] {
            rows = rows.filter { $0.name == name }
            if rows.isEmpty {
                let meant = didYouMean(name, among: all.map(\.0))
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

    private static func showNames(_ input: CommandInput, _ output: inout ShowOutput) {
        output.columns = ["name", "addresses", "trouble", "for"]
        for line in (input.files["\(Names.folder)/names/.status"] ?? "").split(separator: "\n") {
            let words = line.split(separator: "\t", omittingEmptySubsequences: false).map(String.init)
            guard words.count == 4, let count = Int(words[1]), let since = Int(words[3]) else { continue }
            output.add(
                .text(words[0]), .integer(count), .text(words[2]),
                .text(since > 0 ? "\(max(0, input.now - since)) s" : ""))
        }
    }

    private static func showSessions(_ input: CommandInput, _ output: inout ShowOutput) {
        func words(_ address: String, _ port: Int?) -> String {
            port.map { address.contains(":") ? "[\(address)]:\($0)" : "\(address):\($0)" } ?? address
        }
        output.columns = ["protocol", "from", "to", "translated", "state", "seconds"]
        let names = Dictionary(DataType.protocolNumber.symbols.map { (Int($0.value), $0.key) }) { min($0, $1) }
        for connection in input.connections {
            let (original, reply) = (connection.original, connection.reply)
            var translations: [String] = []
            if (reply.destination, reply.port) != (original.source, original.sourcePort) {
                translations.append("from " + words(reply.destination, reply.port))
            }
            if (reply.source, reply.sourcePort) != (original.destination, original.port) {
                translations.append("to " + words(reply.source, reply.sourcePort))
            }
            output.add(
                .text(names[connection.transport] ?? "\(connection.transport)"),
                .text(words(original.source, original.sourcePort)), .text(words(original.destination, original.port)),
                .text(translations.joined(separator: ", ")), .text(connection.state), .integer(connection.seconds))
        }
    }

    private static func showBlocked(_ input: CommandInput, _ output: inout ShowOutput) {
        output.columns = ["address", "by", "ends"]
        for (set, by) in [(Protection.blocked, "operator"), (Protection.offenders, "its limit")] {
            for family in IPAddress.Family.allCases {
                for member in input.sets[FedAddresses.name(set, family)] ?? [] {
                    output.add(
                        .text(member.key), .text(by), .text(member.expires.map { "in \($0) s" } ?? ""))
                }
            }
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
        if command == "block", let time = input.arguments["time"] {
            let scalar = Node(.text(time), position: SourcePosition(file: "time", line: 1, column: 1))
            guard let seconds = Shape.seconds(1...2_592_000).read(scalar, path: "", into: ProblemList()) else {
                return output.say(.error, path: "", "\"\(time)\" is no time", hint: "90s, 10m, 4h and 2d are")
            }
            output.add(
                .admit(
                    feed: Protection.blocked,
                    network.length == 8 * network.family.length ? network.address.description : text, seconds: seconds))
            output.add(.say("\(text) is blocked for \(time)"))
            return
        }
        if command == "unblock", index == nil {
            // By whomever: a limit has blocked an address of IPv4, or a network of 64 bits.
            for family in IPAddress.Family.allCases where family == network.family {
                let offenders = FedAddresses.name(Protection.offenders, family)
                let key = (family == .ipv4 ? network : IPPrefix(network.address, length: 64)?.network)?.address
                for member in input.sets[offenders] ?? [] where member.key == key?.description {
                    output.add(.forget(set: offenders, member.key))
                    return output.add(.say("\(text) is not blocked any more"))
                }
            }
            output.add(.expel(feed: Protection.blocked, text))
            return output.add(.say("\(text) is not blocked any more"))
        }
        switch (command, index) {
        case ("block", nil):
            let rule: JSON = [
                "name": .text(name), "from": "any", "to": "any", "source": [.text(text)], "action": "drop",
            ]
            output.add(.insert(path: "rules", at: 0, rule))
            output.add(.say("\(text) is blocked"))
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
