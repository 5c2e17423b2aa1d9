import Addresses
import PluginKit

/// A kind of probe packet: what `vcpe test` sends to both ports of the box from power-on.
public struct ProbePacket: Sendable, Hashable {
    public enum Form: String, Sendable, Hashable, CaseIterable {
        /// A datagram to ``ProbePacket/port``.
        case udp
        /// The first segment of a connection to ``ProbePacket/port``.
        case tcpSyn = "tcp-syn"
        /// A segment of a connection that was never opened.
        case tcpAck = "tcp-ack"
        /// An echo request.
        case icmp
        /// A datagram to ``ProbePacket/port`` in two fragments.
        case fragments
        /// A datagram whose source address does not belong to the sender's side.
        case spoofed
        /// A datagram in a frame with an 802.1Q tag, of a VLAN that the box does not have.
        case vlan
    }

    public var form: Form
    public var family: IPAddress.Family

    public init(form: Form, family: IPAddress.Family) { (self.form, self.family) = (form, family) }

    /// The destination port. Nothing else in the test network uses it.
    public static let port = 47_777
    /// The source port.
    private static let sourcePort = 47_778
    /// All kinds, in the order of the report.
    static let all: [ProbePacket] = IPAddress.Family.allCases.flatMap { family in
        Form.allCases.map { ProbePacket(form: $0, family: family) }
    }
    /// The kind whose arrival shows that the box forwards, and how long it paused.
    static let main = ProbePacket(form: .udp, family: .ipv4)
    /// The highest VLAN number (IEEE 802.1Q): no site of ours uses it.
    private static let vlan: UInt16 = 4094

    /// Addresses of a packet.
    struct Route {
        var sourceMAC: MACAddress
        /// The box's port.
        var boxMAC: MACAddress
        /// The first is the one of the fragments and the tagged frames.
        var sources: [IPAddress]
        var destination: IPAddress
        /// Source addresses that the box must not accept on this side.
        var foreignSources: [IPAddress]
    }

    /// The frames that carry the packet. Each is complete, with its Ethernet header.
    ///
    /// - Parameter origin: the side that sends; it is part of the mark by which the other side
    ///   recognizes the packet.
    func frames(from origin: Proof.Endpoint, _ route: Route) -> [[UInt8]] {
        let mark = Mark(kind: self, origin: origin).bytes
        switch form {
        case .udp:
            return route.sources.map { frame(route, udp($0, route.destination, mark), from: $0) }
        case .tcpSyn, .tcpAck:
            let flags: UInt8 = form == .tcpSyn ? 0x02 : 0x10
            return route.sources.map { frame(route, tcp($0, route.destination, mark, flags: flags), from: $0) }
        case .icmp:
            return route.sources.map { frame(route, echo($0, route.destination, mark), from: $0) }
        case .fragments:
            return route.sources.prefix(1).flatMap { fragments(route, mark, from: $0) }
        case .spoofed:
            return route.foreignSources.map { frame(route, udp($0, route.destination, mark), from: $0) }
        case .vlan:
            return route.sources.prefix(1).flatMap { source in
                let packet = frame(route, udp(source, route.destination, mark), from: source)
                let tag: [UInt8] = [0x81, 0x00] + Self.bytes(Self.vlan)
                let tagged = Array(packet[..<12]) + tag + Array(packet[12...])
                // To the box's port and to the broadcast address: a bridge port would forward the
                // second frame.
                return [tagged, [UInt8](repeating: 0xFF, count: 6) + Array(tagged[6...])]
            }
        }
    }

    // MARK: - Layers

    private var isIPv4: Bool { family == .ipv4 }
    private static let (udpNumber, tcpNumber): (UInt8, UInt8) = (17, 6)
    /// ICMP and ICMPv6.
    private var icmpNumber: UInt8 { isIPv4 ? 1 : 58 }

    private func frame(_ route: Route, _ payload: (number: UInt8, bytes: [UInt8]), from source: IPAddress) -> [UInt8] {
        ethernet(route) + ip(source, route.destination, payload.number, payload.bytes.count) + payload.bytes
    }

    private func ethernet(_ route: Route) -> [UInt8] {
        route.boxMAC.bytes + route.sourceMAC.bytes + (isIPv4 ? [0x08, 0x00] : [0x86, 0xDD])
    }

    /// The header (RFC 791, section 3.1; RFC 8200, section 3).
    ///
    /// - Parameter fragment: IPv4's flags and offset.
    private func ip(
        _ source: IPAddress, _ destination: IPAddress, _ number: UInt8, _ length: Int, fragment: UInt16 = 0,
        identification: UInt16 = 0
    ) -> [UInt8] {
        guard isIPv4 else {
            return [0x60, 0, 0, 0] + Self.bytes(UInt16(length)) + [number, 64] + source.bytes + destination.bytes
        }
        var header: [UInt8] = [0x45, 0] + Self.bytes(UInt16(20 + length)) + Self.bytes(identification)
        header += Self.bytes(fragment) + [64, number, 0, 0] + source.bytes + destination.bytes
        header.replaceSubrange(10..<12, with: Self.bytes(InternetChecksum.of(header)))
        return header
    }

    private func udp(_ source: IPAddress, _ destination: IPAddress, _ data: [UInt8]) -> (UInt8, [UInt8]) {
        var datagram = Self.bytes(UInt16(Self.sourcePort)) + Self.bytes(UInt16(Self.port))
        datagram += Self.bytes(UInt16(8 + data.count)) + [0, 0] + data
        let sum = InternetChecksum.of(datagram, Self.udpNumber, from: source, to: destination)
        // RFC 768: zero means "none".
        datagram.replaceSubrange(6..<8, with: Self.bytes(sum == 0 ? 0xFFFF : sum))
        return (Self.udpNumber, datagram)
    }

    /// A segment without data: its sequence and acknowledgment numbers are the mark.
    private func tcp(
        _ source: IPAddress, _ destination: IPAddress, _ mark: [UInt8], flags: UInt8
    ) -> (UInt8, [UInt8]) {
        var segment = Self.bytes(UInt16(Self.sourcePort)) + Self.bytes(UInt16(Self.port)) + mark
        segment += [0x50, flags, 0xFF, 0xFF, 0, 0, 0, 0]
        let sum = InternetChecksum.of(segment, Self.tcpNumber, from: source, to: destination)
        segment.replaceSubrange(16..<18, with: Self.bytes(sum))
        return (Self.tcpNumber, segment)
    }

    private func echo(_ source: IPAddress, _ destination: IPAddress, _ mark: [UInt8]) -> (UInt8, [UInt8]) {
        var message: [UInt8] = [isIPv4 ? 8 : 128, 0, 0, 0, 0x76, 0x63, 0, 1] + mark
        let sum =
            isIPv4
            ? InternetChecksum.of(message)
            : InternetChecksum.of(message, icmpNumber, from: source, to: destination)
        message.replaceSubrange(2..<4, with: Self.bytes(sum))
        return (icmpNumber, message)
    }

    private func fragments(_ route: Route, _ mark: [UInt8], from source: IPAddress) -> [[UInt8]] {
        // Both halves carry the mark. All but the last fragment have a multiple of eight bytes.
        let (number, datagram) = udp(source, route.destination, mark + mark + mark)
        let parts = [Array(datagram[..<16]), Array(datagram[16...])]
        return parts.enumerated().map { i, part in
            let (offset, hasMore): (UInt16, Bool) = (UInt16(i * 2), i == 0)
            if isIPv4 {
                let header = ip(
                    source, route.destination, number, part.count, fragment: (hasMore ? 0x2000 : 0) | offset,
                    identification: 0x7663)
                return ethernet(route) + header + part
            }
            // RFC 8200, section 4.5: next header 44.
            let extension8: [UInt8] =
                [number, 0] + Self.bytes(offset << 3 | (hasMore ? 1 : 0)) + [0x76, 0x63, 0x70, 0x65]
            return ethernet(route) + ip(source, route.destination, 44, 8 + part.count) + extension8 + part
        }
    }

    private static func bytes(_ value: UInt16) -> [UInt8] { [UInt8(value >> 8), UInt8(value & 0xFF)] }
}

extension ProbePacket {
    /// Eight bytes in each probe packet that identify its kind and its sender. Address translation
    /// does not change them.
    struct Mark: Hashable {
        var kind: ProbePacket
        var origin: Proof.Endpoint

        private static let prefix: [UInt8] = [0x76, 0x43, 0x50, 0x45, 0xF1, 0x0D]

        init(kind: ProbePacket, origin: Proof.Endpoint) { (self.kind, self.origin) = (kind, origin) }

        var bytes: [UInt8] {
            Self.prefix + [UInt8(ProbePacket.all.firstIndex(of: kind) ?? 0xFF), origin == .lan ? 1 : 2]
        }

        /// Finds the mark in a frame; nil when it has none.
        init?(in frame: ArraySlice<UInt8>) {
            let prefix = Self.prefix
            guard frame.count >= prefix.count + 2 else { return nil }
            for i in frame.startIndex...(frame.endIndex - prefix.count - 2)
            where frame[i] == prefix[0] && frame[i..<i + prefix.count].elementsEqual(prefix) {
                let number = Int(frame[i + prefix.count])
                guard number < ProbePacket.all.count else { return nil }
                self.init(kind: ProbePacket.all[number], origin: frame[i + prefix.count + 1] == 1 ? .lan : .wan)
                return
            }
            return nil
        }
    }

    /// Whether a frame is an ICMP error, which quotes the packet that it answers (RFC 792; RFC
    /// 4443, section 2.1).
    static func isError(_ frame: ArraySlice<UInt8>) -> Bool {
        let ip = frame.startIndex + 14
        guard frame.count > 54 else { return false }
        if frame[ip] >> 4 == 4, frame[ip + 9] == 1 {
            return [3, 4, 5, 11, 12].contains(frame[ip + Int(frame[ip] & 15) * 4])
        }
        return frame[ip] >> 4 == 6 && frame[ip + 6] == 58 && frame[ip + 40] < 128
    }

    /// The source address of a frame's packet; nil for another protocol.
    static func source(of frame: ArraySlice<UInt8>) -> IPAddress? {
        let ip = frame.startIndex + 14
        guard frame.count >= 34 else { return nil }
        switch frame[ip] >> 4 {
        case 4: return IPAddress(frame[ip + 12..<ip + 16])
        case 6: return frame.count >= 54 ? IPAddress(frame[ip + 8..<ip + 24]) : nil
        default: return nil
        }
    }
}
