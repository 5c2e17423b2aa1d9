import Documents
import Testing

@Suite struct YAMLTests {
    func read(_ text: String) throws -> Node { try YAML.read(Array(text.utf8), file: "a.yaml") }

    func problem(_ text: String) -> String {
        do {
            let node = try read(text)
            return "no error: \(node)"
        } catch { return "\(error)" }
    }

    @Test func positionsCountFromOne() throws {
        let root = try read("a: 1\nb:\n  - x\n  - \"y\"\n")
        guard case .mapping(let entries) = root.value, case .sequence(let items) = entries[1].value.value else {
            Issue.record("not a mapping with a list")
            return
        }
        #expect(entries.map(\.key) == ["a", "b"])
        #expect(items[1].position == SourcePosition(file: "a.yaml", line: 4, column: 5))
        #expect(items[1].value == .scalar(.init(text: "y", isPlain: false)))
    }

    @Test func emptyDocumentIsNull() throws {
        #expect(try read("").isNull)
        #expect(try read("# only a comment\n").isNull)
    }

    @Test func duplicateKeyNamesBothLines() {
        #expect(problem("a: 1\na: 2\n") == "error: a.yaml:2:1: a: the key stands twice; the first is on line 1")
    }

    @Test func syntaxErrorHasLineAndColumn() {
        #expect(problem("a: [1, 2\nb: 3\n").hasPrefix("error: a.yaml:2:"))
    }

    @Test func secondDocumentTagAndMergeKeyAreRefused() {
        #expect(problem("a: 1\n---\nb: 2\n").contains("second document"))
        #expect(problem("a: !!python/object x\n").contains("tag"))
        #expect(problem("x: &x {a: 1}\ny:\n  <<: *x\n").contains("merge keys"))
    }

    @Test func aliasRepeatsItsAnchor() throws {
        guard case .mapping(let entries) = try read("a: &x [1]\nb: *x\n").value else { return }
        #expect(entries[0].value.value == entries[1].value.value)
        #expect(problem("a: &one 1\nb: *oen\n").contains("did you mean *one?"))
    }

    @Test func anchorsWithoutEndAreRefused() {
        #expect(problem("a: &a [*a]\n").contains("within its own anchor"))
        var bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n"
        for i in 1...12 {
            bomb += "a\(i): &a\(i) [" + Array(repeating: "*a\(i - 1)", count: 10).joined(separator: ",") + "]\n"
        }
        #expect(problem(bomb).contains("more than 200000 values"))
    }

    @Test func depthSizeAndBinaryAreRefused() {
        #expect(problem(String(repeating: "[", count: 100_000)).contains("nested deeper than 64"))
        #expect(throws: InvalidDocument.self) { try YAML.read([0xff, 0xfe, 0, 1, 2, 0x80], file: "b") }
        #expect(throws: InvalidDocument.self) { try YAML.read(Array(repeating: 0x61, count: 100 << 20), file: "big") }
    }

    @Test func jsonIsReadAsWell() throws {
        let root = try read(#"{"a": [1, "two", null, true]}"#)
        guard case .mapping(let entries) = root.value else { return }
        #expect(entries[0].value.summary == "a list of 4")
    }

    @Test(arguments: [("profle", "profile"), ("naem", "name"), ("pakages", "packages")])
    func nearWordIsSuggested(word: String, meant: String) {
        #expect(didYouMean(word, among: ["profile", "name", "packages", "version"]) == meant)
    }

    @Test func farWordIsNotSuggested() {
        #expect(didYouMean("zebra", among: ["profile", "name"]) == nil)
    }
}
