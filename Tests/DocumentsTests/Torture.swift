import Documents
import Files
import TestSupport
import Testing

/// Documents that a hand or a disk has spoiled: an error or a value, never a crash.
@Suite(.serialized) struct DocumentTorture {
    @Test func spoiledDocuments() throws {
        let folder = "/" + #filePath.split(separator: "/").dropLast(3).joined(separator: "/") + "/images"
        let documents = try FileSystem.list(folder).filter { $0.hasSuffix(".yaml") }.map {
            try FileSystem.read("\(folder)/\($0)")
        }
        var random = Random(seed: Torture.seed)
        let signs = Array("{}[]:-,&*!|>'\"%@`#?\n\t\0 \u{FEFF}~<<".utf8)
        var checked = 0
        for _ in 0..<60_000 {
            var bytes = documents[random.next(documents.count)]
            random.spoil(&bytes, signs: signs)
            if let node = try? YAML.read(bytes, file: "a.yaml") {
                // What can be read can be written, and read again.
                let json = JSON(node)
                #expect(try JSON.parse(json.line.utf8) == json)
            }
            _ = try? JSON.parse(bytes)
            checked += 1
        }
        try Torture.note("spoiled documents", checked: checked, failed: 0)
    }
}
