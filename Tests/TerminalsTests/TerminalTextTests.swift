import Terminals
import Testing

@Suite struct TerminalTextTests {
    @Test func controlCharactersBecomeTheirNumbers() {
        #expect(TerminalText.line("a\u{1B}]0;x\u{07}\u{7F}\u{9B}2J") == "a\\x1b]0;x\\x07\\x7f\\u{9b}2J")
        #expect(TerminalText.line("a\r\n\tb") == "a\\x0d\\x0a\\x09b")
        #expect(TerminalText.lines("a\r\n\tb") == "a\\x0d\n\\x09b")
    }

    @Test func marksThatChangeTheOrderBecomeTheirNumbers() {
        #expect(TerminalText.line("\u{202E}\u{2066}\u{200F}\u{061C}") == "\\u{202e}\\u{2066}\\u{200f}\\u{61c}")
        #expect(TerminalText.lines("\u{2028}\u{2029}\u{FEFF}") == "\\u{2028}\\u{2029}\\u{feff}")
    }

    @Test func othersStayAsTheyAre() {
        for text in ["", "plain \\x1b", "größer – „ذ“ 漢字 👩‍👩‍👧", "\u{A0}", "\u{E000}"] {
            #expect(TerminalText.line(text) == text)
            #expect(TerminalText.validated(text.utf8) == text)
        }
    }

    @Test func bytesThatAreNoTextBecomeTheirNumbers() {
        #expect(TerminalText.validated([0x61, 0xFF, 0xC3, 0x62, 0xE2, 0x82]) == "a\\xff\\xc3b\\xe2\\x82")
        // An overlong escape, half of a surrogate pair, and more than U+10FFFF.
        #expect(TerminalText.validated([0xC0, 0x9B]) == "\\xc0\\x9b")
        #expect(TerminalText.validated([0xED, 0xA0, 0x80]) == "\\xed\\xa0\\x80")
        #expect(TerminalText.validated([0xF5, 0x80, 0x80, 0x80]) == "\\xf5\\x80\\x80\\x80")
        let long = Array("ü".utf8) + [UInt8](repeating: 0x61, count: 10_000) + [0xFE] + Array("ü".utf8)
        #expect(TerminalText.validated(long) == "ü" + String(repeating: "a", count: 10_000) + "\\xfeü")
    }

    /// Whatever comes in, no scalar that a terminal obeys comes out.
    @Test func nothingThatATerminalObeysIsLeft() {
        for value in (0...0x3000 as ClosedRange<UInt32>).compactMap(Unicode.Scalar.init) {
            for scalar in TerminalText.line(String(value)).unicodeScalars {
                let isControl = scalar.properties.generalCategory == .control
                #expect(!isControl && !scalar.properties.isBidiControl, "U+\(String(value.value, radix: 16))")
            }
        }
    }
}
