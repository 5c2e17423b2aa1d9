import Addresses

/// A DNS query for an IPv4 address (RFC 1035, section 4).
struct DNSQuery {
    let bytes: [UInt8]

    init(name: String) {
        var bytes: [UInt8] = [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]
        for label in name.split(separator: ".") { bytes += [UInt8(label.utf8.count)] + Array(label.utf8) }
        self.bytes = bytes + [0, 0, 1, 0, 1]
    }

    /// The first IPv4 address of a response; nil when it has none.
    func address(in answer: [UInt8]) -> IPAddress? {
        guard answer.count > bytes.count, answer[0] == bytes[0], answer[1] == bytes[1], answer[7] > 0 else {
            return nil
        }
        var position = bytes.count
        while position + 12 <= answer.count {
            // A name is a pointer to the question's, or written in full.
            if answer[position] & 0xC0 == 0xC0 {
                position += 2
            } else {
                while position < answer.count, answer[position] != 0 { position += Int(answer[position]) + 1 }
                position += 1
            }
            guard position + 10 <= answer.count else { return nil }
            let type = answer[position + 1]
            let length = Int(answer[position + 8]) << 8 | Int(answer[position + 9])
            position += 10
            guard position + length <= answer.count else { return nil }
            if type == 1, length == 4 { return IPAddress(answer[position..<position + 4]) }
            position += length
        }
        return nil
    }
}
