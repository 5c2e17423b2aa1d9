import Documents
import Engine
import Glibc

/// What becomes of packets: of those that come, and of one that might.
enum PacketVerbs {
    /// What tells a packet.
    static let packetOptions: [Verb.Option] = [
        .init(name: "--in", value: "INTERFACE", summary: "that it comes by"),
        .init(name: "--from", value: "ADDRESS", summary: "its source; trace takes a network, too"),
        .init(name: "--to", value: "ADDRESS", summary: "its destination, likewise"),
        .init(name: "--protocol", value: "NAME", summary: "tcp, udp, icmp or icmpv6"),
        .init(name: "--port", value: "N", summary: "its destination's, of tcp and udp"),
    ]

    /// What tells the connection of a packet.
    static let connectionOptions: [Verb.Option] = [
        .init(name: "--mark", value: "FIELD=N,…", summary: "mark fields of its connection, or unknown; 0"),
        .init(name: "--zone", value: "N", summary: "its connection's zone, or unknown; 0"),
    ]

    static let trace = Verb(
        name: "trace", group: .looking, usage: "trace",
        summary: "the way of packets as they come: which rules they meet",
        details: """
            Every rule that a packet meets is shown with its verdict and the place in the document that it comes from. Packets are
            told by their own headers: answers, and what NAT has rewritten, are packets with others.

              vcpectl trace --in lan --protocol tcp --port 443
              vcpectl trace --to 192.168.1.10 --count 1 --for 60s
            """,
        options: packetOptions + [
            .init(name: "--count", value: "N", summary: "so many packets; 5"),
            .init(name: "--for", value: "TIME", summary: "no longer than this; 30s"),
            .init(name: "--all", value: nil, summary: "steps that decide nothing, too"),
        ], run: run)

    /// What options say of a packet.
    private static func request(_ verb: String, _ call: Invocation) throws -> [String: JSON] {
        var request: [String: JSON] = ["do": .text(verb)]
        for (option, key) in [("--from", "from"), ("--to", "to"), ("--in", "interface"), ("--protocol", "protocol")] {
            request[key] = call[option].map { .text($0) }
        }
        for (option, key) in [("--port", "port"), ("--count", "packets")] {
            guard let text = call[option] else { continue }
            guard let number = Int(text) else { throw WrongUsage("\(option): \"\(text)\" is no number") }
            request[key] = .integer(number)
        }
        return request
    }

    /// What would become of a packet.
    static func explain(_ call: Invocation) throws {
        var request = try request("explain-packet", call)
        request["marks"] = try call["--mark"].map { try marks($0) }
        if let zone = call["--zone"] { request["zone"] = Int(zone).map { .integer($0) } ?? .text(zone) }
        let answer = try EngineClient().answer(to: .object(request))
        if call.asJSON { return Terminal.say(answer.pretty) }
        for step in answer["steps"]?.list ?? [] { show(step) }
        for rule in answer["unknown"]?.list ?? [] {
            Terminal.line("  taken as if it didn't fit, since nobody can know: \(rule.text ?? "")")
        }
        func say(_ what: String, _ fields: JSON?) {
            let values = (fields?.object ?? [:]).filter { $0.value != 0 }.sorted { $0.key < $1.key }
            let words = values.map { "\($0.key)=\($0.value.integer.map(String.init) ?? "unknown")" }
            if !words.isEmpty { Terminal.line("  \(what): \(words.joined(separator: ", "))") }
        }
        say("its mark at the end", answer["marks"])
        say("its connection's mark", answer["connection-marks"])
        say("its connection's zone", ["zone": answer["zone"] ?? 0])
        Terminal.line(answer["end"]?.text ?? "")
    }

    /// `FIELD=N,FIELD=N`, or `unknown`.
    private static func marks(_ text: String) throws -> JSON {
        if text == "unknown" { return .text(text) }
        var marks: [String: JSON] = [:]
        for part in text.split(separator: ",") {
            let words = part.split(separator: "=", omittingEmptySubsequences: false)
            guard words.count == 2, let number = Int(words[1]) else {
                throw WrongUsage("--mark: found \(part), allowed are FIELD=N and unknown")
            }
            marks[String(words[0])] = .integer(number)
        }
        return .object(marks)
    }

    @Sendable private static func run(_ call: Invocation) throws {
        var request = try request("trace", call)
        if let time = call["--for"] { request["seconds"] = .integer(try Invocation.seconds(time)) }
        let client = EngineClient()
        _ = try client.answer(to: .object(request))
        var all: [JSON] = []
        while true {
            let answer = try client.answer(to: ["do": "traced"])
            for packet in answer["packets"]?.list ?? [] {
                all.append(packet)
                if !call.asJSON { show(packet, all: call.has("--all")) }
            }
            if answer["over"] == .boolean(true) { break }
            usleep(100_000)
        }
        if call.asJSON { return Terminal.say(JSON.list(all).pretty) }
        if all.isEmpty { throw EngineError("no such packet came") }
    }

    private static func show(_ packet: JSON, all: Bool) {
        let ways = [packet["in"]?.text.map { "in \($0)" }, packet["out"]?.text.map { "out \($0)" }].compactMap { $0 }
        Terminal.line("\(packet["packet"]?.text ?? ""), \(ways.isEmpty ? "by no link" : ways.joined(separator: ", "))")
        for step in packet["steps"]?.list ?? [] {
            let verdict = step["verdict"]?.text ?? ""
            let decides =
                step["kind"]?.text == "rule"
                ? step["place"] != nil || ["accept", "drop"].contains(verdict) : verdict == "drop"
            guard all || decides else { continue }
            show(step)
        }
    }

    private static func show(_ step: JSON) {
        let words = step["origin"]?.text ?? (step["kind"]?.text == "policy" ? "the end of the chain" : "")
        let (chain, verdict) = (step["chain"]?.text ?? "", step["verdict"]?.text ?? "")
        Terminal.line("  \(TextTable.left(chain, 24)) \(TextTable.left(verdict, 10)) \(words)")
        if let place = step["place"]?.text { Terminal.line("  \(TextTable.left("", 35)) \(place)") }
    }
}
