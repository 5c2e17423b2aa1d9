import Addresses
import Documents
import PluginKit

/// One thing that must be seen with real packets: who sends what to whom, and what must come of it.
public struct Proof: Sendable, Hashable {
    public enum Place: String, Sendable, Hashable, CaseIterable { case lan, wan, box }

    public enum Probe: Sendable, Hashable {
        case tcp(port: Int)
        case udp(port: Int)
        case ping
        /// A name is asked of the box.
        case resolve(String)
        /// An address is asked of the box by DHCP.
        case lease
    }

    public enum Outcome: String, Sendable, Hashable, CaseIterable {
        /// The other side answers.
        case answered
        /// Nothing comes back, and nothing arrives.
        case dropped
        /// The box says no: a reset or an ICMP error.
        case rejected
    }

    public var name: String
    public var from: Place
    public var to: Place
    public var family: IPAddress.Family
    public var probe: Probe
    public var outcome: Outcome
    /// Whose address the other side sees as the source.
    public var sourceSeen: Place?
    /// Where packets to the box arrive.
    public var arrivesAt: Place?
    /// The port there, when it is another.
    public var arrivesAtPort: Int?
}

extension Proof {
    static var shape: Shape<Proof> { .mapping("a proof") { fields in read(&fields) } }

    private static func place(_ places: [Place]) -> Shape<Place> {
        Shape<String>.oneOf(places.map(\.rawValue)).map { Place(rawValue: $0) }
    }

    // Step by step, and with types: older compilers lose themselves in it otherwise.
    private static func read(_ fields: inout Fields) -> Proof? {
        let name: String? = fields.required("name", .text)
        let from: Place? = fields.required("from", place([.lan, .wan]))
        let to: Place? = fields.optional("to", place(Place.allCases))
        let version: Int? = fields.optional("ip", .integer(4...6))
        let outcomes = Shape<String>.oneOf(Outcome.allCases.map(\.rawValue)).map { Outcome(rawValue: $0) }
        let outcome: Outcome? = fields.optional("expect", outcomes)
        let sourceSeen: Place? = fields.optional("source-seen", place(Place.allCases))
        let arrivesAt: Place? = fields.optional("arrives-at", place([.lan, .wan]))
        let arrivesAtPort: Int? = fields.optional("arrives-at-port", .integer(1...65535))
        let probe: Probe? = readProbe(&fields)
        let given = ["tcp", "udp", "ping", "resolve", "lease"].filter { fields.has($0) }
        if given.count != 1 {
            let what = given.isEmpty ? "nothing is sent" : given.joined(separator: " and ") + " together"
            fields.problems.add(
                fields.node, fields.path, what, hint: "give exactly one of tcp, udp, ping, resolve and lease")
        }
        guard let name, let from, let probe else { return nil }
        return Proof(
            name: name, from: from, to: to ?? .box, family: version == 6 ? .ipv6 : .ipv4, probe: probe,
            outcome: outcome ?? .answered, sourceSeen: sourceSeen, arrivesAt: arrivesAt, arrivesAtPort: arrivesAtPort)
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
