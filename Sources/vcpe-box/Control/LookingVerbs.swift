import Documents
import Engine
import Glibc

/// Verbs that change nothing.
enum LookingVerbs {
    static let all: [Verb] = [
        Verb(
            name: "status", group: .looking, usage: "status",
            summary: "what the box follows, and whether anything is wrong"
        ) { call in
            try call.ask(["do": "status"]) { answer in
                func say(_ key: String, _ text: String?) {
                    if let text { Terminal.line("\(TextTable.left(key + ":", 13))\(text)") }
                }
                say("site", answer["site"]?.text)
                say("resources", "\(answer["resources"]?.integer ?? 0)")
                say("confirm", answer["rollback-in"]?.integer.map { "within \($0) s, or it is rolled back" })
                say("watched", (answer["probation"]?.list).map { $0.compactMap(\.text).joined(separator: ", ") })
                say("rolled back", answer["rolled-back"]?.text)
                for line in answer["drift"]?.list ?? [] { say("drift", line.text) }
                for line in answer["load"]?.list ?? [] { say("load", line.text) }
                say("damage", answer["damage"]?.text)
                say("trouble", answer["trouble"]?.text)
                if answer["trouble"] == nil { Terminal.line("all is applied") }
            }
        },
        Verb(
            name: "health", group: .looking, usage: "health",
            summary: "the probes: what the box is there for, tried by and by",
            details: """
                A commit is rolled back when a probe that passed before fails, and one with --confirm when any
                probe fails (docs/commits.md). Exit code 1 when one fails now. Below them stand tables of the
                kernel that are nearly full, the last invalid time that the clock was set to, and
                settings against attackers that are not the image's now.
                """
        ) { call in
            let answer = try EngineClient().answer(to: ["do": "health"])
            let probes = answer["probes"]?.list ?? []
            if call.asJSON {
                Terminal.say(answer.pretty)
            } else {
                Terminal.say(
                    TextTable(
                        columns: ["probe", "state", "what", "last failure"],
                        rows: probes.map { probe in
                            let state: JSON =
                                switch probe["holds"] {
                                case .boolean(true)?: "holds"
                                case .boolean(false)?: "FAILS"
                                default: "unknown"
                                }
                            return [probe["name"] ?? "", state, probe["what"] ?? "", probe["reason"] ?? ""]
                        }
                    ).text)
            }
            if !call.asJSON {
                for line in answer["tables"]?.list ?? [] { Terminal.line("nearly full: \(line.text ?? "")") }
                if let clock = answer["clock"], let refused = clock["refused"]?.integer,
                    let instead = clock["instead"]?.integer
                {
                    Terminal.line(
                        "clock: it was set to \(UTC.text(of: refused)), outside of the image's valid range, and corrected to "
                            + UTC.text(of: instead))
                }
                for change in answer["kernel"]?.list ?? [] {
                    Terminal.line(
                        "changed: \(change["key"]?.text ?? "") is \(change["found"]?.text ?? ""), and the image sets "
                            + (change["wanted"]?.text ?? ""))
                }
            }
            let failing = probes.filter { $0["holds"] == .boolean(false) }.compactMap { $0["name"]?.text }
            if !failing.isEmpty { throw EngineError("failing: \(failing.joined(separator: ", "))") }
        },
        Verb(
            name: "plan", group: .looking, usage: "plan [FILE]",
            summary: "what the box has; with a document, what it would change",
            words: 0...1,
            options: [
                .init(name: "--nftables", value: nil, summary: "the packet filter, as nft -j -f takes it"),
                Invocation.documentOption,
            ]
        ) { call in
            if let file = call.words.first {
                let what: [String: JSON] = ["site": .text(try Terminal.read(file, for: "plan")), "name": .text(file)]
                return try call.ask(.object(call.request("plan", what))) { ConfigurationVerbs.sayPlanned($0) }
            }
            try call.ask(["do": "plan"]) { answer in
                if call.has("--nftables") { return Terminal.line((answer["nftables"] ?? .null).line) }
                for line in answer["lines"]?.list ?? [] { Terminal.line(line.text ?? "") }
            }
        },
        Verb(
            name: "explain", group: .looking, usage: "explain TEXT|PACKET",
            summary: "rules of the packet filter, or what would become of a packet",
            details: """
                TEXT is a part of a rule's origin, its chain's or its counter's name, such as a rule's name in the site document:
                every rule that says it is shown with its chain, the plugin and the place in the document that it comes from.

                A packet is told by options: the rules that it would meet as the first of a connection, were it to come now, and what
                would become of it. Nothing is sent; vcpectl trace follows real ones.

                  vcpectl explain lan-to-box
                  vcpectl explain --in wan --from 198.51.100.7 --to 203.0.113.2 --protocol tcp --port 8080
                  vcpectl explain --in lan --from 192.168.1.7 --to 203.0.113.9 --protocol icmp --mark class=3 --zone unknown
                """,
            words: 0...1, options: PacketVerbs.packetOptions + PacketVerbs.connectionOptions
        ) { call in
            if call.words.isEmpty { return try PacketVerbs.explain(call) }
            let answer = try EngineClient().answer(to: ["do": "explain", "text": .text(call.words[0])])
            let rules = answer["rules"]?.list ?? []
            if call.asJSON { return Terminal.say(answer.pretty) }
            guard !rules.isEmpty else {
                throw EngineError("no rule of the packet filter has to do with \"\(call.words[0])\"")
            }
            for rule in rules {
                Terminal.line(rule["origin"]?.text ?? "")
                var words = "  in the chain \(rule["chain"]?.text ?? "")"
                if let place = rule["place"]?.text { words += ", \(place)" }
                if let packets = rule["packets"]?.integer { words += ", \(packets) packets" }
                Terminal.line(words)
                Terminal.line("  \(rule["rule"]?.line ?? "")")
            }
        },
        PacketVerbs.trace,
        Verb(
            name: "counters", group: .looking, usage: "counters", summary: "what named counters have counted"
        ) { call in
            try call.ask(["do": "counters"]) { answer in
                let rows = (answer.object ?? [:]).sorted { $0.key < $1.key }.map {
                    [.text($0.key), $0.value["packets"] ?? 0, $0.value["bytes"] ?? 0]
                }
                Terminal.say(TextTable(columns: ["counter", "packets", "bytes"], rows: rows).text)
            }
        },
    ]
}
