import Addresses
import Documents
import Files
import Glibc
@testable import ImageBuilder
import Processes
import TestSupport
import Testing

/// Carrier-grade translation, by what subscribers and strangers see of each other (RFC 6888, 4787, 5508).
@Suite(.serialized) struct CarrierTests {
    private static func site(_ more: String = "") -> String {
        BoxInNetwork.site.editing(
            "  masquerade:\n    - {from: lan, to: wan}\n",
            with: """
                  carrier-grade:
                    - {name: homes, from: lan, to: wan, subscribers: [192.168.1.64/28], pool: [203.0.113.200-203.0.113.201], ports-per-subscriber: 1000}
                    - {name: strict, from: lan, to: wan, subscribers: [192.168.1.96/30], pool: [203.0.113.210], ports-per-subscriber: 40, filtering: address-and-port-dependent\(more)}

                """
        ).editing(
            "    - {from: lan, to: wan, action: accept}\n",
            with: "    - {from: lan, to: wan, action: accept}\n    - {from: lan, to: lan, action: accept}\n")
    }

    private let box: BoxInNetwork
    private let network: ProofNetwork
    private static let known = ProofNetwork.knownName.address

    init() throws {
        box = try BoxInNetwork.ready(site: Self.site())
        network = try #require(box.network)
        #expect(try box.ask("status")["trouble"] == nil, "\(box.log)")
        for host in [64, 65, 70, 96] { try ip(.lan, "addr replace 192.168.1.\(host)/24 dev lan") }
        try ip(.lan, "route replace default via 192.168.1.1")
        // As a provider would: the pool is routed to the box.
        for words in ["203.0.113.200/31", "203.0.113.210/32"] { try ip(.wan, "route replace \(words) via 203.0.113.2") }
        _ = try box.box.run { try Command("ip", ["route", "replace", "198.18.0.0/15", "via", "203.0.113.1"]).check() }
    }

    private func ip(_ place: Proof.Endpoint, _ words: String) throws {
        _ = try network.namespace(place).run { try Command("ip", words.split(separator: " ").map(String.init)).check() }
    }

    private func address(_ text: String) throws -> IPAddress { try #require(IPAddress(text)) }

    private func socket(_ place: Proof.Endpoint, _ from: String, port: Int = 0, isStream: Bool = false) throws
        -> ProofSocket
    {
        let socket = try ProofSocket(network.namespace(place), .ipv4, isStream: isStream)
        try socket.bind(try address(from), port: port, listen: false)
        return socket
    }

    /// Sends until it arrives: a port that another socket has is tried again.
    private func send(
        _ client: ProofSocket, to server: ProofSocket, _ target: String, _ port: Int
    ) throws -> (peer: String, port: Int)? {
        for _ in 0..<12 {
            _ = client.send([1], to: try address(target), port: port)
            if server.wait(seconds: 0.15) {
                let seen = server.receive()
                return seen.peer.map { ($0.description, seen.port) }
            }
        }
        return nil
    }

    private func counted(_ name: String) throws -> Int {
        try box.ask("counters")["nat.carrier.\(name)"]?["packets"]?.integer ?? -1
    }

    @Test func everySubscriberHasItsBlockAndEverySocketItsPort() throws {
        let servers = try [("203.0.113.1", 7000), ("203.0.113.1", 7001), (Self.known, 7000)].map {
            (socket: try socket(.wan, $0.0, port: $0.1), address: $0.0, port: $0.1)
        }
        var (clients, outside): ([ProofSocket], [[String: Int]]) = ([], [])
        for (subscriber, expected) in [
            ("192.168.1.64", "203.0.113.200 1024-2023"), ("192.168.1.65", "203.0.113.200 2024-3023"),
        ] {
            var ports: [String: Int] = [:]
            for i in 0..<150 {
                // A port of its own: sockets that may share an address are given one port twice.
                let client = try socket(.lan, subscriber, port: 20_000 + i)
                // Each begins with another destination: the kernel would let them share a port then.
                let first = servers[i % 3]
                let seen = try #require(
                    try send(client, to: first.socket, first.address, first.port), "\(subscriber) \(i)")
                ports["\(seen.peer):\(seen.port)", default: 0] += 1
                // The same port for whomever it talks to.
                if i < 40 {
                    for other in servers {
                        let again = try #require(try send(client, to: other.socket, other.address, other.port))
                        #expect(again == seen, "\(subscriber) \(i) to \(other.address) \(other.port)")
                    }
                }
                clients.append(client)
            }
            // No two sockets share one, though the kernel would have let them to other destinations.
            #expect(ports.count == 150 && ports.values.allSatisfy { $0 == 1 })
            outside.append(ports)
            let block = try box.vcpectl("nat", "block", subscriber).text
            let words = expected.split(separator: " ")
            #expect(block.contains("\(words[0])") && block.contains("\(words[1])"), "\(block)")
            let range = words[1].split(separator: "-").compactMap { Int($0) }
            for key in ports.keys {
                let parts = key.split(separator: ":")
                #expect(parts[0] == words[0] && (range[0]...range[1]).contains(Int(parts[1]) ?? 0), "\(key)")
            }
            let one = try #require(ports.keys.first)
            let port = one.split(separator: ":").last ?? ""
            let who = try box.vcpectl("nat", "who", String(one.prefix { $0 != ":" }), String(port)).text
            #expect(who.contains(subscriber), "\(who)")
        }
        #expect(Set(outside[0].keys).isDisjoint(with: outside[1].keys))
        #expect(try counted("homes.mappings") == 300)
        let again = try counted("homes.collisions")
        #expect(again > 0, "the kernel gave no port twice")
        print("carrier: \(again) packets of 300 sockets met a port that was taken, and were tried again")
        let shown = try box.vcpectl("nat", "carriers").text
        #expect(shown.contains("homes") && shown.contains("300"), "\(shown)")
    }

    @Test func whoeverKnowsAMappingReachesItWhereTheSiteSaysSo() throws {
        let server = try socket(.wan, "203.0.113.1", port: 7100)
        let client = try socket(.lan, "192.168.1.64")
        let outside = try #require(try send(client, to: server, "203.0.113.1", 7100))
        // A stranger, by another address and port.
        let stranger = try socket(.wan, Self.known, port: 9999)
        _ = stranger.send([7], to: try address(outside.peer), port: outside.port)
        #expect(client.wait(seconds: 2))
        let came = client.receive()
        #expect(came.bytes == [7] && came.peer?.description == Self.known && came.port == 9999)
        // Its answer has the mapping's address.
        _ = client.send([8], to: try address(Self.known), port: 9999)
        #expect(stranger.wait(seconds: 2))
        let back = stranger.receive()
        #expect(back.peer?.description == outside.peer && back.port == outside.port)
        #expect(try counted("homes.inbound") >= 1)
        // A port that nobody has a mapping on leads nowhere; nor does the other translation let strangers in.
        _ = stranger.send([7], to: try address("203.0.113.200"), port: 2000)
        let strict = try socket(.lan, "192.168.1.96")
        let other = try #require(try send(strict, to: server, "203.0.113.1", 7100))
        #expect(other.peer == "203.0.113.210")
        _ = stranger.send([7], to: try address(other.peer), port: other.port)
        #expect(!strict.wait(seconds: 0.5) && !client.wait(seconds: 0.2))
        // TCP: somebody connects to where another connection came from.
        let listener = try ProofSocket(network.namespace(.wan), .ipv4, isStream: true)
        try listener.bind(try address("203.0.113.1"), port: 7101, listen: true)
        let caller = try socket(.lan, "192.168.1.65", port: 6881, isStream: true)
        #expect(caller.connect(try address("203.0.113.1"), port: 7101) == 0)
        #expect(caller.wait(seconds: 3, writing: true) && caller.pendingError() == 0)
        #expect(listener.wait(seconds: 2))
        #expect(listener.accept()?.peer?.description == "203.0.113.200")
        // The same socket's port to another destination has the same port outside (RFC 5382, REQ-1).
        let far = try ProofSocket(network.namespace(.wan), .ipv4, isStream: true)
        try far.bind(try address(Self.known), port: 7102, listen: true)
        let again = try socket(.lan, "192.168.1.65", port: 6881, isStream: true)
        #expect(again.connect(try address(Self.known), port: 7102) == 0)
        #expect(far.wait(seconds: 2))
        let sessions =
            try JSON.parse(
                box.vcpectl("firewall", "sessions", "192.168.1.65", "--json").text.utf8
            ).list ?? []
        let ports = sessions.filter { $0["from"]?.text == "192.168.1.65:6881" }.compactMap { $0["translated"]?.text }
        #expect(ports.count == 2 && Set(ports).count == 1, "\(ports)")
        // Somebody calls back, by TCP.
        let inside = try ProofSocket(network.namespace(.lan), .ipv4, isStream: true)
        try inside.bind(try address("192.168.1.65"), port: 6881, listen: true)
        let outer = try #require(ports.first?.split(separator: ":").last.flatMap { Int($0) })
        let guest = try socket(.wan, Self.known, isStream: true)
        #expect(guest.connect(try address("203.0.113.200"), port: outer) == 0)
        #expect(inside.wait(seconds: 2))
        #expect(inside.accept()?.peer?.description == Self.known)
    }

    @Test func subscribersReachEachOtherByTheirAddressesOutside() throws {
        let server = try socket(.wan, "203.0.113.1", port: 7200)
        let (one, other) = (try socket(.lan, "192.168.1.64"), try socket(.lan, "192.168.1.65"))
        let outside = try #require(try send(other, to: server, "203.0.113.1", 7200))
        // Both are in one network here: they must not take the short way.
        let seen = try #require(try send(one, to: other, outside.peer, outside.port))
        // RFC 4787, REQ-9: by the address outside, too.
        #expect(seen.peer == "203.0.113.200" && (1024...2023).contains(seen.port), "\(seen)")
        _ = other.send([2], to: try address(seen.peer), port: seen.port)
        #expect(one.wait(seconds: 2))
        let answer = one.receive()
        #expect(answer.peer?.description == outside.peer && answer.port == outside.port)
    }

    @Test func whoHasUsedUpItsPortsIsToldSo() throws {
        let server = try socket(.wan, "203.0.113.1", port: 7300)
        var (clients, reached, refused): ([ProofSocket], Int, Int) = ([], 0, 0)
        for i in 0..<60 {
            // Of its own, too.
            let client = try socket(.lan, "192.168.1.96", port: 21_000 + i)
            clients.append(client)
            // Datagrams hear of hosts that can't be reached only when they ask for it (ip(7)).
            var on: Int32 = 1
            setsockopt(client.descriptor, Int32(IPPROTO_IP), IP_RECVERR, &on, socklen_t(MemoryLayout<Int32>.size))
            guard client.connect(try address("203.0.113.1"), port: 7300) == 0 else { continue }
            for _ in 0..<40 {
                let failure = client.send([1])
                if failure == EHOSTUNREACH || client.pendingError() == EHOSTUNREACH {
                    refused += 1
                    break
                }
                if server.wait(seconds: 0.02) {
                    _ = server.receive()
                    reached += 1
                    break
                }
            }
        }
        // Forty ports, forty connections; who comes after them is told by ICMP (RFC 6888, REQ-11).
        #expect(reached <= 40 && reached >= 30 && refused >= 5, "\(reached) reached, \(refused) refused")
        #expect(try counted("strict.refused") >= refused)
        // Others have theirs.
        #expect(try send(try socket(.lan, "192.168.1.64"), to: server, "203.0.113.1", 7300) != nil)
    }

    @Test func errorsAndEchoesFindTheirSubscriber() throws {
        let client = try socket(.lan, "192.168.1.64")
        #expect(client.connect(try address("203.0.113.1"), port: 7444) == 0)
        _ = client.send([1])
        // Nobody listens there: the error is of the packet outside, and the host inside hears of it (RFC 5508, REQ-4).
        #expect(client.wait(seconds: 2))
        #expect(client.pendingError() == ECONNREFUSED)
        for subscriber in ["192.168.1.64", "192.168.1.65"] {
            let result = try network.namespace(.lan).run {
                try Command("ping", ["-c", "2", "-i", "0.2", "-W", "2", "-I", subscriber, "203.0.113.1"]).run()
            }
            #expect(result.status == 0, "\(result.text)")
        }
    }

    @Test func aStunClientSaysEndpointIndependent() throws {
        let log = try File("\(box.folder)/turn.log", O_WRONLY | O_CREAT | O_TRUNC)
        let server = try network.namespace(.wan).run {
            try Command(
                "turnserver",
                [
                    "-n", "--stun-only", "-L", "203.0.113.1", "-L", Self.known, "--no-tls", "--no-dtls", "--no-cli",
                    "-l", "stdout", "--pidfile", "\(box.folder)/turn.pid", "--db", "\(box.folder)/turn.db",
                ]
            ).start(output: log)
        }
        defer { server.kill() }
        func discover(_ subscriber: String) throws -> String {
            try network.namespace(.lan).run {
                try Command("turnutils_natdiscovery", ["-m", "-f", "-L", subscriber, "203.0.113.1"]).begin().finish(
                    deadline: 60, limit: 1 << 20)
            }.text
        }
        var said = ""
        // The server may not listen on its second address yet.
        for _ in 0..<20 where !said.contains("RFC 5780 response 1") || said.contains("receive timeout") {
            usleep(200_000)
            said = try discover("192.168.1.70")
        }
        #expect(said.contains("NAT with Endpoint Independent Mapping!"), "\(said)")
        #expect(said.contains("NAT with Endpoint Independent Filtering!"), "\(said)")
        #expect(said.contains("UDP reflexive addr: 203.0.113.200:"), "\(said)")
        let strict = try discover("192.168.1.96")
        #expect(strict.contains("NAT with Endpoint Independent Mapping!"), "\(strict)")
        #expect(strict.contains("NAT with Address and Port Dependent Filtering!"), "\(strict)")
    }

    @Test func whoHadAPortLongAgoIsKnownByTheSiteOfThen() throws {
        func who(_ words: String...) throws -> String {
            let result = try box.run(["nat", "who", "203.0.113.200", "1500"] + words)
            return result.text + result.errorText
        }
        #expect(try who().contains("192.168.1.64"))
        sleep(2)
        let moved = Self.site().editing("subscribers: [192.168.1.64/28]", with: "subscribers: [192.168.1.80/29]")
        #expect(try box.apply(moved) == nil)
        #expect(try who().contains("192.168.1.80"))
        var before = timespec()
        clock_gettime(CLOCK_REALTIME, &before)
        var seconds = before.tv_sec - 2
        var parts = tm()
        gmtime_r(&seconds, &parts)
        var buffer = [CChar](repeating: 0, count: 40)
        strftime(&buffer, buffer.count, "%Y-%m-%dT%H:%M:%SZ", &parts)
        let then = String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        #expect(try who(then).contains("192.168.1.64"), "\(then)")
        #expect(try who("2099-01-01").contains("still to come"))
        #expect(try who("soon").contains("is no time"))
        // A pool that is too small is refused, and what stands goes on.
        let small = Self.site().editing("ports-per-subscriber: 1000", with: "ports-per-subscriber: 20000")
        let refusal = try #require(try box.apply(small))
        #expect(refusal.contains("16 subscribers with 20000 ports each"), "\(refusal)")
        #expect(try who().contains("192.168.1.80"))
    }
}
