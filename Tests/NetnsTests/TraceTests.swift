import Addresses
import Documents
import Files
import Glibc
@testable import ImageBuilder
import Processes
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
        #expect(try box.apply(BoxInNetwork.site.replacing("to-port: 80}", with: "to-port: 81}")) == nil)
        // A commit in the middle of a trace lets it be, and an engine that falls leaves nothing of it.
        #expect(try box.ask("trace", ["seconds": 60])["seconds"]?.integer == 60)
        #expect(try box.decided().contains("nftrace"))
        #expect(try box.ask("trace")["error"]?.text?.contains("root is tracing packets already") == true)
        #expect(try box.apply(BoxInNetwork.site) == nil)
        #expect(try box.decided().contains("nftrace"))
        box.killEngine()
        try box.start()
        #expect(try BoxInNetwork.wait { try !box.decided().contains("nftrace") })
        #expect(try box.ask("trace", ["protocol": "tpc"])["error"]?.text?.contains("did you mean tcp?") == true)
        #expect(try box.vcpectl("trace", "--port", "80").errorText.contains("a port wants the protocol"))
    }
}
