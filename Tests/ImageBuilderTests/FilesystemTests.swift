import Digests
import Disks
import Files
import Glibc
import ImageBuilder
import Processes
import Testing

/// What we write must satisfy the field's own tools: erofs-utils, veritysetup, sfdisk, qemu-img,
/// cpio.
@Suite final class FilesystemTests {
    let folder: String

    init() throws { folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-filesystems") }

    deinit { try? FileSystem.remove(folder) }

    /// Every shape that has a rule of its own: empty, beside the inode, on blocks, ranges of a
    /// file, links of both kinds, attributes, a folder of one block, of several and one whose end
    /// doesn't fit beside its inode.
    func sample() throws -> Tree {
        var tree = Tree()
        func add(_ path: String, _ kind: TreeEntry.Kind, mode: UInt32 = 0o644, attributes: [String: [UInt8]] = [:]) {
            tree.addParents(of: path, origin: "test")
            tree[path] = TreeEntry(kind, mode: mode, uid: 7, gid: 9, attributes: attributes, origin: "test")
        }
        let big = (0..<100_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        try FileSystem.replace("\(folder)/source", with: big)
        add("empty", .file(Content("")))
        add("etc/small", .file(Content("small\n")), mode: 0o4755)
        add("etc/limit", .file(Content([UInt8](repeating: 65, count: 2048))))
        add("etc/block", .file(Content([UInt8](repeating: 66, count: 4096))))
        add(
            "usr/big",
            .file(Content(path: "\(folder)/source", offset: 10, count: 90_000, digest: SHA256.hash(big[10..<90_010]))))
        add("usr/hard", .hardLink(path: "usr/big"))
        add("usr/soft", .symbolicLink(target: "../etc/small"), mode: 0o777)
        add("etc/setgid", .file(Content("setgid")), mode: 0o2755)
        add("tmp", .directory, mode: 0o1777)
        add("usr/+first", .file(Content("sorts before the dots")))
        add(
            "usr/capable", .file(Content("x")), mode: 0o755,
            attributes: ["security.capability": [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]])
        for i in 0..<1000 { add("many/a-longer-name-\(i)", .file(Content("\(i)"))) }
        // 100 names of 26 bytes and the dots: 3,827 bytes, and a last block of 4,090 beside no
        // inode.
        for i in 0..<107 { add("full/twenty-six-bytes-of-name\(String(i + 1000))", .file(Content(""))) }
        return tree
    }

    func write(_ tree: Tree) throws -> (path: String, size: Int) {
        let path = "\(folder)/root.erofs"
        let file = try File(path, O_RDWR | O_CREAT | O_TRUNC)
        return (path, try EROFS(tree, time: 1_700_000_000, uuid: GUID(named: "test").bytes).write(to: file))
    }

    /// A cache may change between a check and the copy: only what was written counts.
    @Test func bytesThatChangedSinceTheyWereUnpackedAreNotWritten() throws {
        let tree = try sample()
        let source = try File("\(folder)/source", O_RDWR)
        let byte = try source.read(1, at: 50_000)[0]
        try source.write([byte ^ 1], at: 50_000)
        let failure = thrown(DamagedContent.self) { try write(tree) }
        #expect(failure?.path == "\(folder)/source" && failure?.offset == 10 && failure?.count == 90_000)
    }

    /// By the checker, and by the kernel, which is what reads it on a box: every mode, owner, link,
    /// attribute and byte.
    @Test func erofsSatisfiesItsCheckerAndTheKernelReadsTheTree() throws {
        let tree = try sample()
        let image = try write(tree)
        try Command("fsck.erofs", [image.path]).check()
        let mount = "\(folder)/mount"
        try FileSystem.makeDirectory(mount)
        try Command("mount", ["-t", "erofs", "-o", "loop,ro", image.path, mount]).check()
        defer { _ = try? Command("umount", [mount]).run() }
        let found = try Command("find", [mount, "-mindepth", "1", "-printf", "%P 0%m %U:%G %n %l\\n"]).check().text
            .split(separator: "\n").map(String.init)
        var names: [String: Int] = [:]
        for entry in tree.entries.values {
            if case .hardLink(let other) = entry.kind { names[other, default: 1] += 1 }
        }
        var expected: [String] = []
        for (path, entry) in tree.entries {
            var (mode, owner, target, links) = (entry.mode, "\(entry.uid):\(entry.gid)", "", names[path] ?? 1)
            switch entry.kind {
            case .symbolicLink(let text): target = text
            case .hardLink(let other):
                if let file = tree[other] { (mode, owner) = (file.mode, "\(file.uid):\(file.gid)") }
                links = names[other] ?? 1
            case .directory:
                let below = tree.entries.filter {
                    FileSystem.parent(of: $0.key) == path && $0.value.kind == .directory
                }
                links = 2 + below.count
            case .file: break
            }
            expected.append("\(path) 0\(String(mode, radix: 8)) \(owner) \(links) \(target)")
        }
        #expect(Set(found).symmetricDifference(expected) == [])
        let attributes = try Self.attributes(mount)
        for (path, entry) in tree.entries {
            guard case .file(let content) = entry.kind else { continue }
            #expect(try SHA256.hash(FileSystem.read("\(mount)/\(path)")) == content.digest, "\(path)")
            #expect(attributes[path] ?? [:] == entry.attributes, "\(path)")
        }
    }

    /// All extended attributes of all files below a folder, by path, as the kernel gives them
    /// (listxattr(2)).
    static func attributes(_ folder: String) throws -> [String: [String: [UInt8]]] {
        let program = """
            import os, sys
            for top, folders, files in os.walk(sys.argv[1]):
                for name in folders + files:
                    path = os.path.join(top, name)
                    for key in os.listxattr(path, follow_symlinks=False):
                        value = os.getxattr(path, key, follow_symlinks=False).hex()
                        print(os.path.relpath(path, sys.argv[1]), key, value, sep="\\t")
            """
        let path = getenv("PATH").map { String(cString: $0) } ?? "/usr/bin:/bin"
        let text = try Command("python3", ["-c", program, folder], environment: ["PATH": path]).check().text
        var attributes: [String: [String: [UInt8]]] = [:]
        for line in text.split(separator: "\n") {
            let words = line.split(separator: "\t", omittingEmptySubsequences: false)
            attributes[String(words[0]), default: [:]][String(words[1])] = Hex.bytes(words[2])
        }
        return attributes
    }

    @Test(arguments: [
        ("a name of 255 bytes", nil),
        ("a name of 256 bytes", EROFSError.Reason.limit), ("a name of 5000 bytes", .limit),
        ("a target of 4064 bytes", nil), ("a target of 4065 bytes", .limit), ("a target of 0 bytes", .limit),
        ("an attribute's name of 255 bytes", nil), ("an attribute's name of 256 bytes", .limit),
        ("a value of 4000 bytes", nil), ("a value of 5000 bytes", .limit), ("a value of 70000 bytes", .limit),
        ("an attribute of the system", .attribute), ("the owner 65536", .limit), ("a file below a file", .path),
        ("a hard link to a folder", .hardLink), ("a hard link to nothing", .hardLink), ("a dot for a name", .path),
    ]) func treesBeyondTheFormatAreRefused(what: String, reason: EROFSError.Reason?) throws {
        var tree = Tree()
        let number = Int(what.filter(\.isNumber)) ?? 0
        let text = String(repeating: "n", count: number)
        var (path, entry) = ("file", TreeEntry(.file(Content("x")), mode: 0o644, origin: "test"))
        switch what {
        case _ where what.hasPrefix("a name"): path = text
        case _ where what.hasPrefix("a target"): entry.kind = .symbolicLink(target: text)
        case _ where what.hasPrefix("an attribute's"): entry.attributes["user." + text] = [1]
        case _ where what.hasPrefix("a value"):
            entry.attributes["user.x"] = [UInt8](repeating: 7, count: number)
        case "an attribute of the system": entry.attributes["system.posix_acl_access"] = [1]
        case "the owner 65536": entry.uid = 65_536
        case "a file below a file":
            tree["file"] = entry
            path = "file/below"
        case "a hard link to a folder":
            tree["folder"] = TreeEntry(.directory, mode: 0o755, origin: "test")
            entry.kind = .hardLink(path: "folder")
        case "a hard link to nothing": entry.kind = .hardLink(path: "nothing")
        default: path = "."
        }
        tree[path] = entry
        guard let reason else {
            let image = try write(tree)
            try Command("fsck.erofs", [image.path]).check()
            return
        }
        let failure = thrown(EROFSError.self) { try write(tree) }
        #expect(failure?.reason == reason && failure?.path == "/\(path)", "\(failure?.description ?? "none")")
    }

    /// A small file beside large attributes would cross a block's end, which the kernel refuses at
    /// run time.
    @Test func attributesOfAllSizesAndAnEmptyOneAreReadByTheKernel() throws {
        var tree = Tree()
        for size in [0, 1, 100, 1900, 2000, 2100, 3000, 3900, 4000] {
            for bytes in [0, 1, 100, 2048, 2049] {
                tree["\(size)-\(bytes)"] = TreeEntry(
                    .file(Content([UInt8](repeating: 65, count: bytes))), mode: 0o600,
                    attributes: ["user.x": [UInt8](repeating: 9, count: size), "trusted.empty": []], origin: "test")
            }
        }
        let image = try write(tree)
        try Command("fsck.erofs", [image.path]).check()
        let mount = "\(folder)/mount"
        try FileSystem.makeDirectory(mount)
        try Command("mount", ["-t", "erofs", "-o", "loop,ro", image.path, mount]).check()
        defer { _ = try? Command("umount", [mount]).run() }
        let attributes = try Self.attributes(mount)
        for (path, entry) in tree.entries {
            guard case .file(let content) = entry.kind else { continue }
            #expect(try FileSystem.read("\(mount)/\(path)").count == content.count, "\(path)")
            #expect(attributes[path] ?? [:] == entry.attributes, "\(path)")
        }
    }

    @Test func erofsIsTheSameTwice() throws {
        let tree = try sample()
        let first = try FileSystem.read(try write(tree).path)
        let second = try FileSystem.read(try write(tree).path)
        #expect(first == second)
    }

    @Test func verityIsWhatVeritysetupComputes() async throws {
        let image = try write(try sample())
        let salt = SHA256.hash(Array("salt".utf8)).bytes
        let file = try File(image.path, O_RDWR)
        for size in [image.size, 200 * 4096, 2 * 4096] {
            try file.resize(to: size)
            let verity = try await Verity.append(to: file, at: 0, size: size, salt: salt)
            #expect(try file.read(16, at: size + 16) == Array(verity.rootHash.bytes.prefix(16)))
            try Command(
                "veritysetup",
                ["verify", image.path, image.path, verity.rootHash.hex, "--hash-offset=\(size)"]
            ).check()
        }
    }

    @Test func partitionTableSatisfiesItsCheckers() throws {
        let path = "\(folder)/disk"
        let table = PartitionTable(
            guid: GUID(named: "disk"),
            wanted: [
                ("esp", PartitionTable.Kind.efiSystem, GUID(named: "esp"), 40 << 20),
                ("state", PartitionTable.Kind.state, GUID(named: "state"), 1 << 20),
                ("root-a", PartitionTable.Kind.root, GUID(named: "a"), 100_000),
            ])
        let file = try File(path, O_RDWR | O_CREAT)
        try file.resize(to: table.diskSize)
        try table.write(to: file)
        #expect(try Command("sgdisk", ["--verify", path]).check().text.contains("No problems found"))
        let dump = try Command("sfdisk", ["--dump", path]).check().text.lowercased()
        #expect(dump.contains("label-id: \(GUID(named: "disk"))"))
        #expect(dump.contains("start=       83968, size=        2048"))
        #expect(dump.contains("type=c12a7328-f81f-11d2-ba4b-00a0c93ec93b, uuid=\(GUID(named: "esp")), name=\"esp\""))
    }

    @Test func qcow2HoldsWhatTheRawHolds() throws {
        let raw = try File("\(folder)/raw", O_RDWR | O_CREAT)
        try raw.resize(to: (5 << 30) + 512)
        for offset in [0, 65_535, 1 << 20, (3 << 30) + 7, (5 << 30) + 100] {
            try raw.write([UInt8](repeating: 0xA5, count: 300), at: offset)
        }
        let target = try File("\(folder)/image.qcow2", O_RDWR | O_CREAT)
        try QCOW2.write(raw, to: target)
        try Command("qemu-img", ["check", "\(folder)/image.qcow2"]).check()
        try Command("qemu-img", ["compare", "-f", "raw", "-F", "qcow2", "\(folder)/raw", "\(folder)/image.qcow2"])
            .check()
        #expect(try target.status().st_size < 2 << 20)
    }

    @Test func initramfsIsReadByCpio() throws {
        var tree = Tree()
        tree["init"] = TreeEntry(.file(Content("#!\n")), mode: 0o755, origin: "")
        tree["dev"] = TreeEntry(.directory, mode: 0o755, origin: "")
        tree["sbin"] = TreeEntry(.symbolicLink(target: "usr/bin"), mode: 0o777, origin: "")
        try FileSystem.replace("\(folder)/initrd", with: try Initramfs.archive(tree, time: 0))
        let list = try Command("sh", ["-c", "cpio -itv --quiet < \(folder)/initrd"]).check().text
        #expect(
            list.split(separator: "\n").map { String($0.prefix(10)) } == ["drwxr-xr-x", "-rwxr-xr-x", "lrwxrwxrwx"])
    }
}
