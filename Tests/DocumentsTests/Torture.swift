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
            for _ in 0...random.next(6) {
                let place = random.next(bytes.count)
                switch random.next(5) {
                case 0: bytes[place] = UInt8(random.next(256))
                case 1: bytes.insert(signs[random.next(signs.count)], at: place)
                case 2: bytes.removeSubrange(place..<min(bytes.count, place + 1 + random.next(40)))
                case 3:
                    let end = min(bytes.count, place + 1 + random.next(80))
                    bytes.insert(contentsOf: bytes[place..<end], at: random.next(bytes.count))
                default: bytes = Array(bytes.prefix(place + 1))
                }
                if bytes.isEmpty { bytes = [10] }
            }
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
