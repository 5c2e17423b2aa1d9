/// Percent-encoding of names in URLs (RFC 3986, section 2.1).
enum URLText {
    /// Encodes all bytes but unreserved characters and those of `keeping`.
    static func quoted(_ text: String, keeping: String = "") -> String {
        var bytes: [UInt8] = []
        for byte in text.utf8 {
            let scalar = UnicodeScalar(byte)
            switch scalar {
            case "a"..."z", "A"..."Z", "0"..."9", "-", ".", "_", "~": bytes.append(byte)
            case _ where byte < 128 && keeping.unicodeScalars.contains(scalar): bytes.append(byte)
            default: bytes += ("%" + (byte < 16 ? "0" : "") + String(byte, radix: 16, uppercase: true)).utf8
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    static func joined(_ base: String, _ path: String) -> String {
        base.hasSuffix("/") ? base + path : "\(base)/\(path)"
    }
}
