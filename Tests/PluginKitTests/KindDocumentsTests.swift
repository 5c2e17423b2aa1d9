import Documents
import Files
import Glibc
import PluginKit
import Testing

/// The folder of each kind, and the tables of `docs/plugins.md` that are made from the folders.
@Suite struct KindDocumentsTests {
    private static let repository = "/" + #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
    private static let folder = "\(repository)/Sources/Resources"

    /// Folders by the kind that their README names.
    private func folders() throws -> [String: String] {
        var folders: [String: String] = [:]
        for name in try FileSystem.list(Self.folder) {
            let title = try text("\(Self.folder)/\(name)/README.md").split(separator: "\n")[0]
            folders[title.filter { $0 != "#" && $0 != " " && $0 != "`" }] = "\(Self.folder)/\(name)"
        }
        return folders
    }

    private func text(_ path: String) throws -> String { String(decoding: try FileSystem.read(path), as: UTF8.self) }

    @Test func eachKindHasAFolder() throws {
        #expect(try folders().keys.sorted() == ResourceTypes.kinds.sorted())
    }

    @Test func goodLinesAreReadAsTheyAreWritten() throws {
        for (kind, folder) in try folders() {
            let lines = try text("\(folder)/cases/good.jsonl").split(separator: "\n")
            #expect(!lines.isEmpty, "\(kind)")
            for line in lines {
                let json = try JSON.parse(String(line))
                let resource = try Resource(json)
                #expect(resource.kind == kind)
                // Written and read again, whatever defaults were added.
                #expect(try Resource(resource.json) == resource, "\(line)")
            }
        }
    }

    /// `cases/bad.jsonl`: objects of a line and a part of its error.
    @Test func badLinesAreRefused() throws {
        var count = 0
        for (_, folder) in try folders() where FileSystem.exists("\(folder)/cases/bad.jsonl") {
            for line in try text("\(folder)/cases/bad.jsonl").split(separator: "\n") {
                let json = try JSON.parse(String(line))
                let wanted = json["error"]?.text ?? ""
                var found = "no error"
                do { _ = try Resource(json["line"] ?? [:]) } catch { found = error.description }
                #expect(!wanted.isEmpty && found.contains(wanted), "\(line): \(found)")
                count += 1
            }
        }
        #expect(count > 5)
    }

    /// `VCPE_WRITE_GOLDEN=1` writes the page.
    @Test func theContractsTablesAreThoseOfTheFolders() throws {
        let path = "\(Self.repository)/docs/plugins.md"
        let page = try text(path)
        let folders = try folders()
        let inOrder = ResourceTypes.kinds.compactMap { folders[$0] }
        let examples = try inOrder.map { try text("\($0)/cases/good.jsonl") }.joined()
        let rows = try inOrder.map { folder in
            try text("\(folder)/README.md").split(separator: "\n").filter { $0.hasPrefix("| `") }.joined(
                separator: "\n")
        }.joined(separator: "\n")
        func replaced(_ page: String, after start: String, before end: String, by text: String) throws -> String {
            let first = try #require(page.firstRange(of: start))
            let last = try #require(page[first.upperBound...].firstRange(of: end))
            return String(page[..<first.upperBound]) + text + String(page[last.lowerBound...])
        }
        var wanted = try replaced(page, after: "cases/good.jsonl -->\n```json\n", before: "```\n", by: examples)
        wanted = try replaced(
            wanted, after: "README.md -->\n| kind | id | further keys |\n|---|---|---|\n", before: "\n\n", by: rows)
        if getenv("VCPE_WRITE_GOLDEN") != nil { try FileSystem.replace(path, with: wanted) }
        #expect(wanted == page || getenv("VCPE_WRITE_GOLDEN") != nil)
    }
}
