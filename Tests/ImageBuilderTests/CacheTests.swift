import Digests
import Files
import Glibc
import Processes
import Testing

@testable import ImageBuilder

/// A cache is believed only where a build of this user has marked it, and only as long as it stays
/// as it was.
@Suite final class CacheTests {
    let folder: String
    let cache: Cache

    init() throws {
        folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-cache")
        cache = Cache(root: "\(folder)/cache")
    }

    deinit { try? FileSystem.remove(folder) }

    func package(_ name: String = "one") throws -> LockedPackage {
        let tree = "\(folder)/\(name)"
        try FileSystem.makeDirectory("\(tree)/DEBIAN")
        try FileSystem.replace(
            "\(tree)/DEBIAN/control",
            with: "Package: \(name)\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: x\n")
        try Command(
            "sh",
            ["-ec", "cd '\(tree)'; mkdir -p usr/bin; echo program > usr/bin/tool; chmod 755 . DEBIAN usr/bin/tool"]
        ).check()
        try Command("dpkg-deb", ["--root-owner-group", "-b", tree, "\(folder)/\(name).deb"]).check()
        let bytes = try FileSystem.read("\(folder)/\(name).deb")
        let locked = LockedPackage(
            name: name, version: "1", architecture: "all", size: bytes.count, digest: SHA256.hash(bytes),
            archive: "main", path: "pool/\(name).deb")
        _ = try cache.folder("debs")
        try FileSystem.replace(cache.package(locked.digest), with: bytes)
        return locked
    }

    func content(_ package: UnpackedPackage) throws -> Content {
        let entry = try #require(package.entries.first { $0.path == "usr/bin/tool" })
        guard case .file(let content) = entry.entry.kind else { throw SystemError("open", "tool", code: ENOENT) }
        return content
    }

    /// Changes one byte of a file.
    func spoil(_ path: String, at offset: Int) throws {
        let file = try File(path, O_RDWR)
        let byte = try file.read(1, at: offset)[0]
        try file.write([byte ^ 0x20], at: offset)
    }

    @Test func aChangedFileOfAnUnpackedPackageIsNotRead() throws {
        let locked = try package()
        let content = try content(try UnpackedPackage.read(locked, cache: cache))
        guard case .range(let path, let offset) = content.source else { throw SystemError("open", "x", code: EINVAL) }
        try spoil(path, at: offset)
        // The index is whole: the damage shows when the file is read.
        let again = try self.content(try UnpackedPackage.read(locked, cache: cache))
        let failure = thrown(DamagedContent.self) { try again.read() }
        #expect(failure?.path == path && failure?.offset == offset && failure?.expected == content.digest)
    }

    @Test func aChangedIndexIsMadeAnewFromThePackage() throws {
        let locked = try package()
        _ = try UnpackedPackage.read(locked, cache: cache)
        let path = "\(folder)/cache/packages/\(locked.digest.hex)\(UnpackedPackage.suffix)"
        let whole = try FileSystem.read(path)
        for offset in [whole.count - 1, whole.count - 60, whole.count - 200] {
            try spoil(path, at: offset)
            let content = try content(try UnpackedPackage.read(locked, cache: cache))
            #expect(try content.read() == Array("program\n".utf8))
            #expect(try FileSystem.read(path) == whole)
        }
        // A file that ends too early is one that has no index.
        try File(path, O_RDWR).resize(to: whole.count - 10)
        _ = try UnpackedPackage.read(locked, cache: cache)
        #expect(try FileSystem.read(path) == whole)
    }

    @Test func anotherUsersMarksAreNotBelieved() throws {
        let locked = try package()
        _ = try UnpackedPackage.read(locked, cache: cache)
        // As one who has a key of his own would write it: other contents, a whole index, a mark.
        let path = "\(folder)/cache/packages/\(locked.digest.hex)\(UnpackedPackage.suffix)"
        var bytes = try FileSystem.read(path)
        bytes[0] ^= 0x20
        bytes.replaceSubrange(bytes.count - 32..<bytes.count, with: SHA256.hash(Array("his".utf8)).bytes)
        try FileSystem.replace(path, with: bytes)
        #expect(try content(try UnpackedPackage.read(locked, cache: cache)).read() == Array("program\n".utf8))
    }

    /// The attack of a review: an attacker who can write to the cache changes bytes, and the index
    /// for them.
    @Test func aForgedPackageWithAWholeIndexIsMadeAnew() throws {
        let locked = try package()
        let unpacked = try UnpackedPackage.read(locked, cache: cache)
        let path = "\(folder)/cache/packages/\(locked.digest.hex)\(UnpackedPackage.suffix)"
        let whole = try FileSystem.read(path)
        let content = try content(unpacked)
        guard case .range(_, let offset) = content.source else { throw SystemError("open", "x", code: EINVAL) }
        let evil = Array("evil\n\n\n\n".utf8)
        var bytes = whole
        bytes.replaceSubrange(offset..<offset + evil.count, with: evil)
        let index = try #require(bytes.firstRange(of: content.digest.bytes))
        bytes.replaceSubrange(index, with: SHA256.hash(evil).bytes)
        // With the mark that was there, that of another key, and that of another package.
        let other = try package("two")
        _ = try UnpackedPackage.read(other, cache: cache)
        let others = try FileSystem.read("\(folder)/cache/packages/\(other.digest.hex)\(UnpackedPackage.suffix)")
        for mark in [whole.suffix(32), ArraySlice([UInt8](repeating: 7, count: 32)), others.suffix(32)] {
            try FileSystem.replace(path, with: Array(bytes.dropLast(32)) + mark)
            let found = try self.content(try UnpackedPackage.read(locked, cache: cache))
            #expect(try found.read() == Array("program\n".utf8))
            #expect(try FileSystem.read(path) == whole)
        }
    }

    @Test func aKeyThatOthersCouldKnowIsReplaced() throws {
        let state = "\(folder)/state"
        let path = "\(state)/cache.key"
        let first = try CacheSeal.keptKey(in: state)
        #expect(try CacheSeal.keptKey(in: state) == first && first.count == 32)
        let known = [UInt8](repeating: 1, count: 32)
        func replaces(_ prepare: () throws -> Void) throws -> Bool {
            try prepare()
            let key = try CacheSeal.keptKey(in: state)
            var status = stat()
            return key != known && key != first && lstat(path, &status) == 0 && status.st_mode & 0o7777 == 0o600
                && status.st_uid == geteuid() && status.st_mode & S_IFMT == S_IFREG
        }
        #expect(try replaces { try FileSystem.replace(path, with: known, mode: 0o640) })
        #expect(try replaces { try FileSystem.replace(path, with: Array(known.dropLast()), mode: 0o600) })
        #expect(
            try replaces {
                try FileSystem.replace("\(folder)/known", with: known, mode: 0o600)
                try FileSystem.remove(path)
                guard symlink("\(folder)/known", path) == 0 else { throw SystemError("symlink", path) }
            })
        if geteuid() == 0 {
            #expect(
                try replaces {
                    try FileSystem.replace(path, with: known, mode: 0o600)
                    chown(path, 65534, 65534)
                })
        }
    }

    @Test func changedToolsAreUnpackedAnew() throws {
        let unpacked = try UnpackedPackage.read(try package(), cache: cache)
        let tools = try Tools([unpacked], cache: cache)
        let root = "\(folder)/cache/tools/\(tools.key)"
        let changes: [(String, String)] = [
            ("contents", "echo evil > '\(root)/usr/bin/tool'"),
            ("an added library", "echo evil > '\(root)/usr/lib/evil.so'"),
            ("a removed file", "rm '\(root)/usr/bin/tool'"),
            ("a link in its place", "ln -sf /bin/true '\(root)/usr/bin/tool'"),
            ("a folder's link", "mv '\(root)/usr/bin' '\(root)/b'; ln -s ../b '\(root)/usr/bin'"),
            ("setuid", "chmod 4755 '\(root)/usr/bin/tool'"),
        ]
        for (name, script) in changes {
            try Command("sh", ["-ec", script]).check()
            _ = try Tools([unpacked], cache: cache)
            #expect(try FileSystem.read("\(root)/usr/bin/tool") == Array("program\n".utf8), "\(name)")
            #expect(!FileSystem.exists("\(root)/usr/lib/evil.so"), "\(name)")
            var status = stat()
            #expect(lstat("\(root)/usr/bin/tool", &status) == 0 && status.st_mode & 0o7777 == 0o755, "\(name)")
        }
        // One that is whole stays, inode and all.
        var (before, after) = (stat(), stat())
        stat(root, &before)
        _ = try Tools([unpacked], cache: cache)
        stat(root, &after)
        #expect(before.st_ino == after.st_ino)
    }

    @Test func aDerivedFileIsMadeAnewWhenItChanged() throws {
        var count = 0
        func derived() throws -> [UInt8] {
            try cache.derived("initramfs", "x.zst") { file in
                count += 1
                try file.write(Array("made".utf8), at: 0)
            }
        }
        #expect(try derived() == Array("made".utf8) && count == 1)
        #expect(try derived() == Array("made".utf8) && count == 1)
        // One byte more, behind what the compressor wrote.
        try File("\(folder)/cache/initramfs/x.zst", O_RDWR).write([0], at: 4)
        #expect(try derived() == Array("made".utf8) && count == 2)
        try FileSystem.remove("\(folder)/cache/initramfs/x.zst.mark")
        #expect(try derived() == Array("made".utf8) && count == 3)
    }

    @Test func aChangedModuleIsFound() throws {
        let tree = "\(folder)/kernel"
        try FileSystem.makeDirectory("\(tree)/DEBIAN")
        try FileSystem.replace(
            "\(tree)/DEBIAN/control",
            with: "Package: kernel\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: x\n")
        try Command(
            "sh",
            [
                "-ec",
                "cd '\(tree)'; chmod 755 . DEBIAN; mkdir -p usr/lib/modules/1; echo m | xz > usr/lib/modules/1/m.ko.xz",
            ]
        ).check()
        try Command("dpkg-deb", ["--root-owner-group", "-b", tree, "\(folder)/kernel.deb"]).check()
        let bytes = try FileSystem.read("\(folder)/kernel.deb")
        let locked = LockedPackage(
            name: "kernel", version: "1", architecture: "all", size: bytes.count, digest: SHA256.hash(bytes),
            archive: "main", path: "pool/kernel.deb")
        _ = try cache.folder("debs")
        try FileSystem.replace(cache.package(locked.digest), with: bytes)
        let unpacked = try UnpackedPackage.read(locked, cache: cache)
        let entry = try #require(unpacked.entries.first { $0.path.hasSuffix("m.ko.xz") })
        guard case .file(let packed) = entry.entry.kind else { throw SystemError("open", "m.ko.xz", code: ENOENT) }
        let path = "\(try cache.folder("modules"))/\(packed.digest.hex).ko"
        func verify(_ bytes: [UInt8]) throws {
            try FileSystem.replace(path, with: bytes)
            var root = Tree()
            let content = Content(path: path, offset: 0, count: bytes.count, digest: SHA256.hash(bytes))
            root["usr/lib/modules/1/m.ko"] = TreeEntry(.file(content), mode: 0o644, origin: "kernel")
            try CachedModules(packages: [unpacked], cache: cache).verify([root])
        }
        let failure = thrown(DamagedContent.self) { try verify(Array("x\n".utf8)) }
        #expect(failure?.path == path && failure?.expected == SHA256.hash(Array("m\n".utf8)))
        try verify(Array("m\n".utf8))
        // Also after it was found good.
        #expect(throws: DamagedContent.self) { try verify(Array("x\n".utf8)) }
    }

    @Test func aLockTellsTheProcessThatHoldsIt() throws {
        let path = "\(folder)/lock"
        try FileSystem.replace(path, with: "")
        let log = try File("\(folder)/log", O_RDWR | O_CREAT)
        let holder = try Command("flock", [path, "sh", "-c", "echo; exec sleep 2"]).start(output: log)
        while try log.size() == 0 { usleep(5_000) }
        var told: [FileLock.Holder] = []
        let lock = try FileLock(path, .exclusive) { told.append($0) }
        #expect(told.count == 1 && told.first?.pid == holder.pid, "\(told)")
        #expect(told.first?.command.hasPrefix("flock ") == true, "\(told)")
        withExtendedLifetime(lock) {}
    }

    @Test func whatAnOlderVersionUnpackedIsPrunedThoughALockNamesIt() throws {
        let locked = try package()
        _ = try UnpackedPackage.read(locked, cache: cache)
        let old = "\(folder)/cache/packages/\(locked.digest.hex)-1.index"
        try FileSystem.replace(old, with: "x")
        let apt = "\(folder)/cache/apt"
        for name in ["old", "new"] {
            try FileSystem.makeDirectory("\(apt)/\(name)/lists")
            try FileSystem.replace("\(apt)/\(name)/status", with: "")
        }
        try Command("touch", ["-d", "31 days ago", "\(apt)/old/status"]).check()
        _ = try cache.prune(keeping: [locked.digest], days: 30)
        #expect(try FileSystem.list(apt) == ["new"])
        #expect(!FileSystem.exists(old))
        #expect(FileSystem.exists("\(folder)/cache/packages/\(locked.digest.hex)\(UnpackedPackage.suffix)"))
        #expect(FileSystem.exists(cache.package(locked.digest)))
    }
}
