import Files
import Glibc
import Processes
import Slots
import TestSupport
import Testing

/// Files on sticks that mkfs.vfat made, and on sticks that nobody should have made.
@Suite struct FATFilesTests {
    private let folder: String

    init() throws { folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-fat") }

    /// - Parameters:
    ///   - kind: 12, 16 or 32.
    ///   - files: by name.
    private func stick(_ kind: Int, sectors: Int = 512, _ files: [String: [UInt8]]) throws -> String {
        let path = "\(folder)/stick\(kind)-\(sectors)"
        try File(path, O_RDWR | O_CREAT).resize(to: kind == 12 ? 2 << 20 : kind == 16 ? 16 << 20 : 300 << 20)
        try Command("mkfs.vfat", ["-F", "\(kind)", "-S", "\(sectors)", "-n", "VCPE-SITE", path]).check()
        for (name, bytes) in files {
            try FileSystem.replace("\(folder)/file", with: bytes)
            try Command("mcopy", ["-i", path, "\(folder)/file", "::\(name)"]).check()
        }
        return path
    }

    @Test(arguments: [12, 16, 32]) func eachKindIsRead(kind: Int) throws {
        defer { try? FileSystem.remove(folder) }
        let text = (0..<70_000).map { UInt8(truncatingIfNeeded: $0 &* 7 >> 3) }
        var files = ["site.yaml": text, "site.yaml.sig": [1, 2, 3]]
        // Names before it fill clusters of the folder.
        for number in 0..<40 { files["a name that takes many records, number \(number)"] = [0] }
        let path = try stick(kind, files)
        let volume = try FATFiles(try File(path))
        #expect(try volume.read("site.yaml", limit: 70_000) == text)
        #expect(try volume.read("site.yaml.sig", limit: 64) == [1, 2, 3])
        #expect(try volume.read("other", limit: 64) == nil)
        #expect(throws: SlotFailure.self) { try volume.read("site.yaml", limit: 69_999) }
    }

    @Test func whatIsNoStickIsRefused() throws {
        defer { try? FileSystem.remove(folder) }
        try FileSystem.replace("\(folder)/none", with: [UInt8](repeating: 0, count: 1 << 16))
        #expect(throws: SlotFailure.self) { try FATFiles(try File("\(folder)/none")) }
        try FileSystem.replace("\(folder)/short", with: [0x55])
        #expect(throws: SlotFailure.self) { try FATFiles(try File("\(folder)/short")) }
    }

    /// Damaged bytes in the first sectors, the tables and the root folder: an end with an error or
    /// a file, within its bound and soon.
    @Test(arguments: [12, 16, 32]) func damagedSticksEnd(kind: Int) throws {
        defer { try? FileSystem.remove(folder) }
        let path = try stick(kind, ["site.yaml": [UInt8](repeating: 9, count: 20_000)])
        let file = try File(path, O_RDWR)
        var random = Random(seed: UInt64(kind))
        let (head, limit) = (try file.read(4096 * 4, at: 0), 1 << 20)
        var failures = 0
        for round in 0..<600 {
            var bytes = head
            for _ in 0..<Int.random(in: 1...8, using: &random) {
                let place =
                    round % 2 == 0 ? Int.random(in: 11..<90, using: &random) : bytes.indices.randomElement() ?? 0
                bytes[place] = UInt8.random(in: 0...255, using: &random)
            }
            try file.write(bytes, at: 0)
            do {
                let read = try FATFiles(file).read("site.yaml", limit: limit)
                #expect((read?.count ?? 0) <= limit)
            } catch { failures += 1 }
        }
        #expect(failures > 50)
    }

    /// A chain that leads back to its beginning ends where the file does.
    @Test func circlesEnd() throws {
        defer { try? FileSystem.remove(folder) }
        let path = try stick(16, ["site.yaml": [UInt8](repeating: 9, count: 20_000)])
        let file = try File(path, O_RDWR)
        let reserved = try file.read(2, at: 14)
        let table = (Int(reserved[0]) | Int(reserved[1]) << 8) * 512
        // Each cluster is followed by cluster 2.
        var entries = [UInt8](repeating: 0, count: 512)
        for cluster in 2..<256 { entries[cluster * 2] = 2 }
        try file.write(entries, at: table)
        #expect(try FATFiles(file).read("site.yaml", limit: 1 << 20)?.count == 20_000)
    }
}
