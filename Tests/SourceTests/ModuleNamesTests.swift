import Files
import Testing

/// Names of the source tree.
@Suite struct ModuleNamesTests {
    private static let sources = "/" + #filePath.split(separator: "/").dropLast(3).joined(separator: "/") + "/Sources"

    private static func files(below folder: String) throws -> [String] {
        try FileSystem.list(folder).flatMap { name -> [String] in
            let path = "\(folder)/\(name)"
            if name.hasSuffix(".swift") { return [path] }
            return FileSystem.isDirectory(path) ? try files(below: path) : []
        }
    }

    /// As Package.swift has it: kinds of resources are parts of two modules.
    private static func module(of path: Substring) -> String {
        let parts = path.split(separator: "/")
        guard parts[0] == "Resources" else { return String(parts[0]) }
        return parts.contains("Value") ? "PluginKit" : "Engine"
    }

    /// The type that a line at the top of a file declares for other files; nil for another line.
    private static func type(_ line: Substring) -> String? {
        guard line.first?.isLetter == true else { return nil }
        var words = line.split(separator: " ")[...]
        while let word = words.first, ["public", "internal", "package", "final", "indirect"].contains(word) {
            words = words.dropFirst()
        }
        guard let kind = words.popFirst(), ["struct", "class", "enum", "actor", "protocol"].contains(kind) else {
            return nil
        }
        return words.first.map { String($0.prefix { $0.isLetter || $0.isNumber || $0 == "_" }) }
    }

    /// A reader, and a compiler error, must tell by a type's name which one is meant.
    @Test func noTwoModulesHaveATypeOfOneName() throws {
        var modules: [String: Set<String>] = [:]
        for path in try Self.files(below: Self.sources) {
            let module = Self.module(of: path.dropFirst(Self.sources.count + 1))
            for line in String(decoding: try FileSystem.read(path), as: UTF8.self).split(separator: "\n") {
                if let type = Self.type(line) { modules[type, default: []].insert(module) }
            }
        }
        #expect(modules.count > 500)
        let shared = modules.filter { $0.value.count > 1 }.mapValues { $0.sorted() }
        #expect(shared.isEmpty, "\(shared)")
    }
}
