import Documents
import PluginKit
import Testing

/// Allowed ports as plugins publish them.
@Suite struct OpeningTests {
    private func read(_ sources: String) throws -> (opening: Opening?, paths: [String]) {
        let text = "openings: {a.b: {interface: wan, port: 22, protocol: tcp\(sources)}}\n"
        let problems = ProblemList()
        let published = Published.shape.read(
            try YAML.read(Array(text.utf8), file: "p.yaml"), path: "", into: problems)
        do { try problems.throwIfAny() } catch { return (nil, error.problems.map(\.path)) }
        return (published?.openings["a.b"], [])
    }

    @Test func anOpeningIsForAllOrForItsSources() throws {
        let all = try read("")
        #expect(all.opening?.port == 22 && all.opening?.sources == [] && all.paths.isEmpty)
        let some = try read(", sources: [198.51.100.0/24, \"2001:db8::1\"]")
        #expect(some.opening?.sources.map(\.description) == ["198.51.100.0/24", "2001:db8::1"])
    }

    /// A plugin whose list became empty would open its port to everyone.
    @Test func anEmptyListOfSourcesIsRefused() throws {
        let none = try read(", sources: []")
        #expect(none.opening == nil && none.paths == ["openings.a.b.sources"], "\(none.paths)")
    }
}
