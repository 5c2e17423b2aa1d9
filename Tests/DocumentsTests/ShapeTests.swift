import Documents
import Testing

@Suite struct ShapeTests {
    struct Disk: Equatable {
        var size: Int
        var names: [String]
    }

    static var disk: Shape<Disk> {
        .mapping("a disk") { fields in
            let size = fields.required("size", .byteCount(1...(1 << 40)))
            let names = fields.optional("names", .list(of: .text)) ?? []
            return size.map { Disk(size: $0, names: names) }
        }
    }

    func read(_ text: String) throws -> Result<Disk, InvalidDocument> {
        let problems = ProblemList()
        let value = Self.disk.read(try YAML.read(Array(text.utf8), file: "d.yaml"), path: "", into: problems)
        do { try problems.throwIfAny() } catch { return .failure(error) }
        return .success(try #require(value))
    }

    func lines(_ text: String) throws -> [String] {
        guard case .failure(let invalid) = try read(text) else { return [] }
        return invalid.problems.map { "\($0)" }
    }

    @Test func goodDocumentIsRead() throws {
        #expect(
            try read("size: 32 MB\nnames: [a, no, 1.0]\n").get() == Disk(size: 32_000_000, names: ["a", "no", "1.0"]))
        #expect(try read("size: 512 MiB\n").get().size == 512 << 20)
    }

    @Test func allProblemsAreShownAtOnceWithPathAndHint() throws {
        let problems = try lines("size: 12\nnames:\n  - [x]\n  - y\nnmaes: z\n")
        #expect(problems.count == 3)
        #expect(problems[0].hasPrefix("d.yaml:1:7: size: found \"12\"; allowed is a size with its unit"))
        #expect(problems[1] == "d.yaml:3:5: names[0]: found a list of 1; allowed is a text")
        #expect(problems[2] == "d.yaml:5:1: nmaes: unknown key; did you mean names? allowed are names, size")
    }

    @Test func missingKeyAndWrongKindAreNamed() throws {
        #expect(try lines("names: []\n").first?.contains("size: the key is missing") == true)
        #expect(try lines("- a\n") == ["d.yaml:1:1: found a list of 1; allowed is a mapping"])
        #expect(try lines("").count == 1)
    }

    @Test(arguments: ["9999999999999999999 GiB", "1 gib", "GiB", "-1 MB", "1,5 MB", "[1]", "~"])
    func impossibleSizesAreRefused(size: String) throws { #expect(try lines("size: \(size)\n").count == 1) }
}
