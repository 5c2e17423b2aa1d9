import Addresses
import Processes

/// Requests an address by DHCP as a new host does (RFC 2131, section 3.1): discover, request.
struct DHCPProbe {
    let namespace: NetworkNamespace
    let link: String

    private static let mac: [UInt8] = [0x02, 0, 0, 0, 0, 0x77]

    /// - Returns: the address of the lease; nil when no server answered.
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
        // The broadcast flag: this host has no address yet.
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
