import Documents
import Nftables
import Planning
import PluginKit

/// Follows packets of the box's own traffic through the table, by the kernel's word for each step.
final class Tracing {
    private struct Packet {
        var what: String
        var input: UInt32
        var output: UInt32
        var steps: [TraceEvent] = []
        var lastStep = 0
    }

    let user: String
    /// When it ends, in milliseconds of the kernel's time.
    private(set) var end: Int
    private let listener: TraceListener
    /// What the handles of steps mean.
    let rules: [UInt64: PlacedRule]
    private let most: Int
    private var packets: [UInt32: Packet] = [:]
    private var order: [UInt32] = []
    /// Nothing is marked any more.
    private(set) var isOver = false
    /// When it is forgotten though nobody asked for the rest.
    private static let patience = 5000

    /// When something is to be done, in milliseconds of the kernel's time.
    var due: Int { isOver ? end + Self.patience : end }

    func markOver() { (isOver, end) = (true, Uptime.milliseconds) }

    /// Has the end tried again a little later.
    func putOff() { end = Uptime.milliseconds + 1000 }

    /// How long a packet may stand still before its way is taken as gone, in milliseconds.
    private static let stillness = 400

    init(user: String, seconds: Int, packets most: Int, rules: [UInt64: PlacedRule]) throws {
        (self.user, self.most, self.rules) = (user, most, rules)
        end = Uptime.milliseconds + seconds * 1000
        listener = try TraceListener()
    }

    var descriptor: Int32 { listener.descriptor }

    func take() {
        for event in listener.events() {
            if packets[event.packet] == nil {
                // A packet whose beginning nobody saw says nothing.
                guard order.count < most, !event.network.isEmpty else { continue }
                order.append(event.packet)
                packets[event.packet] = Packet(
                    what: Self.words(event.network, event.transport), input: event.input, output: event.output)
                if order.count == most { end = min(end, Uptime.milliseconds + Self.stillness) }
            }
            packets[event.packet]?.steps.append(event)
            packets[event.packet]?.lastStep = Uptime.milliseconds
            if event.output != 0 { packets[event.packet]?.output = event.output }
        }
    }

    /// Those whose way is known to its end, once each.
    func finished(isOver: Bool) -> [(what: String, input: UInt32, output: UInt32, steps: [TraceEvent])] {
        let done = order.filter { id in
            guard let packet = packets[id], !packet.steps.isEmpty else { return false }
            return isOver || Uptime.milliseconds - packet.lastStep >= Self.stillness
        }
        return done.compactMap { id in
            guard let packet = packets[id] else { return nil }
            packets[id]?.steps = []
            return (packet.what, packet.input, packet.output, packet.steps)
        }
    }

    /// What its headers say of a packet.
    private struct Headers {
        let from: IPAddress
        let to: IPAddress
        let transport: UInt8
        var ports: (from: Int, to: Int)?

        init?(_ network: [UInt8], _ transport: [UInt8]) {
            let isIPv4 = network.first.map { $0 >> 4 } == 4
            let (start, length) = isIPv4 ? (12, 4) : (8, 16)
            guard network.count >= start + 2 * length, let from = IPAddress(network[start..<start + length]),
                let to = IPAddress(network[start + length..<start + 2 * length])
            else { return nil }
            (self.from, self.to, self.transport) = (from, to, isIPv4 ? network[9] : network[6])
            func port(_ place: Int) -> Int { Int(transport[place]) << 8 | Int(transport[place + 1]) }
            if [6, 17, 132].contains(self.transport), transport.count >= 4 { ports = (port(0), port(2)) }
        }

        var name: String {
            let names: [UInt8: String] = [1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6", 132: "sctp"]
            return names[transport] ?? "\(transport)"
        }
    }

    /// A packet in the words of those who know it by its headers.
    private static func words(_ network: [UInt8], _ transport: [UInt8]) -> String {
        guard let headers = Headers(network, transport) else { return "a packet" }
        let name = headers.name.first?.isNumber == true ? "protocol \(headers.name)" : headers.name
        guard let ports = headers.ports else { return "\(name) \(headers.from) > \(headers.to)" }
        func end(_ address: IPAddress, _ port: Int) -> String {
            address.family == .ipv4 ? "\(address):\(port)" : "[\(address)]:\(port)"
        }
        return "\(name) \(end(headers.from, ports.from)) > \(end(headers.to, ports.to))"
    }

    /// The same packet as one that is supposed to come by an interface.
    static func supposed(_ first: TraceEvent?, by input: String?) -> SupposedPacket? {
        guard let first, let input, let headers = Headers(first.network, first.transport) else { return nil }
        var packet = SupposedPacket(
            input: input, source: headers.from, destination: headers.to, transport: headers.name,
            port: headers.ports?.to)
        packet.sourcePort = headers.ports?.from
        return packet
    }
}
