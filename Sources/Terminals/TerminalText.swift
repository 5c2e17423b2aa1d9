/// Text for terminals and consoles, which obey what it contains: control characters start their
/// commands, bidirectional marks change the order that is shown (CVE-2021-42574), and invalid UTF-8
/// is shown differently by each. All of them are replaced by their numbers.
///
/// A C0 control character, DEL and a byte of invalid UTF-8 become `\x1b`; a C1 control character, a
/// bidirectional mark and the line ends of Unicode become `\u{202e}`. Everything else stays as it
/// is, a backslash too: the form is for people to read, and is not taken back.
public enum TerminalText {
    /// A text that is one line, or a part of one: a newline is escaped too, because it could
    /// begin a line that looks like another's.
    public static func line(_ text: String) -> String { escaped(text, keepsNewlines: false) }

    /// A text of several lines.
    public static func lines(_ text: String) -> String { escaped(text, keepsNewlines: true) }

    /// Bytes of another program, which may be no UTF-8, as a text of several lines. Only the
    /// invalid bytes are replaced: ``lines(_:)`` does the rest before a terminal gets the text.
    public static func validated(_ bytes: some Collection<UInt8>) -> String {
        if let text = String(validating: bytes, as: UTF8.self) { return text }
        var result = ""
        var decoder = UTF8.ForwardParser()
        var rest = bytes.makeIterator()
        // The bytes that the parser takes for invalid are known by what it has read.
        var read: [UInt8] = []
        var source = AnyIterator<UInt8> {
            guard let byte = rest.next() else { return nil }
            read.append(byte)
            return byte
        }
        var consumed = 0
        while true {
            switch decoder.parseScalar(from: &source) {
            case .valid(let encoded):
                result.unicodeScalars.append(UTF8.decode(encoded))
                consumed += encoded.count
            case .error(let length):
                for byte in read[consumed..<consumed + length] { result += hexadecimal(byte) }
                consumed += length
            case .emptyInput: return result
            }
            // Long logs: what is decoded is not kept.
            if consumed > 4096 {
                read.removeFirst(consumed)
                consumed = 0
            }
        }
    }

    private static func escaped(_ text: String, keepsNewlines: Bool) -> String {
        // Most texts are as they should be, and logs are long.
        guard text.utf8.contains(where: { mayBeEscaped($0, keepsNewlines) }) else { return text }
        var result = ""
        for scalar in text.unicodeScalars {
            switch scalar.value {
            case 0x0A where keepsNewlines: result.unicodeScalars.append(scalar)
            case 0..<0x20, 0x7F: result += hexadecimal(UInt8(scalar.value))
            case 0x80..<0xA0, 0x061C, 0x200E...0x200F, 0x2028...0x202E, 0x2066...0x2069, 0xFEFF:
                result += "\\u{\(String(scalar.value, radix: 16))}"
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result
    }

    /// Whether a byte of UTF-8 is an escaped character, or begins one.
    private static func mayBeEscaped(_ byte: UInt8, _ keepsNewlines: Bool) -> Bool {
        switch byte {
        case 0x0A: !keepsNewlines
        case 0..<0x20, 0x7F, 0xC2, 0xD8, 0xE2, 0xEF: true
        default: false
        }
    }

    private static func hexadecimal(_ byte: UInt8) -> String {
        "\\x" + (byte < 0x10 ? "0" : "") + String(byte, radix: 16)
    }
}
