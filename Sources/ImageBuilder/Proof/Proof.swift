import Addresses
import Documents
import PluginKit

/// A test with real packets: what one side sends to another, and what the test must observe.
public struct Proof: Sendable, Hashable {
    /// A side of the test network, or the box between them.
    public enum Endpoint: String, Sendable, Hashable, CaseIterable { case lan, wan, box }

    public enum Probe: Sendable, Hashable {
        case tcp(port: Int)
        case udp(port: Int)
        case ping
        /// A DNS query for a name to the box.
        case resolve(String)
        /// A DHCP request to the box.
        case lease
    }

    public enum Outcome: String, Sendable, Hashable, CaseIterable {
        /// The other side answers.
        case answered
        /// No answer returns, and nothing arrives.
        case dropped
        /// The box answers with a reset or an ICMP error.
        case rejected
    }

    public var name: String
    public var from: Endpoint
    public var to: Endpoint
    public var family: IPAddress.Family
    public var probe: Probe
    public var outcome: Outcome
    /// The owner of the source address that the other side observes.
    public var sourceSeen: Endpoint?
    /// The side at which packets to the box arrive: those of a forwarded port.
    public var arrivesAt: Endpoint?
    /// The destination port there, if it is different.
    public var arrivesAtPort: Int?
    /// What a TCP service of the box sends first, or at least its beginning, such as `SSH-2.0`.
    public var greeting: String?
}

extension Proof {
    static var shape: Shape<Proof> { .mapping("a proof") { fields in read(&fields) } }

    private static func endpoint(_ allowed: [Endpoint]) -> Shape<Endpoint> {
        Shape<String>.oneOf(allowed.map(\.rawValue)).map { Endpoint(rawValue: $0) }
    }

    // One step a line, with types: Swift 6.0 gives up on larger expressions.
    private static func read(_ fields: inout Fields) -> Proof? {
        let name: String? = fields.required("name", .text)
        let from: Endpoint? = fields.required("from", endpoint([.lan, .wan]))
        let to: Endpoint? = fields.optional("to", endpoint(Endpoint.allCases))
        let version: Int? = fields.optional("ip", .integer(4...6))
        let outcomes = Shape<String>.oneOf(Outcome.allCases.map(\.rawValue)).map { Outcome(rawValue: $0) }
        let outcome: Outcome? = fields.optional("expect", outcomes)
        let sourceSeen: Endpoint? = fields.optional("source-seen", endpoint(Endpoint.allCases))
        let arrivesAt: Endpoint? = fields.optional("arrives-at", endpoint([.lan, .wan]))
        let arrivesAtPort: Int? = fields.optional("arrives-at-port", .integer(1...65535))
        let greeting: String? = fields.optional("greeting", .text)
        let probe: Probe? = readProbe(&fields)
        let given = ["tcp", "udp", "ping", "resolve", "lease"].filter { fields.has($0) }
        if given.count != 1 {
            let found = given.isEmpty ? "no probe" : given.joined(separator: " and ")
            fields.problems.add(
                fields.node, fields.path, "found \(found), allowed is exactly one of tcp, udp, ping, resolve and lease",
                hint: "write one proof for each of them")
        }
        // Only the box's own TCP service greets: elsewhere the test itself is the server.
        if greeting != nil, !fields.has("tcp") || (to ?? .box) != .box || arrivesAt != nil {
            fields.problems.add(
                fields.node, "\(fields.path).greeting", "found greeting, allowed only with tcp to the box itself",
                hint: "remove greeting, or to and arrives-at")
        }
        guard let name, let from, let probe else { return nil }
        return Proof(
            name: name, from: from, to: to ?? .box, family: version == 6 ? .ipv6 : .ipv4, probe: probe,
            outcome: outcome ?? .answered, sourceSeen: sourceSeen, arrivesAt: arrivesAt, arrivesAtPort: arrivesAtPort,
            greeting: greeting)
    }

    private static func readProbe(_ fields: inout Fields) -> Probe? {
        let tcp: Int? = fields.optional("tcp", .integer(1...65535))
        let udp: Int? = fields.optional("udp", .integer(1...65535))
        let ping: Bool? = fields.optional("ping", .boolean)
        let name: String? = fields.optional("resolve", .text)
        let lease: Bool? = fields.optional("lease", .boolean)
        if let tcp { return .tcp(port: tcp) }
        if let udp { return .udp(port: udp) }
        if let name { return .resolve(name) }
        if ping == true { return .ping }
        return lease == true ? .lease : nil
    }
}
