import Addresses
import Files
import Glibc
import Processes

/// The result of a proof.
public struct ProofResult: Sendable {
    public var proof: Proof
    public var passed: Bool
    /// What the test observed, in words.
    public var seen: String
    /// How long it took, in seconds.
    public var seconds = 0.0
}

/// Sends a proof's packets and observes both ends.
struct Probing {
    let network: ProofNetwork
    /// The box's IPv4 address on the WAN, where the plan has none; nil when it is not known.
    let boxOnWAN: IPAddress?

    /// Seconds to wait for packets that must not arrive.
    private static let patience = 2.0

    func run(_ proof: Proof) throws -> ProofResult {
        // A slow box may lose a packet: a proof that expects an answer gets five attempts, others
        // get one.
        let begin = Clock.seconds
        var result = try attempt(proof)
        for _ in 0..<4 where proof.outcome == .answered && !result.passed {
            usleep(500_000)
            result = try attempt(proof)
        }
        result.seconds = Clock.seconds - begin
        return result
    }

    /// One attempt, for proofs whose failure is expected.
    func attempt(_ proof: Proof) throws -> ProofResult {
        switch proof.probe {
        case .tcp(let port): try tcp(proof, port)
        case .udp(let port): try udp(proof, port)
        case .ping: try ping(proof)
        case .resolve(let name): try resolve(proof, name)
        case .lease: try lease(proof)
        }
    }

    // MARK: - Addresses

    private func address(of endpoint: Proof.Endpoint, seenFrom: Proof.Endpoint, _ family: IPAddress.Family) throws
        -> IPAddress
    {
        if endpoint == .box {
            let side = try network.side(seenFrom)
            let known = family == .ipv4 ? side.box4 ?? (seenFrom == .wan ? boxOnWAN : nil) : side.box6
            guard let known else {
                throw BuildFailure("the box has no known \(family) address on the \(seenFrom.rawValue)")
            }
            return known
        }
        let side = try network.side(endpoint)
        return family == .ipv4 ? side.host4 : side.host6
    }

    private func target(_ proof: Proof) throws -> IPAddress {
        // A LAN host reaches a forwarded port by the outside address: hairpin NAT (RFC 4787,
        // REQ-9).
        if proof.to == .box, proof.arrivesAt != nil, proof.from == .lan, let outside = boxOnWAN { return outside }
        return try address(of: proof.to, seenFrom: proof.from, proof.family)
    }

    private static func any(_ family: IPAddress.Family) -> IPAddress {
        IPAddress([UInt8](repeating: 0, count: family.length)).unsafelyUnwrapped
    }

    /// The side and port at which the packets must arrive; nil for the box itself.
    private func arrival(_ proof: Proof, _ port: Int) -> (endpoint: Proof.Endpoint, port: Int)? {
        let endpoint = proof.arrivesAt ?? (proof.to == .box ? nil : proof.to)
        return endpoint.map { ($0, proof.arrivesAtPort ?? port) }
    }

    private func isExpectedSource(_ peer: IPAddress?, _ proof: Proof, at endpoint: Proof.Endpoint) throws -> Bool {
        guard let wanted = proof.sourceSeen else { return true }
        if wanted == .box {
            if endpoint == .wan, proof.family == .ipv4 { return peer != nil && peer == boxOnWAN }
            return try peer == address(of: .box, seenFrom: endpoint, proof.family)
        }
        return try peer == address(of: wanted, seenFrom: endpoint, proof.family)
    }

    private static func text(_ code: Int32) -> String { String(cString: strerror(code)) }

    /// The sender's own kernel refused to send, for lack of a route or an address: no packet was
    /// sent, and that is neither the box's refusal nor a drop.
    private static func notSent(_ proof: Proof, _ code: Int32) -> ProofResult? {
        guard [ENETUNREACH, EADDRNOTAVAIL, EINVAL, EPERM].contains(code) else { return nil }
        return ProofResult(proof: proof, passed: false, seen: "not sent: \(text(code))")
    }

    // MARK: - TCP

    private func tcp(_ proof: Proof, _ port: Int) throws -> ProofResult {
        let arrival = arrival(proof, port)
        let server = try arrival.map { arrival in
            let socket = try ProofSocket(network.namespace(arrival.endpoint), proof.family, isStream: true)
            try socket.bind(Self.any(proof.family), port: arrival.port, listen: true)
            return socket
        }
        let client = try ProofSocket(network.namespace(proof.from), proof.family, isStream: true)
        var failure = client.connect(try target(proof), port: port)
        if let result = Self.notSent(proof, failure) { return result }
        let isDone = client.wait(seconds: proof.outcome == .answered ? 4 : Self.patience, writing: true)
        if isDone, failure == 0 { failure = client.pendingError() }
        let caller = server?.wait(seconds: isDone && failure == 0 ? 2 : 0.01) == true ? server?.accept() : nil
        guard isDone, failure == 0 else {
            let outcome: Proof.Outcome = isDone ? .rejected : .dropped
            let seen =
                isDone
                ? "refused: \(Self.text(failure))" : caller == nil ? "no answer" : "no answer, but the packet arrived"
            return ProofResult(proof: proof, passed: outcome == proof.outcome && caller == nil, seen: seen)
        }
        guard arrival != nil else { return service(proof, client) }
        guard let caller else {
            return ProofResult(proof: proof, passed: false, seen: "answered, but not by the expected host")
        }
        // Data in both directions, not only the handshake.
        _ = client.send(Array("there".utf8))
        let there = caller.socket.wait(seconds: 3) && caller.socket.receive().bytes == Array("there".utf8)
        _ = caller.socket.send(Array("back".utf8))
        let back = client.wait(seconds: 3) && client.receive().bytes == Array("back".utf8)
        let isSource = try isExpectedSource(caller.peer, proof, at: arrival?.endpoint ?? proof.to)
        return ProofResult(
            proof: proof, passed: proof.outcome == .answered && there && back && isSource,
            seen: "answered, source \(caller.peer.map(\.description) ?? "unknown")")
    }

    /// A connection to the box's own service is open. A service that speaks first must send its
    /// greeting.
    private func service(_ proof: Proof, _ client: ProofSocket) -> ProofResult {
        guard let greeting = proof.greeting else {
            // A proxy without a service behind it completes the handshake and closes.
            let isClosed = client.wait(seconds: 0.3) && client.receive().bytes.isEmpty
            return ProofResult(
                proof: proof, passed: proof.outcome == .answered && !isClosed,
                seen: isClosed ? "answered by the box, which closed the connection" : "answered by the box")
        }
        var received: [UInt8] = []
        let end = Clock.seconds + 5
        while received.count < greeting.utf8.count, Clock.seconds < end, client.wait(seconds: end - Clock.seconds) {
            let bytes = client.receive().bytes
            if bytes.isEmpty { break }
            received += bytes
        }
        let text = String(decoding: received.prefix(80), as: UTF8.self).filter { !$0.isNewline }
        return ProofResult(
            proof: proof,
            passed: proof.outcome == .answered && received.starts(with: Array(greeting.utf8)),
            seen: received.isEmpty ? "answered by the box, without a greeting" : "answered by the box: \(text)")
    }

    // MARK: - UDP

    private func udp(_ proof: Proof, _ port: Int) throws -> ProofResult {
        let arrival = arrival(proof, port)
        let server = try arrival.map { arrival in
            // The provider's dnsmasq may use the port on other addresses, so this binds only the
            // host's own.
            let socket = try ProofSocket(network.namespace(arrival.endpoint), proof.family, isStream: false)
            try socket.bind(
                try address(of: arrival.endpoint, seenFrom: proof.from, proof.family), port: arrival.port, listen: false
            )
            return socket
        }
        let client = try ProofSocket(network.namespace(proof.from), proof.family, isStream: false)
        var failure = client.connect(try target(proof), port: port)
        // A DNS query: the box's own resolver would answer it.
        if failure == 0 { failure = client.send(DNSQuery(name: "probe.example.test").bytes) }
        if let result = Self.notSent(proof, failure) { return result }
        var peer: IPAddress?
        var hasArrived = false
        if let server, server.wait(seconds: proof.outcome == .answered ? 3 : Self.patience) {
            let message = server.receive()
            (peer, hasArrived) = (message.peer, true)
            if let from = message.peer { _ = server.send(Array("back".utf8), to: from, port: message.port) }
        }
        let answered = failure == 0 && client.wait(seconds: hasArrived ? 3 : Self.patience)
        if answered {
            let message = client.receive()
            failure = message.error
        }
        if failure != 0 {
            return ProofResult(
                proof: proof, passed: proof.outcome == .rejected && !hasArrived, seen: "refused: \(Self.text(failure))")
        }
        guard answered else {
            return ProofResult(
                proof: proof, passed: proof.outcome == .dropped && !hasArrived,
                seen: hasArrived ? "no answer, but the packet arrived" : "no answer")
        }
        let isSource = try server == nil || isExpectedSource(peer, proof, at: arrival?.endpoint ?? proof.to)
        return ProofResult(
            proof: proof, passed: proof.outcome == .answered && isSource && (server == nil || hasArrived),
            seen: "answered" + (peer.map { ", source \($0)" } ?? ""))
    }

    // MARK: - Others

    private func ping(_ proof: Proof) throws -> ProofResult {
        let target = try target(proof)
        let result = try network.namespace(proof.from).run {
            try Command("ping", ["-n", "-c", "1", "-W", "2", target.description]).run()
        }
        // ping(8): 1 for no answer, 2 for any other error.
        guard result.status < 2 else {
            let error = result.errorText.split(whereSeparator: \.isNewline).last ?? "ping failed"
            return ProofResult(proof: proof, passed: false, seen: "not sent: \(error)")
        }
        let refusals = result.text.split(whereSeparator: \.isNewline).filter { line in
            ["nreachable", "iltered", "rohibited"].contains { line.contains($0) }
        }
        // An error from the sender's own address is that of its neighbour discovery.
        let own = try address(of: proof.from, seenFrom: proof.from, proof.family)
        let isRefused = refusals.contains { !$0.contains("From \(own) ") }
        let outcome: Proof.Outcome = result.status == 0 ? .answered : isRefused ? .rejected : .dropped
        return ProofResult(
            proof: proof, passed: outcome == proof.outcome, seen: outcome == .dropped ? "no answer" : outcome.rawValue)
    }

    private func resolve(_ proof: Proof, _ name: String) throws -> ProofResult {
        let client = try ProofSocket(network.namespace(proof.from), proof.family, isStream: false)
        let query = DNSQuery(name: name)
        var failure = client.connect(try address(of: .box, seenFrom: proof.from, proof.family), port: 53)
        if failure == 0 { failure = client.send(query.bytes) }
        if let result = Self.notSent(proof, failure) { return result }
        guard failure == 0, client.wait(seconds: 3) else {
            return ProofResult(proof: proof, passed: proof.outcome == .dropped, seen: "no answer")
        }
        let message = client.receive()
        if message.error != 0 {
            return ProofResult(
                proof: proof, passed: proof.outcome == .rejected, seen: "refused: \(Self.text(message.error))")
        }
        guard let address = query.address(in: message.bytes) else {
            return ProofResult(proof: proof, passed: false, seen: "no address in the answer")
        }
        let isRight = name != ProofNetwork.knownName.name || address.description == ProofNetwork.knownName.address
        return ProofResult(proof: proof, passed: proof.outcome == .answered && isRight, seen: "\(name) is \(address)")
    }

    private func lease(_ proof: Proof) throws -> ProofResult {
        let side = try network.side(proof.from)
        guard
            let address = try DHCPProbe(namespace: network.namespace(proof.from), link: proof.from.rawValue)
                .requestAddress()
        else {
            return ProofResult(proof: proof, passed: proof.outcome == .dropped, seen: "no offer")
        }
        return ProofResult(
            proof: proof, passed: proof.outcome == .answered && side.network4.contains(address),
            seen: "leased \(address)"
        )
    }
}
