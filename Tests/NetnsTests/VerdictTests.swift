import Addresses
import Documents
import Files
import Glibc
@testable import ImageBuilder
import Processes
import TestSupport
import Testing

/// What operators are told of packets, and what becomes of real ones: for each verb and each part of a
/// document that blocks, limits or allows, `vcpectl explain` and both ends of a packet agree.
@Suite(.serialized) struct VerdictTests {
    private enum Verdict: String { case accepted, dropped, rejected }

    /// A packet that begins a connection.
    private struct Packet: Hashable {
        /// `ssh from 203.0.113.9`.
        var name: String
        var link: String
        var source: String
        var target: String
        var transport = "tcp"
        var port: Int
        /// Where it arrives, if it does.
        var host: String
        var hostPort: Int
    }

    /// Publishes three allowed ports, one of them for a few sources.
    private static let service = """
        #!/bin/sh
        cat >/dev/null
        [ "$1" = publish ] || exit 0
        echo '{"name":"service.dns","publish":"openings","value":{"interface":"lan","port":53,"protocol":"udp"}}'
        echo '{"name":"service.ssh","publish":"openings","value":{"interface":"wan","port":22,"protocol":"tcp","sources":["203.0.113.1","203.0.113.9","2001:db8:1::8-2001:db8:1::9"]}}'
        echo '{"name":"service.web","publish":"openings","value":{"interface":"wan","port":443,"protocol":"tcp"}}'

        """

    private static func site(
        rules: String = "", policy: String = "", protection: String = "", box: String = "reject"
    ) -> String {
        BoxInNetwork.site.editing(
            "    - {name: lan-to-box, from: lan, to: box, action: reject}\n",
            with: """
                    - {name: staff, from: lan, to: box, source-groups: [staff], protocol: tcp, ports: [443], action: accept}
                \(rules)
                """
        ).editing(
            "  rules:\n",
            with: """
                    - {from: lan, to: box, action: \(box)}
                \(policy)
                  groups: [{name: staff}, {name: quarantine, isolated: true}]
                  sets: [{name: blocklist, fed: true}]
                \(protection)
                  rules:
                    - {name: listed, from: any, to: any, source: ["@blocklist"], action: drop}

                """) + "service: {}\n"
    }

    private static let packets: [Packet] = {
        var packets: [Packet] = []
        let (outside, inside) = (["203.0.113.1", "203.0.113.9", "203.0.113.10"], ["192.168.1.10", "192.168.1.20"])
        let outside6 = ["2001:db8:1::1", "2001:db8:1::9"]
        for source in outside + outside6 {
            let target = source.contains(":") ? "2001:db8:1::2" : "203.0.113.2"
            for (what, port) in [("ssh", 22), ("web", 443), ("telnet", 23)] {
                packets.append(
                    Packet(
                        name: "\(what) from \(source)", link: "wan", source: source, target: target, port: port,
                        host: "box", hostPort: port))
            }
        }
        for source in outside {
            packets.append(
                Packet(
                    name: "forward from \(source)", link: "wan", source: source, target: "203.0.113.2", port: 8080,
                    host: "lan", hostPort: 80))
        }
        for source in inside {
            packets.append(
                Packet(
                    name: "out from \(source)", link: "lan", source: source, target: "203.0.113.1", port: 8443,
                    host: "wan", hostPort: 8443))
            packets.append(
                Packet(
                    name: "dns from \(source)", link: "lan", source: source, target: "192.168.1.1", transport: "udp",
                    port: 53, host: "box", hostPort: 53))
            packets.append(
                Packet(
                    name: "web from \(source)", link: "lan", source: source, target: "192.168.1.1", port: 443,
                    host: "box", hostPort: 443))
        }
        return packets
    }()

    /// Without any block.
    private static let usual: [String: Verdict] = {
        var usual = Dictionary(uniqueKeysWithValues: packets.map { ($0.name, Verdict.accepted) })
        for name in usual.keys where name.hasPrefix("telnet") { usual[name] = .dropped }
        for source in ["203.0.113.10", "2001:db8:1::1"] { usual["ssh from \(source)"] = .dropped }
        for source in ["192.168.1.10", "192.168.1.20"] { usual["web from \(source)"] = .rejected }
        return usual
    }()

    private static func usual(but verdict: Verdict, _ isMeant: (String) -> Bool) -> [String: Verdict] {
        usual.reduce(into: [:]) { $0[$1.key] = isMeant($1.key) ? verdict : $1.value }
    }

    private let box: BoxInNetwork
    private let network: ProofNetwork
    /// By host, transport and port.
    private let listeners: [String: ProofSocket]

    init() throws {
        box = try BoxInNetwork.ready(site: Self.site(), plugins: ["service": Self.service])
        network = try #require(box.network)
        #expect(try box.ask("status")["trouble"] == nil, "\(box.log)")
        _ = try network.namespace(.wan).run {
            for address in ["203.0.113.9/24", "203.0.113.10/24"] {
                try Command("ip", ["addr", "replace", address, "dev", "wan"]).check()
            }
            try Command("ip", ["addr", "replace", "2001:db8:1::9/64", "dev", "wan", "nodad"]).check()
        }
        _ = try network.namespace(.lan).run {
            try Command("ip", ["addr", "replace", "192.168.1.20/24", "dev", "lan"]).check()
        }
        var listeners: [String: ProofSocket] = [:]
        for packet in Self.packets {
            let key = Self.listener(packet)
            if listeners[key] != nil { continue }
            let isStream = packet.transport == "tcp"
            let socket = try ProofSocket(
                Self.namespace(packet.host, box, network), packet.host == "box" && isStream ? .ipv6 : .ipv4,
                isStream: isStream)
            let any = try #require(IPAddress(packet.host == "box" && isStream ? "::" : "0.0.0.0"))
            try socket.bind(any, port: packet.hostPort, listen: isStream)
            listeners[key] = socket
        }
        self.listeners = listeners
    }

    private static func listener(_ packet: Packet) -> String { "\(packet.host) \(packet.transport) \(packet.hostPort)" }

    private static func namespace(
        _ host: String, _ box: BoxInNetwork, _ network: ProofNetwork
    ) throws -> NetworkNamespace {
        try host == "box" ? box.box : network.namespace(host == "lan" ? .lan : .wan)
    }

    /// What becomes of each packet, all of them sent at once.
    private func seen(_ packets: [Packet] = Self.packets) throws -> [String: Verdict] {
        var waiting: [(packet: Packet, client: ProofSocket)] = []
        var verdicts: [String: Verdict] = [:]
        for listener in listeners.values { while listener.wait(seconds: 0) { _ = drain(listener) } }
        for packet in packets {
            let source = try #require(IPAddress(packet.source))
            let client = try ProofSocket(
                network.namespace(packet.link == "lan" ? .lan : .wan), source.family,
                isStream: packet.transport == "tcp")
            try client.bind(source, port: 0, listen: false)
            let failure = client.connect(try #require(IPAddress(packet.target)), port: packet.port)
            #expect(failure == 0, "\(packet.name): \(String(cString: strerror(failure)))")
            if packet.transport == "udp" { _ = client.send(Array(packet.name.utf8)) }
            waiting.append((packet, client))
        }
        let end = Clock.seconds + 1.5
        while !waiting.isEmpty, Clock.seconds < end {
            waiting.removeAll { packet, client in
                if packet.transport == "tcp" {
                    guard client.wait(seconds: 0, writing: true) else { return false }
                    verdicts[packet.name] = client.pendingError() == 0 ? .accepted : .rejected
                    return true
                }
                guard client.wait(seconds: 0) else { return false }
                verdicts[packet.name] = client.receive().error == 0 ? .accepted : .rejected
                return true
            }
            // Servers of UDP answer with what they got.
            for packet in packets where packet.transport == "udp" {
                guard let server = listeners[Self.listener(packet)], server.wait(seconds: 0) else { continue }
                let (bytes, peer, port, _) = server.receive()
                if let peer { _ = server.send(bytes, to: peer, port: port) }
            }
            usleep(10_000)
        }
        for (packet, _) in waiting { verdicts[packet.name] = .dropped }
        return verdicts
    }

    private func drain(_ listener: ProofSocket) -> Bool {
        listener.accept() != nil || !listener.receive().bytes.isEmpty
    }

    /// What the operator is told of the same packets.
    private func told() throws -> [String: Verdict] {
        try Self.packets.reduce(into: [:]) { told, packet in
            let answer = try box.ask(
                "explain-packet",
                [
                    "interface": .text(packet.link), "from": .text(packet.source), "to": .text(packet.target),
                    "protocol": .text(packet.transport), "port": .integer(packet.port),
                ])
            let word = answer["end"]?.text?.split(separator: ",").first.map(String.init) ?? ""
            let verdict = Verdict(rawValue: word)
            #expect(verdict != nil, "\(answer.line)")
            told[packet.name] = verdict
        }
    }

    private func check(
        _ what: String, _ expected: [String: Verdict], _ location: SourceLocation = #_sourceLocation
    ) throws {
        for (kind, verdicts) in [("told", try told()), ("seen", try seen())] {
            for (name, verdict) in expected.sorted(by: { $0.key < $1.key }) where verdicts[name] != verdict {
                Issue.record(
                    "\(what): \(name) is \(kind) to be \(verdicts[name]?.rawValue ?? "nothing"), not \(verdict)",
                    sourceLocation: location)
            }
        }
    }

    private func said(_ arguments: String...) throws -> String {
        let result = try box.run(arguments)
        #expect(result.status == 0, "\(arguments): \(result.errorText)\(box.log.suffix(500))")
        return result.text
    }

    private func hits(_ name: String) throws -> Int {
        let rows = try JSON.parse(Array(try said("firewall", "hits", name, "--json").utf8)).list ?? []
        return rows.first?["packets"]?.integer ?? -1
    }

    /// A block holds for services of the box, for forwarded ports and for what passes through.
    @Test func whatIsBlockedReachesNothing() throws {
        let manifest = try JSON.parse(
            FileSystem.read("\(BoxInNetwork.repository)/Sources/Plugins/Firewall/manifest.json"))
        let verbs = (manifest["commands"]?.list ?? []).filter { $0["verb"] == "act" }.compactMap { $0["name"]?.text }
        #expect(verbs == ["block", "unblock"], "a verb that this test does not try")
        try check("unblocked", Self.usual)
        let fromNine = Self.usual(but: .dropped) { $0.hasSuffix(" 203.0.113.9") }
        for time in [[], ["10m"]] {
            let answer = try box.run(["firewall", "block", "203.0.113.9"] + time)
            #expect(answer.text.contains("203.0.113.9 is blocked"), "\(answer.errorText)")
            try check("blocked \(time)", fromNine)
            if time.isEmpty { #expect(try hits("block-203-0-113-9") > 0) }
            #expect(try said("firewall", "unblock", "203.0.113.9").contains("is not blocked any more"))
            try check("unblocked \(time)", Self.usual)
        }
        _ = try said("firewall", "block", "2001:db8:1::9")
        try check("blocked", Self.usual(but: .dropped) { $0.hasSuffix(" 2001:db8:1::9") })
        _ = try said("firewall", "unblock", "2001:db8:1::9")
        _ = try said("firewall", "block", "203.0.113.0/24")
        try check("blocked network", Self.usual(but: .dropped) { $0.contains(" 203.0.113.") })
        _ = try said("firewall", "unblock", "203.0.113.0/24")
        _ = try said("firewall", "block", "192.168.1.20")
        try check("blocked host", Self.usual(but: .dropped) { $0.hasSuffix(" 192.168.1.20") })
        _ = try said("firewall", "unblock", "192.168.1.20")
        _ = try said("feed", "firewall.set.blocklist", "add", "203.0.113.9")
        try check("listed", fromNine)
        _ = try said("feed", "firewall.set.blocklist", "remove", "203.0.113.9")
        _ = try said("feed", "firewall.group.quarantine", "add", "192.168.1.20")
        try check("isolated", Self.usual(but: .dropped) { $0.hasSuffix(" 192.168.1.20") })
        _ = try said("feed", "firewall.group.quarantine", "remove", "192.168.1.20")
        try check("unblocked", Self.usual)
    }

    /// A connection to the box's own service ends with a block, as others do.
    @Test func aBlockEndsConnectionsToTheBox() throws {
        let web = try #require(listeners["box tcp 443"])
        for time in [[], ["10m"]] {
            let client = try ProofSocket(network.namespace(.wan), .ipv4, isStream: true)
            try client.bind(try #require(IPAddress("203.0.113.9")), port: 0, listen: false)
            #expect(client.connect(try #require(IPAddress("203.0.113.2")), port: 443) == 0)
            #expect(web.wait(seconds: 3))
            let server = try #require(web.accept()).socket
            #expect(client.send([1]) == 0 && server.wait(seconds: 2) && server.receive().bytes == [1])
            _ = try box.run(["firewall", "block", "203.0.113.9"] + time)
            let ended = Wait.until {
                _ = client.send([2])
                guard server.wait(seconds: 0.5) else { return true }
                _ = server.receive()
                return false
            }
            #expect(ended, "\(time) \(box.log)")
            _ = try said("firewall", "unblock", "203.0.113.9")
        }
    }

    @Test func allowedPortsAreRestrictedByRulesAndComeBeforePolicies() throws {
        try check("by its sources", Self.usual)
        let counted = try hits("service.ssh")
        _ = try seen()
        #expect(try hits("service.ssh") == counted + 3)
        // Rules close an allowed port but for one source, and open one that has sources to others.
        let rules = """
                - {name: web-one, from: wan, to: box, source: [203.0.113.1], protocol: tcp, ports: [443], action: accept}
                - {name: web, from: wan, to: box, protocol: tcp, ports: [443], action: reject}
                - {name: ssh-ten, from: wan, to: box, source: [203.0.113.10], protocol: tcp, ports: [22], action: accept}
                - {name: no-dns, from: lan, to: box, source: [192.168.1.20], protocol: udp, ports: [53], action: drop}

            """
        #expect(try box.apply(Self.site(rules: rules)) == nil)
        var expected = Self.usual(but: .rejected) { $0.hasPrefix("web from") && !$0.hasSuffix(" 203.0.113.1") }
        expected["ssh from 203.0.113.10"] = .accepted
        expected["dns from 192.168.1.20"] = .dropped
        try check("rules", expected)
        // Groups are asked before the policy.
        _ = try said("feed", "firewall.group.staff", "add", "192.168.1.20")
        expected["web from 192.168.1.20"] = .accepted
        try check("a member", expected)
        _ = try said("feed", "firewall.group.staff", "remove", "192.168.1.20")

        // Policies to the box are about what is left.
        #expect(try box.apply(Self.site(policy: "    - {from: any, to: box, action: reject}")) == nil)
        try check(
            "policy",
            Self.usual.mapValues { $0 == .accepted ? .accepted : .rejected })
        #expect(try hits("lan-box") > 0 && hits("any-box") > 0)
        #expect(try box.apply(Self.site(policy: "    - {from: wan, to: box, action: accept}", box: "accept")) == nil)
        try check(
            "open policy", Self.usual.mapValues { _ in .accepted }.filter { !$0.key.hasPrefix("telnet") })
    }

    /// The author of a rule for the rest is warned that it closes a service's port.
    @Test func aRuleThatClosesAnAllowedPortIsReported() throws {
        let rules = """
                - {name: some, from: wan, to: box, source: [203.0.113.1], protocol: tcp, ports: [443], action: accept}
                - {name: all, from: wan, to: box, action: drop}

            """
        let answer = try box.ask("apply", ["site": .text(Self.site(rules: rules)), "name": "site.yaml"])
        let warnings = (answer["warnings"]?.list ?? []).map(\.line)
        #expect(
            warnings.contains { $0.contains("service.ssh") && $0.contains("firewall.rules[4]") },
            "\(answer.line.prefix(2000))")
        // The first rule lets some to this one.
        #expect(!warnings.contains { $0.contains("service.web") })
        // A rule for what passes through lets nothing in, and both families together are all.
        let both = """
                - {name: out, from: lan, to: any, destination: [198.51.100.0/24], action: accept}
                - {name: all, from: lan, to: box, source: [0.0.0.0/0, "::/0"], action: reject}

            """
        let other = try box.ask("plan", ["site": .text(Self.site(rules: both)), "name": "site.yaml"])
        #expect(other.line.contains("service.dns needs port 53/udp on lan"), "\(other.line.prefix(2000))")
        try check(
            "closed",
            Self.usual(but: .dropped) {
                ($0.hasPrefix("ssh") || $0.hasPrefix("web from 2")) && $0 != "web from 203.0.113.1"
            })
    }

    /// Limits let so many through, and the counters say how many.
    @Test func limitsLetThroughWhatTheySay() throws {
        let rules = """
                - {name: slow, from: wan, to: box, protocol: tcp, ports: [443], rate: {packets: 1, per: hour, burst: 2}, action: accept}
                - {name: slow-each, from: wan, to: box, protocol: tcp, ports: [22], rate: {packets: 1, per: hour, burst: 1, each: source}, action: accept}
                - {name: beyond, from: wan, to: box, protocol: tcp, ports: [22, 443], action: reject}

            """
        #expect(try box.apply(Self.site(rules: rules)) == nil)
        let first = try seen()
        #expect(first.filter { $0.key.hasPrefix("web from 2") && $0.value == .accepted }.count == 2, "\(first)")
        #expect(first.filter { $0.key.hasPrefix("ssh") && $0.value == .accepted }.count == 4, "\(first)")
        let second = try seen()
        #expect(
            second.filter { ($0.key.hasPrefix("web from 2") || $0.key.hasPrefix("ssh")) && $0.value == .rejected }.count
                == 10, "\(second)")
        #expect(try hits("slow") == 2 && hits("slow-each") == 4)
        #expect(try hits("service.web") == 0 && hits("service.ssh") == 0)

        // A source beyond its limit is blocked, and the operator may end that.
        let protection = """
              protection:
                - {zone: wan, per-source: {connections: {packets: 2, per: minute, burst: 4}}, block-for: 10m}
            """
        #expect(try box.apply(Self.site(protection: protection)) == nil)
        let web = try #require(Self.packets.first { $0.name == "web from 203.0.113.10" })
        for _ in 0..<7 { _ = try seen([web]) }
        #expect(try said("firewall", "blocked").contains("203.0.113.10"))
        #expect(try told()[web.name] == .dropped && seen([web])[web.name] == .dropped)
        _ = try said("firewall", "unblock", "203.0.113.10")
        #expect(try told()[web.name] == .accepted)
        // Its rate is what it was: beyond it, it is blocked again.
        #expect(try !said("firewall", "blocked").contains("203.0.113.10"))
    }
}
