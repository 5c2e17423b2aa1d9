/// Certificates as text (RFC 7468).
enum PEM {
    /// The error for text without a certificate in PEM.
    struct Malformed: Error, Sendable, Hashable {
        /// The contents that were found instead.
        var found: String
    }

    /// The DER bytes of the first certificate of a text.
    static func certificate(_ text: [UInt8]) throws(Malformed) -> [UInt8] {
        let lines = String(decoding: text, as: UTF8.self).split(whereSeparator: \.isNewline)
        guard let begin = lines.firstIndex(of: "-----BEGIN CERTIFICATE-----") else {
            throw Malformed(found: "no line \"-----BEGIN CERTIFICATE-----\"")
        }
        guard let end = lines[begin...].firstIndex(of: "-----END CERTIFICATE-----") else {
            throw Malformed(found: "no line \"-----END CERTIFICATE-----\"")
        }
        guard let bytes = base64(lines[(begin + 1)..<end].joined()), bytes.first == 0x30 else {
            throw Malformed(found: "no DER sequence in Base64")
        }
        return bytes
    }

    /// Decodes Base64 with its padding (RFC 4648, section 4); nil for other text.
    static func base64(_ text: String) -> [UInt8]? {
        let digits = Array(text.utf8)
        guard digits.count % 4 == 0 else { return nil }
        let padding = digits.suffix(2).filter { $0 == UInt8(ascii: "=") }.count
        var bytes: [UInt8] = []
        var value: UInt32 = 0
        for (i, digit) in digits.dropLast(padding).enumerated() {
            guard let bits = sixBits(digit) else { return nil }
            value = value << 6 | bits
            if i % 4 == 3 {
                bytes += [UInt8(value >> 16 & 0xFF), UInt8(value >> 8 & 0xFF), UInt8(value & 0xFF)]
                value = 0
            }
        }
        if padding == 1 { bytes += [UInt8(value >> 10 & 0xFF), UInt8(value >> 2 & 0xFF)] }
        if padding == 2 { bytes.append(UInt8(value >> 4 & 0xFF)) }
        return bytes
    }

    private static func sixBits(_ digit: UInt8) -> UInt32? {
        switch digit {
        case UInt8(ascii: "A")...UInt8(ascii: "Z"): UInt32(digit) - 65
        case UInt8(ascii: "a")...UInt8(ascii: "z"): UInt32(digit) - 97 + 26
        case UInt8(ascii: "0")...UInt8(ascii: "9"): UInt32(digit) - 48 + 52
        case UInt8(ascii: "+"): 62
        case UInt8(ascii: "/"): 63
        default: nil
        }
    }
}
