import Addresses

/// The checksum of IP, ICMP, UDP and TCP (RFC 1071).
enum InternetChecksum {
    static func of(_ bytes: [UInt8]) -> UInt16 {
        var sum: UInt32 = 0
        for i in stride(from: 0, to: bytes.count, by: 2) {
            sum += UInt32(bytes[i]) << 8
            if i + 1 < bytes.count { sum += UInt32(bytes[i + 1]) }
        }
        while sum > 0xFFFF { sum = (sum >> 16) + (sum & 0xFFFF) }
        return ~UInt16(sum)
    }

    /// With a pseudo-header (RFC 9293, section 3.1; RFC 8200, section 8.1).
    ///
    /// - Parameters:
    ///   - payload: the transport header and its data, with a checksum of zero.
    ///   - number: of the protocol.
    static func of(_ payload: [UInt8], _ number: UInt8, from source: IPAddress, to destination: IPAddress) -> UInt16 {
        let length = UInt16(payload.count)
        let header = source.bytes + destination.bytes + [0, number, UInt8(length >> 8), UInt8(length & 0xFF)]
        return of(header + payload)
    }
}
