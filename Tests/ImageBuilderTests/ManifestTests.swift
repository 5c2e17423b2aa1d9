import Digests
import Files
import Glibc
import Testing

@testable import ImageBuilder

/// What a build's manifest says, and that every change of it shows.
@Suite final class ManifestTests {
    let folder: String

    init() throws { folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-manifest") }

    deinit { try? FileSystem.remove(folder) }

    func manifest(_ entries: [String: TreeEntry], _ name: String = "a") throws -> Manifest {
        let lines = entries.sorted { $0.key < $1.key }.map { Manifest.line($0.key, $0.value) + "\n" }
        let text = Manifest.text(
            image: "box", version: "1 beta", profile: "virtio", rootHash: "ab", outputs: [:],
            contents: "package one 1.0 amd64\n" + lines.joined())
        try FileSystem.replace("\(folder)/\(name).manifest", with: text)
        return try Manifest.read("\(folder)/\(name).manifest")
    }

    func file(_ text: String = "x", mode: UInt32 = 0o644, _ change: (inout TreeEntry) -> Void = { _ in }) -> TreeEntry {
        var entry = TreeEntry(.file(Content(text)), mode: mode, origin: "one")
        change(&entry)
        return entry
    }

    @Test func namesAndTargetsOfAnyKindAreReadBack() throws {
        let names = [
            "plain", "with a blank", "line\nfeed", "tab\t", "back\\slash", "\\x20", "Ünïcode", "end sha256 x", "\u{7F}",
        ]
        var entries: [String: TreeEntry] = [:]
        for name in names {
            entries["f/\(name)"] = file { $0.attributes = ["user.\(name)": [1, 2], "user.a=b,c": []] }
            entries["l/\(name)"] = TreeEntry(.symbolicLink(target: name), mode: 0o777, origin: name)
            entries["h/\(name)"] = TreeEntry(.hardLink(path: "f/\(name)"), mode: 0o644, origin: "one")
        }
        let read = try manifest(entries)
        #expect(read.version == "1 beta" && read.packages == ["one": "1.0"])
        #expect(read.files.count == entries.count)
        for name in names {
            #expect(read.files["/l/\(name)"]?.content == name)
            #expect(read.files["/h/\(name)"]?.content == "/f/\(name)")
            #expect(read.files["/f/\(name)"]?.attributes == ["user.\(name)": [1, 2], "user.a=b,c": []])
        }
    }

    @Test func everyChangeOfAFileIsADifference() throws {
        let base = file()
        let old = try manifest(["bin": base])
        let capability: [UInt8] = [1, 0, 0, 2, 0, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        let changes: [(String, (inout TreeEntry) -> Void)] = [
            ("cap_sys_admin=ep", { $0.attributes["security.capability"] = capability }),
            ("user.x=01", { $0.attributes["user.x"] = [1] }), ("4755", { $0.mode = 0o4755 }),
            ("7:0", { $0.uid = 7 }), ("0:7", { $0.gid = 7 }),
            ("contents differ", { $0.kind = .file(Content("y")) }),
            ("1.0 kB", { $0.kind = .file(Content([UInt8](repeating: 1, count: 1000))) }),
            ("→ with\\x20blanks", { $0.kind = .symbolicLink(target: "with blanks") }),
        ]
        for (text, change) in changes {
            let difference = ManifestDifference(from: old, to: try manifest(["bin": file("x", change)], "b"))
            #expect(!difference.isEmpty, "\(text)")
            #expect(difference.text.contains("/bin: ") && difference.text.contains(text), "\(difference.text)")
        }
        #expect(ManifestDifference(from: old, to: try manifest(["bin": base], "b")).isEmpty)
    }

    @Test func aChangedManifestIsRefusedWithItsLine() throws {
        _ = try manifest(["bin": file(), "lib": file()])
        let path = "\(folder)/a.manifest"
        let text = String(decoding: try FileSystem.read(path), as: UTF8.self)
        func line(_ changed: String) throws -> Int? {
            try FileSystem.replace(path, with: changed)
            do {
                _ = try Manifest.read(path)
                return nil
            } catch {
                guard case .manifest(let line, _)? = (error as? OutputFailure)?.reason else { return -1 }
                return line
            }
        }
        #expect(try line(text) == nil)
        // The digest at the end finds what the lines themselves don't show.
        #expect(try line(text.replacing("644 0:0", with: "4755 0:0")) == 6)
        #expect(try line(text.replacing("end sha256 ", with: "end sha256 0")) == 6)
        #expect(try line(text + "file\n") == 6)
        #expect(try line(text.replacing("file 644", with: "folly 644")) == 4)
        #expect(try line(text.split(separator: "\n").dropLast().joined(separator: "\n") + "\n") == 6)
        #expect(try line("") == 1)
    }

    @Test func aSparseFilesDigestDependsOnItsBytesAlone() throws {
        func file(_ name: String, size: Int, _ data: [(Int, [UInt8])], holes: Bool) throws -> Digest {
            let file = try File("\(folder)/\(name)", O_RDWR | O_CREAT | O_TRUNC)
            if holes { try file.resize(to: size) } else { try file.write([UInt8](repeating: 0, count: size), at: 0) }
            for (offset, bytes) in data { try file.write(bytes, at: offset) }
            return try Sparse.digest(of: file)
        }
        let data = [(5, Array("early".utf8)), (700_000, Array("late".utf8))]
        let one = try file("one", size: 1 << 20, data, holes: true)
        #expect(try file("two", size: 1 << 20, data, holes: false) == one)
        #expect(try file("three", size: (1 << 20) + 1, data, holes: true) != one)
        #expect(try file("four", size: 1 << 20, [(6, Array("early".utf8)), data[1]], holes: true) != one)
        // The same bytes one block further.
        #expect(try file("five", size: 1 << 20, [data[0], (700_000 + (1 << 16), data[1].1)], holes: true) != one)
        #expect(try file("six", size: 1 << 20, [data[0]], holes: true) != one)
    }

    @Test func anESPThatTwoKernelImagesDontFitIsAnError() throws {
        let (kernel, loader, size) = (154_900_000, 130_000, 260 << 20)
        #expect(throws: BuildFailure.self) {
            try EFISystemPartition.checkSize(size, kernelImage: kernel, loader: loader, upgrades: true)
        }
        #expect(throws: Never.self) {
            try EFISystemPartition.checkSize(size, kernelImage: kernel, loader: loader, upgrades: false)
            try EFISystemPartition.checkSize(300 << 20, kernelImage: kernel, loader: loader, upgrades: true)
        }
        #expect(throws: BuildFailure.self) {
            try EFISystemPartition.checkSize(100 << 20, kernelImage: kernel, loader: loader, upgrades: false)
        }
    }
}
