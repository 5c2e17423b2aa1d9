import Documents
import Files
import Glibc
@testable import ImageBuilder
import PluginKit
import Processes
import TestSupport
import Testing

/// The same plans as in an image, with real packets, without a machine.
@Suite(.serialized) struct PacketTests {
    /// The proofs of branch-office that need no service.
    static func proofs() throws -> [Proof] {
        try Definition.read("\(BoxInNetwork.repository)/images/branch-office.yaml").proofs.filter {
            if case .resolve = $0.probe { return false }
            return $0.probe != .lease
        }
    }

    @Test func theProofsOfTheBranchOfficeHold() throws {
        let box = try BoxInNetwork.ready()
        let probing = try box.probing()
        let proofs = try Self.proofs()
        #expect(proofs.count >= 15)
        for proof in proofs {
            let result = try probing.run(proof)
            #expect(result.passed, "\(proof.name): \(result.seen)\n\(box.log)")
        }
    }

    /// A policy that is broken on purpose must not pass.
    @Test(arguments: [
        (
            "{from: lan, to: wan, action: accept}\n",
            "{from: lan, to: wan, action: accept}\n    - {from: wan, to: lan, action: accept}\n",
            "WAN to LAN by TCP is dropped"
        ),
        ("- {from: lan, to: wan}\n", "- {from: wan, to: wan}\n", "LAN to WAN by TCP is masqueraded"),
        ("action: reject}\n", "action: drop}\n", "LAN to the box by TCP is rejected"),
        ("to-port: 80}", "to-port: 81}", "a forwarded port reaches its host"),
    ])
    func aBrokenPolicyIsFound(from: String, to: String, proof name: String) throws {
        let box = try BoxInNetwork.ready(site: BoxInNetwork.site.replacing(from, with: to, maxReplacements: 1))
        let proof = try #require(try Self.proofs().first { $0.name == name })
        #expect(try !box.probing().run(proof).passed)
    }

    @Test func nothingIsForwardedBeforeThereIsAPolicy() throws {
        // A site that can't be applied: the packet path's skeleton stands alone.
        let box = try BoxInNetwork(site: "network: {zones: [wan]}\n")
        try box.start()
        let rules = try box.state()
        #expect(rules.contains("type filter hook forward priority filter; policy drop;"))
        #expect(!rules.contains("jump ") && !rules.contains("goto "))
        #expect(try box.ask("status")["trouble"]?.text?.contains("network.interfaces: the key is missing") == true)
    }

    @Test func establishedConnectionsOutliveTheEngine() throws {
        let box = try BoxInNetwork.ready()
        let network = try #require(box.network)
        let (server, client) = try established(network, port: 5000)
        for i in 0..<10 {
            box.killEngine()
            // Without an engine the table stays, and the connection goes on.
            try exchange(client, server, "gone \(i)")
            try box.start()
            try exchange(client, server, "back \(i)")
        }
        let probing = try box.probing()
        for proof in try Self.proofs() where proof.name.contains("TCP") {
            #expect(try probing.run(proof).passed, "\(proof.name)")
        }
        // And the next change works.
        #expect(try box.apply(BoxInNetwork.site.editing("to-port: 80}", with: "to-port: 8081}")) == nil, "\(box.log)")
        try exchange(client, server, "after a change")
        let rules = try box.state()
        #expect(rules.contains("dnat ip to 192.168.1.10:8081"))
    }

    @Test func tenThousandConnectionsAtOnceGoThroughNAT() throws {
        let box = try BoxInNetwork.ready()
        let network = try #require(box.network)
        let target = try network.side(.wan).host4.description
        // Each end is a process of its own: a descriptor a connection.
        func program(_ place: Proof.Endpoint, _ text: String) throws -> RunningProcess {
            try network.namespace(place).run {
                try Command("python3", ["-c", text]).start(
                    output: File("\(box.folder)/\(place.rawValue).out", O_WRONLY | O_CREAT))
            }
        }
        let server = try program(
            .wan,
            """
            import socket
            l = socket.socket(); l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); l.bind(("0.0.0.0", 5001)); l.listen(4096)
            ends = [l.accept() for _ in range(10000)]
            for s, _ in ends: s.sendall(s.recv(5))
            print(len(ends), sorted({a[0] for _, a in ends}), flush=True)
            """)
        usleep(500_000)
        let client = try program(
            .lan,
            """
            import socket
            ends = []
            for i in range(10000):
                s = socket.socket(); s.settimeout(20); s.connect(("\(target)", 5001)); ends.append(s)
            for s in ends: s.sendall(b"hello")
            print(sum(s.recv(5) == b"hello" for s in ends), flush=True)
            """)
        var changes = 0
        while client.poll() == nil {
            let text = BoxInNetwork.site.editing("to-port: 80}", with: "to-port: \(2000 + changes)}")
            #expect(try box.apply(text) == nil)
            changes += 1
            usleep(200_000)
        }
        _ = server.poll()
        usleep(200_000)
        let said = try ["lan", "wan"].map {
            String(decoding: try FileSystem.read("\(box.folder)/\($0).out"), as: UTF8.self)
        }
        #expect(said == ["10000\n", "10000 ['203.0.113.2']\n"])
        print("10000 connections at once through NAT, \(changes) changes meanwhile")
    }

    /// Small packets as fast as a veth takes them, while the engine falls and comes back.
    @Test func underFullLoadChangesAndFallsLoseNoConnection() throws {
        let box = try BoxInNetwork.ready()
        let network = try #require(box.network)
        let (server, client) = try established(network, port: 5002)
        let target = try network.side(.wan).host4.description
        let load = try network.namespace(.lan).run {
            try Command(
                "python3",
                [
                    "-c",
                    """
                    import os, socket, time
                    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(("\(target)", 9)); n = 0; end = time.time() + 6
                    while time.time() < end or not os.path.exists("\(box.folder)/enough"):
                        for _ in range(1000):
                            try: s.send(b"x" * 18); n += 1
                            except OSError: pass
                    print(n)
                    """,
                ]
            ).start(output: File("\(box.folder)/load", O_WRONLY | O_CREAT))
        }
        var changes = 0
        while load.poll() == nil {
            let port = 1000 + changes % 7
            #expect(try box.apply(BoxInNetwork.site.editing("to-port: 80}", with: "to-port: \(port)}")) == nil)
            try exchange(client, server, "under load \(changes)")
            if changes % 5 == 4 {
                box.killEngine()
                try box.start()
            }
            changes += 1
            // However slow the machine is.
            if changes == 11 { try FileSystem.replace("\(box.folder)/enough", with: "") }
        }
        let sent =
            Int(String(decoding: try FileSystem.read("\(box.folder)/load"), as: UTF8.self).filter(\.isNumber)) ?? 0
        #expect(sent > 100_000 && changes > 10)
        print("\(changes) changes and \(changes / 5) falls of the engine under \(sent) packets")
    }

    // MARK: -

    private func established(_ network: ProofNetwork, port: Int) throws -> (server: ProofSocket, client: ProofSocket) {
        let any = try #require(IPAddress("0.0.0.0"))
        let listener = try ProofSocket(network.namespace(.wan), .ipv4, isStream: true)
        try listener.bind(any, port: port, listen: true)
        let client = try ProofSocket(network.namespace(.lan), .ipv4, isStream: true)
        #expect(client.connect(try network.side(.wan).host4, port: port) == 0)
        #expect(listener.wait(seconds: 5))
        return (try #require(listener.accept()).socket, client)
    }

    private func exchange(_ client: ProofSocket, _ server: ProofSocket, _ text: String) throws {
        for (from, to) in [(client, server), (server, client)] {
            #expect(from.send(Array(text.utf8)) == 0)
            #expect(to.wait(seconds: 5), "\(text)")
            #expect(to.receive().bytes == Array(text.utf8))
        }
    }
}
