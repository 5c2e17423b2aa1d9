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
    static var shape: Shape<Proof> {
        .mapping("a proof") { fields in
            let name = fields.required("name", .text)
            func place(_ key: String, _ places: [Place]) -> Place? {
                fields.optional(key, Shape.oneOf(places.map(\.rawValue)).map { Place(rawValue: $0) })
            }
            let from = fields.required("from", Shape.oneOf(["lan", "wan"]).map { Place(rawValue: $0) })
            let to = place("to", Place.allCases) ?? .box
            let version = fields.optional("ip", .integer(4...6)) ?? 4
            let tcp = fields.optional("tcp", .integer(1...65535))
            let udp = fields.optional("udp", .integer(1...65535))
            let ping = fields.optional("ping", Shape<Bool>.boolean)
            let resolve = fields.optional("resolve", .text)
            let lease = fields.optional("lease", Shape<Bool>.boolean)
            let outcome =
                fields.optional(
                    "expect", Shape.oneOf(Outcome.allCases.map(\.rawValue)).map { Outcome(rawValue: $0) }) ?? .answered
            let sourceSeen = place("source-seen", Place.allCases)
            let arrivesAt = place("arrives-at", [.lan, .wan])
            let arrivesAtPort = fields.optional("arrives-at-port", .integer(1...65535))
            let given = ["tcp", "udp", "ping", "resolve", "lease"].filter { fields.has($0) }
            if given.count != 1 {
                fields.problems.add(
                    fields.node, fields.path,
                    given.isEmpty ? "nothing is sent" : "\(given.joined(separator: " and ")) together",
                    hint: "give exactly one of tcp, udp, ping, resolve and lease")
            }
            let probe: Probe? =
                tcp.map { .tcp(port: $0) } ?? udp.map { .udp(port: $0) } ?? (ping == true ? .ping : nil)
                ?? resolve.map { .resolve($0) } ?? (lease == true ? .lease : nil)
            guard let name, let from, let probe else { return nil }
            return Proof(
                name: name, from: from, to: to, family: version == 6 ? .ipv6 : .ipv4, probe: probe, outcome: outcome,
                sourceSeen: sourceSeen, arrivesAt: arrivesAt, arrivesAtPort: arrivesAtPort)
        }
    }
}
