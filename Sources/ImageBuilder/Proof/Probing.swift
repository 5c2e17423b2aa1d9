import Addresses
import Files
import Glibc
import Processes

/// What came of a proof.
public struct ProofResult: Sendable {
    public var proof: Proof
    public var passed: Bool
    /// What was seen, for people.
    public var seen: String
}

/// Sends a proof's packets and looks at both ends.
struct Probing {
    let network: ProofNetwork
    /// The box's address on the WAN, as seen there.
    let boxOnWAN: IPAddress?

    /// Seconds to wait for what must not come.
    private static let patience = 2.0

    func run(_ proof: Proof) throws -> ProofResult {
        // Emulation may lose a packet: what must be answered gets several tries, what must not be none.
        var result = try attempt(proof)
        for _ in 0..<4 where proof.outcome == .answered && !result.passed {
            usleep(500_000)
            result = try attempt(proof)
        }
        return result
    }

    private func attempt(_ proof: Proof) throws -> ProofResult {
        switch proof.probe {
        case .tcp(let port): try tcp(proof, port)
        case .udp(let port): try udp(proof, port)
        case .ping: try ping(proof)
        case .resolve(let name): try resolve(proof, name)
        case .lease: try lease(proof)
        }
    }

    // MARK: - Addresses

    private func address(of place: Proof.Place, seenFrom: Proof.Place, _ family: IPAddress.Family) throws -> IPAddress {
        if place == .box {
            let side = try network.side(seenFrom)
            let known = family == .ipv4 ? side.box4 ?? (seenFrom == .wan ? boxOnWAN : nil) : side.box6
            guard let known else {
                throw BuildFailure("the box's address on the side \(seenFrom.rawValue) is not known")
            }
            return known
        }
        let side = try network.side(place)
        return family == .ipv4 ? side.host4 : side.host6
    }

    private func target(_ proof: Proof) throws -> IPAddress {
        // From the LAN, a forwarded port is asked for by the outside address: that is what hairpin is for.
        if proof.to == .box, proof.arrivesAt != nil, proof.from == .lan, let outside = boxOnWAN { return outside }
        return try address(of: proof.to, seenFrom: proof.from, proof.family)
    }

    private static func any(_ family: IPAddress.Family) -> IPAddress {
        IPAddress([UInt8](repeating: 0, count: family.length)).unsafelyUnwrapped
    }

    /// Where the packets must come out, if anywhere.
    private func arrival(_ proof: Proof, _ port: Int) -> (place: Proof.Place, port: Int)? {
        let place = proof.arrivesAt ?? (proof.to == .box ? nil : proof.to)
        return place.map { ($0, proof.arrivesAtPort ?? port) }
    }

    private func isExpectedSource(_ peer: IPAddress?, _ proof: Proof, at place: Proof.Place) throws -> Bool {
        guard let wanted = proof.sourceSeen else { return true }
        if wanted == .box {
            if place == .wan, proof.family == .ipv4 { return peer != nil && peer == boxOnWAN }
            return try peer == address(of: .box, seenFrom: place, proof.family)
        }
        return try peer == address(of: wanted, seenFrom: place, proof.family)
    }

    private static func text(_ code: Int32) -> String { String(cString: strerror(code)) }

    // MARK: - TCP

    private func tcp(_ proof: Proof, _ port: Int) throws -> ProofResult {
        let arrival = arrival(proof, port)
        let server = try arrival.map { arrival in
            let socket = try ProofSocket(network.namespace(arrival.place), proof.family, isStream: true)
            try socket.bind(Self.any(proof.family), port: arrival.port, listen: true)
            return socket
        }
        let client = try ProofSocket(network.namespace(proof.from), proof.family, isStream: true)
        var failure = client.connect(try target(proof), port: port)
        let isDone = client.wait(seconds: proof.outcome == .answered ? 4 : Self.patience, writing: true)
        if isDone, failure == 0 { failure = client.pendingError() }
        let caller = server?.wait(seconds: isDone && failure == 0 ? 2 : 0.01) == true ? server?.accept() : nil
        guard isDone, failure == 0 else {
            let outcome: Proof.Outcome = isDone ? .rejected : .dropped
            let seen =
                isDone ? "refused: \(Self.text(failure))" : caller == nil ? "no answer" : "no answer, but it arrived"
            return ProofResult(proof: proof, passed: outcome == proof.outcome && caller == nil, seen: seen)
        }
        guard let caller else {
            return ProofResult(proof: proof, passed: false, seen: "answered, but not by the host that should")
        }
        // Both ways, not the handshake alone.
        _ = client.send(Array("there".utf8))
        let there = caller.socket.wait(seconds: 3) && caller.socket.receive().bytes == Array("there".utf8)
        _ = caller.socket.send(Array("back".utf8))
        let back = client.wait(seconds: 3) && client.receive().bytes == Array("back".utf8)
        let isSource = try isExpectedSource(caller.peer, proof, at: arrival?.place ?? proof.to)
        return ProofResult(
            proof: proof, passed: proof.outcome == .answered && there && back && isSource,
            seen: "answered, source \(caller.peer.map(\.description) ?? "unknown")")
    }

    // MARK: - UDP

    private func udp(_ proof: Proof, _ port: Int) throws -> ProofResult {
        let arrival = arrival(proof, port)
        let server = try arrival.map { arrival in
            // A server of this network may hold the port for all addresses: ours is the host's own.
            let socket = try ProofSocket(network.namespace(arrival.place), proof.family, isStream: false)
            try socket.bind(
                try address(of: arrival.place, seenFrom: proof.from, proof.family), port: arrival.port, listen: false)
            return socket
        }
        let client = try ProofSocket(network.namespace(proof.from), proof.family, isStream: false)
        var failure = client.connect(try target(proof), port: port)
        // A question that a resolver would answer, whoever listens there.
        if failure == 0 { failure = client.send(DNSQuery(name: "probe.example.test").bytes) }
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
                seen: hasArrived ? "no answer, but it arrived" : "no answer")
        }
        let isSource = try server == nil || isExpectedSource(peer, proof, at: arrival?.place ?? proof.to)
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
        let isRefused =
            result.text.contains("nreachable") || result.text.contains("iltered") || result.text.contains("rohibited")
        let outcome: Proof.Outcome = result.status == 0 ? .answered : isRefused ? .rejected : .dropped
        return ProofResult(
            proof: proof, passed: outcome == proof.outcome, seen: outcome == .dropped ? "no answer" : outcome.rawValue)
    }

    private func resolve(_ proof: Proof, _ name: String) throws -> ProofResult {
        let client = try ProofSocket(network.namespace(proof.from), proof.family, isStream: false)
        let query = DNSQuery(name: name)
        var failure = client.connect(try address(of: .box, seenFrom: proof.from, proof.family), port: 53)
        if failure == 0 { failure = client.send(query.bytes) }
        guard failure == 0, client.wait(seconds: 3) else {
            return ProofResult(proof: proof, passed: proof.outcome == .dropped, seen: "no answer")
        }
        let message = client.receive()
        guard message.error == 0, let address = query.address(in: message.bytes) else {
            return ProofResult(
                proof: proof, passed: false,
                seen: message.error != 0 ? Self.text(message.error) : "no address in the answer")
        }
        let isRight = name != ProofNetwork.knownName.name || address.description == ProofNetwork.knownName.address
        return ProofResult(proof: proof, passed: proof.outcome == .answered && isRight, seen: "\(name) is \(address)")
    }

    private func lease(_ proof: Proof) throws -> ProofResult {
        let side = try network.side(proof.from)
        guard let address = try DHCPProbe(namespace: network.namespace(proof.from), link: proof.from.rawValue).ask()
        else {
            return ProofResult(proof: proof, passed: proof.outcome == .dropped, seen: "no offer")
        }
        return ProofResult(
            proof: proof, passed: proof.outcome == .answered && side.network4.contains(address), seen: "lent \(address)"
        )
    }
}

/// A question for an IPv4 address (RFC 1035).
struct DNSQuery {
    let bytes: [UInt8]

    init(name: String) {
        var bytes: [UInt8] = [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]
        for label in name.split(separator: ".") { bytes += [UInt8(label.utf8.count)] + Array(label.utf8) }
        self.bytes = bytes + [0, 0, 1, 0, 1]
    }

    /// The first address of an answer.
    func address(in answer: [UInt8]) -> IPAddress? {
        guard answer.count > bytes.count, answer[0] == bytes[0], answer[1] == bytes[1], answer[7] > 0 else {
            return nil
        }
        var position = bytes.count
        while position + 12 <= answer.count {
            // A name is a pointer to the question's, or written out.
            if answer[position] & 0xC0 == 0xC0 {
                position += 2
            } else {
                while position < answer.count, answer[position] != 0 { position += Int(answer[position]) + 1 }
                position += 1
            }
            guard position + 10 <= answer.count else { return nil }
            let type = answer[position + 1]
            let length = Int(answer[position + 8]) << 8 | Int(answer[position + 9])
            position += 10
            guard position + length <= answer.count else { return nil }
            if type == 1, length == 4 { return IPAddress(answer[position..<position + 4]) }
            position += length
        }
        return nil
    }
}

/// Asks for an address by DHCP, as a new host does (RFC 2131): discover, request.
struct DHCPProbe {
    let namespace: NetworkNamespace
    let link: String

    private static let mac: [UInt8] = [0x02, 0, 0, 0, 0, 0x77]

    /// - Returns: what was lent.
    func ask() throws -> IPAddress? {
        guard let any = IPAddress("0.0.0.0"), let all = IPAddress("255.255.255.255") else { return nil }
        let socket = try ProofSocket(namespace, .ipv4, isStream: false)
        socket.useLinkAlone(link)
        try socket.bind(any, port: 68, listen: false)
        _ = socket.send(message([53, 1, 1]), to: all, port: 67)
        guard let offer = answer(socket, type: 2) else { return nil }
        _ = socket.send(message([53, 1, 3, 50, 4] + offer.address.bytes + [54, 4] + offer.server), to: all, port: 67)
        return answer(socket, type: 5)?.address
    }

    private func message(_ options: [UInt8]) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: 236)
        (bytes[0], bytes[1], bytes[2]) = (1, 1, 6)
        bytes.replaceSubrange(4..<8, with: [0x76, 0x63, 0x70, 0x65])
        // The answer is to be broadcast: this host has no address yet.
        bytes[10] = 0x80
        bytes.replaceSubrange(28..<34, with: Self.mac)
        return bytes + [0x63, 0x82, 0x53, 0x63] + options + [255]
    }

    private func answer(_ socket: ProofSocket, type: UInt8) -> (address: IPAddress, server: [UInt8])? {
        let end = Clock.seconds + 5
        while Clock.seconds < end, socket.wait(seconds: end - Clock.seconds) {
            let bytes = socket.receive().bytes
            guard bytes.count > 240, Array(bytes[28..<34]) == Self.mac, let address = IPAddress(bytes[16..<20]) else {
                continue
            }
            var (kind, server): (UInt8, [UInt8]) = (0, [])
            var position = 240
            while position + 1 < bytes.count, bytes[position] != 255 {
                if bytes[position] == 0 {
                    position += 1
                    continue
                }
                let length = Int(bytes[position + 1])
                guard position + 2 + length <= bytes.count else { break }
                let value = Array(bytes[position + 2..<position + 2 + length])
                if bytes[position] == 53, length == 1 { kind = value[0] }
                if bytes[position] == 54 { server = value }
                position += 2 + length
            }
            if kind == type { return (address, server) }
        }
        return nil
    }
}
