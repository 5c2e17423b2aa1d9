import Addresses
import CSystem
@testable import Engine
import Files
import Glibc
import Nftables
import Planning
import Processes

/// A router of its own: the interfaces of ``RandomPolicy`` as veth pairs in a network namespace. What is sent into a far end
/// arrives at the interface; what the router forwards is addressed to nobody there.
final class KernelNetwork {
    private let namespace: NetworkNamespace
    private let driver: FilterTable
    private let connection: Connection
    private let ends: [File]
    /// Connections that the kernel may know of.
    private var known: Set<Connected> = []

    /// What the kernel knows a connection by: of protocols without ports, the addresses alone.
    private struct Connected: Hashable {
        var source: IPAddress
        var destination: IPAddress
        var transport: Int
        var sourcePort = 0
        var port = 0

        init(_ packet: TestPacket, isReply: Bool = false) {
            (source, destination, transport) = (packet.source, packet.destination, packet.transport)
            if [6, 17, 132].contains(transport) { (sourcePort, port) = (packet.sourcePort, packet.port) }
            if isReply { (source, destination, sourcePort, port) = (destination, source, port, sourcePort) }
        }
    }

    /// Whether no rule is asked of a packet, since it answers one that was sent before.
    func isReply(_ packet: TestPacket) -> Bool { known.contains(Connected(packet, isReply: true)) }

    init() throws {
        let namespace = try NetworkNamespace()
        self.namespace = namespace
        var lines = [
            "echo 1 > /proc/sys/net/ipv4/ip_forward", "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding",
            "for f in all default; do echo 0 > /proc/sys/net/ipv4/conf/$f/rp_filter; echo 0 > /proc/sys/net/ipv4/conf/$f/send_redirects; done",
            "echo 1 > /proc/sys/net/ipv6/conf/default/addr_gen_mode",
        ]
        for (i, name) in RandomPolicy.interfaces.enumerated() {
            lines += [
                "ip link add \(name) address 02:00:00:00:01:0\(i) type veth peer name far-\(name)",
                "ip link set \(name) arp off up", "ip link set far-\(name) arp off up",
                "ip route add 10.\(i).0.0/16 dev \(name)", "ip -6 route add fd00:\(i)::/32 dev \(name)",
            ]
        }
        (driver, connection, ends) = try namespace.run {
            try Command("sh", ["-ec", lines.joined(separator: "\n")]).check()
            let ends = try RandomPolicy.interfaces.map { name -> File in
                let descriptor = csystem_packet_socket("far-\(name)")
                guard descriptor >= 0 else { throw SystemError("socket(AF_PACKET)", name) }
                return File(descriptor: descriptor, path: name)
            }
            return (try FilterTable(), try Connection(), ends)
        }
    }

    func apply(_ table: TablePlan) throws { try driver.apply(table) }

    /// Packets by counter.
    func counters() throws -> [String: Int] {
        try connection.counters(table: PacketPath.table).mapValues { Int($0.packets) }
    }

    /// What conntrack(8) lists.
    func connections() throws -> String {
        try namespace.run { try Command("conntrack", ["-L"]).check().text }
    }

    /// The router's own packets over UDP, of one socket with a mark (SO_MARK of socket(7)).
    func sendMarked(_ mark: Int, from: Int, to address: String, port: Int, times: Int) throws {
        let script = """
            import socket, sys
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            s.setsockopt(socket.SOL_SOCKET, 36, \(mark))
            s.bind(("0.0.0.0", \(from)))
            for _ in range(\(times)): s.sendto(b"x", ("\(address)", \(port)))
            """
        try namespace.run {
            _ = try Command("ip", ["addr", "replace", "10.2.0.1/32", "dev", RandomPolicy.interfaces[2]]).check()
            _ = try Command("python3", ["-c", script]).check()
        }
    }

    func send(_ packet: TestPacket) throws {
        known.insert(Connected(packet))
        let frame = [2, 0, 0, 0, 1, UInt8(packet.input)] + [2, 0, 0, 0, 0, 9] + Self.network(packet)
        guard Glibc.send(ends[packet.input].descriptor, frame, frame.count, 0) == frame.count else {
            throw SystemError("send", ends[packet.input].path)
        }
    }

    // MARK: - Frames

    private static func words(_ numbers: Int...) -> [UInt8] {
        numbers.flatMap { [UInt8(truncatingIfNeeded: $0 >> 8), UInt8(truncatingIfNeeded: $0)] }
    }

    /// RFC 1071.
    private static func checksum(_ bytes: [UInt8]) -> Int {
        var sum = 0
        for i in stride(from: 0, to: bytes.count, by: 2) {
            sum += Int(bytes[i]) << 8 | (i + 1 < bytes.count ? Int(bytes[i + 1]) : 0)
        }
        while sum > 0xFFFF { sum = sum >> 16 + sum & 0xFFFF }
        return ~sum & 0xFFFF
    }

    private static func put(_ sum: Int, _ place: Int, _ bytes: inout [UInt8]) {
        bytes.replaceSubrange(place..<place + 2, with: words(sum))
    }

    private static func network(_ packet: TestPacket) -> [UInt8] {
        let isIPv4 = packet.source.family == .ipv4
        var body = transport(packet)
        let ends = packet.source.bytes + packet.destination.bytes
        let pseudo = ends + words(0, body.count, 0, packet.transport)
        switch packet.transport {
        case 1: put(checksum(body), 2, &body)
        case 6: put(checksum(pseudo + body), 16, &body)
        case 17:
            // A sum of zero is written as all ones: zero means that there is none (RFC 768).
            let sum = checksum(pseudo + body)
            put(sum == 0 ? 0xFFFF : sum, 6, &body)
        default: break
        }
        if isIPv4 {
            var header = words(0x4500, 20 + body.count, 1, 0, 64 << 8 | packet.transport, 0) + ends
            put(checksum(header), 10, &header)
            return [8, 0] + header + body
        }
        return [0x86, 0xDD] + words(0x6000, 0, body.count, packet.transport << 8 | 64) + ends + body
    }

    private static func transport(_ packet: TestPacket) -> [UInt8] {
        let ports = words(packet.sourcePort, packet.port)
        switch packet.transport {
        case 1: return words(0x0800, 0, packet.sourcePort, 1)
        // The first of a connection.
        case 6: return ports + words(0, 1, 0, 0, 0x5002, 1024, 0, 0)
        case 17: return ports + words(8, 0)
        case 132:
            // INIT (RFC 9260, section 3.3.2), with CRC32c over all of it.
            var packet = ports + words(0, 0, 0, 0, 0x0100, 20, 0, 7, 1, 0, 1, 1, 0, 1)
            var crc: UInt32 = .max
            for byte in packet {
                crc ^= UInt32(byte)
                for _ in 0..<8 { crc = crc & 1 == 1 ? crc >> 1 ^ 0x82F6_3B78 : crc >> 1 }
            }
            for i in 0..<4 { packet[8 + i] = UInt8(truncatingIfNeeded: ~crc >> UInt32(8 * i)) }
            return packet
        default: return words(0, 0x0800, 1, 1, 1, 1)
        }
    }
}
