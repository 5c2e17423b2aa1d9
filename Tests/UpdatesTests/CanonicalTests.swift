import Documents
import Testing
import Updates

@Suite struct CanonicalTests {
    @Test func aValueHasOneText() throws {
        let value = try JSON.parse(#"{"b":[1,-2,null,true], "a":"x\"y\\z\n\u00e9\u2028", "": {}, "Z": "/"}"#)
        #expect(
            String(decoding: value.canonical, as: UTF8.self)
                == "{\"\":{},\"Z\":\"/\",\"a\":\"x\\\"y\\\\z\n\u{e9}\u{2028}\",\"b\":[1,-2,null,true]}")
    }

    /// Canonically equivalent strings differ: keys are sorted by code points, and none is
    /// normalized.
    @Test func keysAreSortedByTheirCodePoints() throws {
        let value = try JSON.parse(#"{"\ufb01":1,"e\u0301":2,"\ud83d\ude00":3,"f":4}"#)
        #expect(
            String(decoding: value.canonical, as: UTF8.self).unicodeScalars.elementsEqual(
                "{\"e\u{301}\":2,\"f\":4,\"\u{fb01}\":1,\"\u{1F600}\":3}".unicodeScalars))
    }

    @Test func timesAreReadAndWritten() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0), ("2000-02-29T23:59:59Z", 951_868_799), ("2026-11-28T00:45:00Z", 1_795_826_700),
            ("2100-03-01T00:00:00Z", 4_107_542_400),
        ] {
            #expect(UTC.seconds(of: text) == seconds && UTC.text(of: seconds) == text)
        }
        for day in stride(from: 0, to: 100_000, by: 37) {
            #expect(UTC.seconds(of: UTC.text(of: 86_400 * day + 3661)) == 86_400 * day + 3661)
        }
        for wrong in ["2026-02-29", "2026-11-28T24:00:00Z", "2026-11-28T00:00:00+01:00", "26-11-28", ""] {
            #expect(UTC.seconds(of: wrong) == nil, "\(wrong)")
        }
    }
}
