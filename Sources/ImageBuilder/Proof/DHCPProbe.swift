import Addresses
import Processes

/// Requests an address by DHCP as a new host does (RFC 2131, section 3.1): discover, request.
struct DHCPProbe {
    let namespace: NetworkNamespace
    let link: String

    /// The host's name for itself (RFC 2132, option 12); empty for none.
    var hostName = ""

    private static let mac: [UInt8] = [0x02, 0, 0, 0, 0, 0x77]

    /// - Returns: the address of the lease; nil when no server answered.
    func requestAddress() throws -> IPAddress? {
        guard let any = IPAddress("0.0.0.0"), let all = IPAddress("255.255.255.255") else { return nil }
        let socket = try ProofSocket(namespace, .ipv4, isStream: false)
        socket.bindToLink(link)
        try socket.bind(any, port: 68, listen: false)
        guard let offer = exchange(socket, message([53, 1, 1]), to: all, type: 2) else { return nil }
        let name = hostName.isEmpty ? [] : [12, UInt8(clamping: hostName.utf8.count)] + Array(hostName.utf8)
        let request = message([53, 1, 3, 50, 4] + offer.address.bytes + [54, 4] + offer.server + name)
        return exchange(socket, request, to: all, type: 5)?.address
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

    /// Sends a message every second until an answer of a type arrives, for eight seconds: a server
    /// that has just started has not bound its socket yet, and dnsmasq pings an address for three
    /// seconds before it offers it.
    private func exchange(
        _ socket: ProofSocket, _ message: [UInt8], to all: IPAddress, type: UInt8
    ) -> (address: IPAddress, server: [UInt8])? {
        let end = Clock.seconds + 8
        var next = 0.0
        while Clock.seconds < end {
            if Clock.seconds >= next {
                next = Clock.seconds + 1
                _ = socket.send(message, to: all, port: 67)
            }
            guard socket.wait(seconds: max(0, next - Clock.seconds)) else { continue }
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
