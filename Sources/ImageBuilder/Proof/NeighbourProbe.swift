import Addresses
import CSystem
import Files
import Glibc
import PluginKit
import Processes

/// Asks the box for its hardware address, which every IP host must answer: ARP (RFC 826) and IPv6
/// neighbour discovery (RFC 4861, section 7.2). An answer shows that packets reach the box on a
/// side and return, although its policy drops everything else.
struct NeighbourProbe {
    let side: ProofNetwork.Side
    private let socket: File

    init(_ network: ProofNetwork, _ endpoint: Proof.Endpoint) throws {
        side = try network.side(endpoint)
        let descriptor = try network.namespace(endpoint).run { csystem_packet_socket(endpoint.rawValue) }
        guard descriptor >= 0 else { throw SystemError("socket(AF_PACKET)", endpoint.rawValue) }
        socket = File(descriptor: descriptor, path: endpoint.rawValue)
    }

    /// - Parameters:
    ///   - address: the box's IPv4 address on this side; nil where it is not known.
    ///   - seconds: how long to send requests.
    /// - Returns: the answer that arrived, in words; nil without an answer.
    func ask(_ address: IPAddress?, seconds: Double) -> String? {
        let linkLocal = ProofNetwork.linkLocal(side.boxMAC)
        let questions = [address.map { arp($0) }, linkLocal.flatMap { solicitation($0) }].compactMap { $0 }
        let end = Clock.seconds + seconds
        var next = 0.0
        var buffer = [UInt8](repeating: 0, count: 2048)
        while Clock.seconds < end {
            if Clock.seconds >= next {
                next = Clock.seconds + 0.5
                for question in questions {
                    _ = send(socket.descriptor, question, question.count, Int32(MSG_DONTWAIT))
                }
            }
            var polled = pollfd(fd: socket.descriptor, events: Int16(POLLIN), revents: 0)
            guard poll(&polled, 1, 100) > 0 else { continue }
            let count = recv(socket.descriptor, &buffer, buffer.count, Int32(MSG_DONTWAIT))
            guard count > 0 else { continue }
            let frame = Array(buffer[..<count])
            if let address, isReply(frame, address) { return "ARP reply from \(address)" }
            if let linkLocal, isAdvertisement(frame, linkLocal) { return "neighbour advertisement from \(linkLocal)" }
        }
        return nil
    }

    private func arp(_ address: IPAddress) -> [UInt8] {
        let header: [UInt8] = [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF] + side.hostMAC.bytes + [0x08, 0x06]
        let request: [UInt8] = [0, 1, 0x08, 0x00, 6, 4, 0, 1] + side.hostMAC.bytes + side.host4.bytes
        return header + request + [0, 0, 0, 0, 0, 0] + address.bytes
    }

    private func isReply(_ frame: [UInt8], _ address: IPAddress) -> Bool {
        frame.count >= 42 && frame[12] == 0x08 && frame[13] == 0x06 && frame[20] == 0 && frame[21] == 2
            && Array(frame[22..<28]) == side.boxMAC.bytes && Array(frame[28..<32]) == address.bytes
    }

    private func solicitation(_ target: IPAddress) -> [UInt8]? {
        // The solicited-node address (RFC 4291, section 2.7.1), and its Ethernet address (RFC 2464,
        // section 7).
        let tail = Array(target.bytes[13...])
        guard let source = ProofNetwork.linkLocal(side.hostMAC),
            let group = IPAddress([0xFF, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xFF] + tail)
        else { return nil }
        var message: [UInt8] = [135, 0, 0, 0, 0, 0, 0, 0] + target.bytes + [1, 1] + side.hostMAC.bytes
        let sum = InternetChecksum.of(message, 58, from: source, to: group)
        message.replaceSubrange(2..<4, with: [UInt8(sum >> 8), UInt8(sum & 0xFF)])
        let ethernet: [UInt8] = [0x33, 0x33, 0xFF] + tail + side.hostMAC.bytes + [0x86, 0xDD]
        // Receivers discard a hop limit other than 255 (RFC 4861, section 7.1.1).
        let ip: [UInt8] = [0x60, 0, 0, 0, 0, UInt8(message.count), 58, 255] + source.bytes + group.bytes
        return ethernet + ip + message
    }

    private func isAdvertisement(_ frame: [UInt8], _ target: IPAddress) -> Bool {
        frame.count >= 78 && frame[12] == 0x86 && frame[13] == 0xDD && frame[20] == 58 && frame[54] == 136
            && Array(frame[62..<78]) == target.bytes && Array(frame[6..<12]) == side.boxMAC.bytes
    }
}
