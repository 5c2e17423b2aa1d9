/// What nft keeps beside objects for its own listings: type, length, value (libnftnl's `udata.h`).
struct UserData {
    private(set) var bytes: [UInt8] = []

    mutating func put(_ type: UInt8, _ value: [UInt8]) {
        bytes += [type, UInt8(truncatingIfNeeded: value.count)] + value
    }

    mutating func put(_ type: UInt8, _ number: UInt32) {
        put(type, withUnsafeBytes(of: number.littleEndian, Array.init))
    }

    /// A comment: always type 0 but in sets, ended by a zero, at most 128 bytes with it.
    mutating func put(comment: String, type: UInt8 = 0) {
        var text = Array(comment.utf8.prefix(127))
        // Never half a character.
        while String(validating: text, as: UTF8.self) == nil, !text.isEmpty { text.removeLast() }
        put(type, text + [0])
    }

    /// A rule's comment; nil where there is none.
    static func comment(in bytes: [UInt8]) -> String? {
        var place = 0
        while place + 2 <= bytes.count {
            let end = place + 2 + Int(bytes[place + 1])
            guard end <= bytes.count else { return nil }
            if bytes[place] == 0 { return String(decoding: bytes[place + 2..<end].prefix { $0 != 0 }, as: UTF8.self) }
            place = end
        }
        return nil
    }
}
