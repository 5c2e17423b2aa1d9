import Addresses
import Documents
import Glibc
import TestSupport
import Testing

/// What is written and read without a detour equals what the detour gives.
@Suite struct PlainDataTests {
    private static let texts = [
        "", "~", "null", "true", "false", "yes", "0", "-7", "007", "+5", "1.5", "9223372036854775808", "a",
        "\u{0}\u{1F}",
        "\"\\\n\t\r", "é", "\u{7F}\u{80}\u{9F}\u{A0}", "\u{2027}\u{2028}\u{2029}\u{202A}",
        "\u{FEFF}\u{FEFE}",
        "😀", "a text that is longer than fifteen bytes \" and more",
    ]

    private func node(_ random: inout Random, depth: Int) -> Node {
        let position = SourcePosition(file: "x", line: 1, column: 1)
        switch random.next(depth == 0 ? 1 : 4) {
        case 1:
            let items = (0..<random.next(5)).map { _ in node(&random, depth: depth - 1) }
            return Node(value: .sequence(items), position: position)
        case 2, 3:
            var entries: [Node.Entry] = []
            let count = random.next(8) == 0 ? 40 : random.next(6)
            for number in 0..<count {
                let text = Self.texts[random.next(Self.texts.count)]
                let key = random.next(2) == 0 ? "k\(number)" : "\(text)\(number)"
                entries.append(.init(key: key, keyPosition: position, value: node(&random, depth: depth - 1)))
            }
            return Node(value: .mapping(entries), position: position)
        default:
            let text = Self.texts[random.next(Self.texts.count)]
            return Node(value: .scalar(.init(text: text, isPlain: random.next(2) == 0)), position: position)
        }
    }

    @Test func nodesAreWrittenAndReadAsPlainData() throws {
        var random = Random(seed: 23)
        for _ in 0..<300 {
            let node = node(&random, depth: 4)
            var bytes: [UInt8] = []
            node.writeJSON(into: &bytes)
            let json = JSON(node)
            #expect(String(decoding: bytes, as: UTF8.self) == json.line)
            #expect(try JSON.parse(bytes) == json)
            // Keys come in the order of the text, which is that of a written object.
            #expect(try Node(json: bytes, position: node.position) == Node(json, position: node.position))
        }
    }

    /// As RFC 8259 has it, and without what YAML takes for the end of a line, and what a terminal
    /// obeys.
    @Test func textsAreEscapedCharacterByCharacter() throws {
        let characters = (0...0x3100).compactMap { Unicode.Scalar($0).map { "a\(Character($0))b" } }
        for text in Self.texts + ["e\u{301}"] + characters {
            let escaped = text.unicodeScalars.map { scalar -> String in
                switch scalar {
                case "\"": return "\\\""
                case "\\": return "\\\\"
                case "\n": return "\\n"
                case "\t": return "\\t"
                case "\0"..<" ", "\u{7F}"..."\u{9F}", "\u{61C}", "\u{200E}"..."\u{200F}", "\u{2028}"..."\u{202E}",
                    "\u{2066}"..."\u{2069}", "\u{FEFF}":
                    let hex = String(scalar.value, radix: 16)
                    return "\\u" + String(repeating: "0", count: 4 - hex.count) + hex
                default: return String(scalar)
                }
            }.joined()
            #expect(Array(JSON.text(text).line.utf8) == Array("\"\(escaped)\"".utf8))
            #expect(try JSON.parse(JSON.text(text).line) == .text(text))
        }
    }

    @Test func keysThatStandTwiceAreRefused() {
        for count in [1, 15, 16, 17, 40] {
            let entries = ((0..<count).map { "\"k\($0)\":1" } + ["\"k0\":2"]).joined(separator: ",")
            #expect(throws: InvalidJSON.self) {
                try Node(json: Array("{\(entries)}".utf8), position: .init(file: "x", line: 1, column: 1))
            }
            let yaml = ((0..<count).map { "k\($0): 1\n" } + ["k0: 2\n"]).joined()
            #expect(throws: InvalidDocument.self) { try YAML.read(Array(yaml.utf8), file: "x") }
        }
    }

    @Test func addressesAreReadAndWrittenAsTheSystemDoes() {
        var random = Random(seed: 29)
        let pieces = [
            "0", "1", "9", "10", "99", "100", "199", "255", "7", "256", "00", "01", "001", "-1", "+1", "", " 1", "a",
            "1000",
        ]
        var read = 0
        for _ in 0..<20_000 {
            let count = random.next(8) == 0 ? 3 + random.next(3) : 4
            let text = (0..<count).map { _ in pieces[random.next(random.next(3) == 0 ? pieces.count : 9)] }
                .joined(separator: ".")
            var bytes = [UInt8](repeating: 0, count: 4)
            let isAddress = inet_pton(AF_INET, text, &bytes) == 1
            let address = IPAddress(text)
            #expect(address?.bytes == (isAddress ? bytes : nil))
            guard let address else { continue }
            #expect(address.description == text)
            read += 1
        }
        #expect(read > 1000)
        for text in ["::", "::1", "2001:db8::1", "::ffff:192.0.2.1", "fe80::1"] {
            #expect(IPAddress(text)?.family == .ipv6 && IPAddress(text)?.description == text)
        }
    }
}
