import Addresses
import Documents
import Files
import Glibc
@testable import ImageBuilder
import Processes
import TestSupport
import Testing

/// Packets that are followed as they come, in the words of the document.
@Suite(.serialized) struct TraceTests {
    /// Sends until vcpectl has seen enough, and returns what that says.
    private func traced(
        _ box: BoxInNetwork, _ options: [String], _ send: () throws -> Void
    ) throws -> (status: Int32, text: String) {
        let path = "\(box.folder)/traced"
        let script =
            "mount -t tmpfs tmpfs /run && mkdir /run/vcpe && mount --bind \(box.folder)/run /run/vcpe && exec \"$@\""
        let words = ["--mount", "sh", "-c", script, "sh", "\(box.folder)/vcpectl", "trace"] + options
        let tracer = try Command("unshare", words).start(output: File(path, O_WRONLY | O_CREAT | O_TRUNC))
        let end = Clock.seconds + 20
        while Clock.seconds < end, tracer.poll() == nil {
            try send()
            usleep(200_000)
        }
        return (tracer.poll() ?? 255, String(decoding: try FileSystem.read(path), as: UTF8.self))
    }

    @Test func aPacketsWayIsShownWithItsRules() throws {
        let box = try BoxInNetwork.ready()
        let network = try #require(box.network)
        let (lan, wan) = (try network.side(.lan), try network.side(.wan))
        let fromLAN = try ProofSocket(network.namespace(.lan), .ipv4, isStream: false)
        let allowed = try traced(box, ["--in", "lan", "--protocol", "udp", "--port", "9999", "--count", "1"]) {
            _ = fromLAN.send([1], to: wan.host4, port: 9999)
        }
        let text = allowed.text
        #expect(allowed.status == 0 && text.contains("udp \(lan.host4):"), "\(allowed) \(box.log)")
        #expect(text.contains("> \(wan.host4):9999, in lan, out wan"), "\(text)")
        let lines = text.split(separator: "\n").map(String.init)
        let policy = lines.firstIndex { $0.contains("accept") && $0.contains("firewall: policies[0]") }
        #expect(policy != nil, "\(text)")
        if let policy { #expect(lines[policy + 1].contains("firewall.policies[0], site.yaml:16:7"), "\(text)") }
        // What is dropped, and where: a port that nobody forwards.
        let fromWAN = try ProofSocket(network.namespace(.wan), .ipv4, isStream: false)
        let dropped = try traced(box, ["--from", "\(wan.host4)", "--to", "203.0.113.0/24", "--count", "2", "--json"]) {
            _ = try fromWAN.send([1], to: #require(IPAddress("203.0.113.2")), port: 7)
        }
        let packets = try JSON.parse(dropped.text).list ?? []
        #expect(packets.count == 2, "\(dropped.text)")
        let last = packets.first?["steps"]?.list?.last
        #expect(last?["chain"]?.text == "input" && last?["verdict"]?.text == "drop", "\(dropped.text)")
        #expect(last?["kind"]?.text == "policy")
        // Nothing of it is left, and nothing of the plan has changed.
        #expect(try !box.decided().contains("nftrace") && !box.decided().contains("trace-"))
        #expect(try box.apply(BoxInNetwork.site.editing("to-port: 80}", with: "to-port: 81}")) == nil)
        // A commit in the middle of a trace lets it be, and an engine that falls leaves nothing of it.
        #expect(try box.ask("trace", ["seconds": 60])["seconds"]?.integer == 60)
        #expect(try box.decided().contains("nftrace"))
        #expect(try box.ask("trace")["error"]?.text?.contains("root is tracing packets already") == true)
        #expect(try box.apply(BoxInNetwork.site) == nil)
        #expect(try box.decided().contains("nftrace"))
        box.killEngine()
        try box.start()
        #expect(try Wait.until { try !box.decided().contains("nftrace") })
        // One that nobody asks for any more ends by itself, and holds up no other.
        #expect(try box.ask("trace", ["seconds": 1])["seconds"]?.integer == 1)
        #expect(try Wait.until { try !box.decided().contains("nftrace") })
        #expect(try box.ask("trace", ["seconds": 1])["error"] == nil)
        #expect(try Wait.until { try !box.decided().contains("nftrace") })
        #expect(try box.ask("trace", ["protocol": "tpc"])["error"]?.text?.contains("did you mean tcp?") == true)
        #expect(try box.vcpectl("trace", "--port", "80").errorText.contains("a port wants the protocol"))
    }
}

extension TraceTests {
    /// What is told of a packet that nobody sent is what becomes of one that somebody sends.
    @Test func aSupposedPacketMeetsWhatARealOneMeets() throws {
        let site = BoxInNetwork.site.editing(
            "  rules:\n",
            with: "  rules:\n    - {name: no-telnet, from: lan, to: wan, protocol: tcp, ports: [23], action: reject}\n")
        let box = try BoxInNetwork.ready(site: site)
        let network = try #require(box.network)
        let (lan, wan) = (try network.side(.lan), try network.side(.wan))
        func explain(_ words: String) throws -> String {
            let result = try box.run(["explain"] + words.split(separator: " ").map(String.init))
            #expect(result.status == 0, "\(words): \(result.errorText)")
            return result.text
        }
        let out = try explain("--in lan --from \(lan.host4) --to \(wan.host4) --port 443")
        #expect(out.hasSuffix("accepted, out wan\n") && out.contains("firewall: policies[0]"), "\(out)")
        #expect(out.contains("masquerade") && out.contains("nat: masquerade[0]"), "\(out)")
        #expect(!out.contains("nobody can know"), "\(out)")
        // Of a policy, which is an element of a map, the line is known too.
        let policy = try explain("policies[0]")
        #expect(policy.contains("firewall.policy-map.n") && policy.contains("site.yaml:16:7"), "\(policy)")
        let telnet = try explain("--in lan --from \(lan.host4) --to \(wan.host4) --port 23")
        #expect(
            telnet.hasSuffix("rejected\n") && telnet.contains("firewall.rules[no-telnet], site.yaml:18:7"), "\(telnet)")
        let forwarded = try explain("--in wan --from \(wan.host4) --to 203.0.113.2 --port 8080")
        #expect(
            forwarded.contains("dnat to 192.168.1.10 port 80") && forwarded.hasSuffix("accepted, out lan\n"),
            "\(forwarded)")
        let closed = try explain("--in wan --from \(wan.host4) --to 203.0.113.2 --port 22")
        #expect(closed.contains("input") && closed.hasSuffix("dropped\n"), "\(closed)")
        let through = try explain("--in wan --from \(wan.host4) --to \(lan.host4) --port 22")
        #expect(through.hasSuffix("dropped\n"), "\(through)")
        let ping = try explain("--in lan --from \(lan.host4) --to 192.168.1.1 --protocol icmp")
        #expect(ping.hasSuffix("accepted, to the box itself\n") && ping.contains("rules[lan-pings-box]"), "\(ping)")
        let spoofed = try explain("--in wan --from \(lan.host4) --to 203.0.113.2 --port 8080")
        #expect(spoofed.contains("anti-spoofing") && spoofed.hasSuffix("dropped\n"), "\(spoofed)")
        let six = try explain("--in lan --from \(lan.host6) --to \(wan.host6) --port 443")
        #expect(six.hasSuffix("accepted, out wan\n") && !six.contains("masquerade"), "\(six)")
        // An address that an operator blocked a moment ago.
        _ = try box.vcpectl("firewall", "block", "\(wan.host4)")
        #expect(try explain("--in wan --from \(wan.host4) --to 203.0.113.2 --port 8080").hasSuffix("dropped\n"))
        _ = try box.vcpectl("firewall", "unblock", "\(wan.host4)")
        // As real ones meet it.
        let probing = try box.probing()
        func passes(_ text: String) throws -> Bool {
            let node = try YAML.read(Array(text.utf8), file: "proof")
            return try probing.run(try #require(Proof.shape.read(node, path: "", into: ProblemList()))).passed
        }
        #expect(try passes("{name: a, from: lan, to: wan, tcp: 443, source-seen: box}"))
        #expect(try passes("{name: b, from: lan, to: wan, tcp: 23, expect: rejected}"))
        #expect(try passes("{name: c, from: wan, to: box, tcp: 8080, arrives-at: lan, arrives-at-port: 80}"))
        #expect(try passes("{name: d, from: wan, to: box, tcp: 22, expect: dropped}"))
        #expect(try passes("{name: e, from: wan, to: lan, tcp: 22, expect: dropped}"))
        #expect(
            try box.vcpectl("explain", "--in", "lam", "--from", "10.0.0.1", "--to", "10.0.0.2").errorText.contains(
                "did you mean lan?"))
    }
}
