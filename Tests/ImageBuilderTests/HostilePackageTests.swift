import Archives
import Digests
import Files
import Glibc
import Processes
import Testing

@testable import ImageBuilder

/// Packages that want to write where they must not, or to unpack to more than a disk holds. They
/// are made by tar and ar, since dpkg-deb would refuse some of them.
@Suite final class HostilePackageTests {
    let folder: String
    let cache: Cache

    init() throws {
        folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-hostile")
        cache = Cache(root: "\(folder)/cache")
        for name in ["tree", "victim"] { try FileSystem.makeDirectory("\(folder)/\(name)") }
    }

    deinit { try? FileSystem.remove(folder) }

    /// A .deb named `bad` whose data archive is what a Python program adds to `tar`.
    func package(_ python: String) throws -> LockedPackage {
        let program = """
            import io, tarfile, subprocess, sys
            VICTIM = sys.argv[2]
            def member(name, type=tarfile.REGTYPE, link="", data=b"", **pax):
                m = tarfile.TarInfo(name)
                m.type, m.linkname, m.size, m.mode = type, link, len(data), 0o755
                m.pax_headers = {k: str(v) for k, v in pax.items()}
                tar.addfile(m, io.BytesIO(data))
            folder, dir, sym, hard = member, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
            tar = tarfile.open("data.tar", "w", format=tarfile.PAX_FORMAT)
            \(python)
            tar.close()
            tar = tarfile.open("control.tar", "w")
            member("./control", data=b"Package: bad\\nVersion: 1\\nArchitecture: all\\n")
            tar.close()
            open("debian-binary", "w").write("2.0\\n")
            subprocess.check_call(["rm", "-f", "bad.deb"])
            subprocess.check_call(["ar", "rc", "bad.deb", "debian-binary", "control.tar", "data.tar"])
            """
        try FileSystem.replace("\(folder)/make.py", with: program)
        try Command(
            "sh", ["-ec", "cd '\(folder)/tree'; python3 ../make.py x '\(folder)/victim'"],
            environment: ["PATH": getenv("PATH").map { String(cString: $0) } ?? "/usr/bin:/bin"]
        ).check()
        let bytes = try FileSystem.read("\(folder)/tree/bad.deb")
        let locked = LockedPackage(
            name: "bad", version: "1", architecture: "all", size: bytes.count, digest: SHA256.hash(bytes),
            archive: "main", path: "pool/bad.deb")
        _ = try cache.folder("debs")
        try FileSystem.replace(cache.package(locked.digest), with: bytes)
        return locked
    }

    /// What lies in the folder that no package may touch.
    func victim() throws -> [String: String] {
        try Dictionary(
            uniqueKeysWithValues: FileSystem.list("\(folder)/victim").map {
                ($0, String(decoding: try FileSystem.read("\(folder)/victim/\($0)"), as: UTF8.self))
            })
    }

    func reason(_ package: LockedPackage) -> ArchiveError.Reason? {
        do {
            _ = try UnpackedPackage.read(package, cache: cache)
            return nil
        } catch { return (error as? ArchiveError)?.reason }
    }

    // MARK: - Writing outside

    @Test(arguments: [
        // A link, and a file behind it.
        "member('./usr/lib/x', sym, VICTIM)\nmember('./usr/lib/x/profile', data=b'evil')",
        // The same by a link that leads out step by step.
        "member('./usr/lib/x', sym, '../../../victim')\nmember('./usr/lib/x/profile', data=b'evil')",
        // A folder that is a link already.
        "member('./usr/lib/x', sym, VICTIM)\nmember('./usr/lib/x', dir)\nmember('./usr/lib/x/y', data=b'evil')",
        // A link that is written through.
        "member('./usr/lib/x', sym, VICTIM + '/known')\nmember('./usr/lib/x', data=b'evil')",
        // A hard link to a file outside, by a link.
        "member('./usr/lib/x', sym, VICTIM)\nmember('./usr/bin/y', hard, './usr/lib/x/known')\n"
            + "member('./usr/bin/y', data=b'evil')",
        // Below a folder that the unpacker makes itself.
        "member('./lib64', sym, VICTIM)\nmember('./lib64/profile', data=b'evil')",
        "member('./usr/lib/vcpe', sym, VICTIM)\nmember('./usr/lib/vcpe/plugins/x', data=b'evil')",
    ]) func noPackageWritesOutsideOfItsTree(python: String) throws {
        try FileSystem.replace("\(folder)/victim/known", with: "known")
        let unpacked = try UnpackedPackage.read(try package(python), cache: cache)
        // Refused, or kept within the tree.
        _ = try? Tools([unpacked], cache: cache)
        #expect(try victim() == ["known": "known"])
        var status = stat()
        #expect(lstat("\(folder)/victim/known", &status) == 0 && status.st_nlink == 1)
    }

    @Test func aPathThroughALinkIsRefusedWithThePackagesName() throws {
        let unpacked = try UnpackedPackage.read(
            try package("member('./usr/lib/x', sym, VICTIM)\nmember('./usr/lib/x/profile', data=b'evil')"), cache: cache
        )
        let failure = thrown(BuildFailure.self) { try Tools([unpacked], cache: cache) }
        #expect(failure?.message.hasPrefix("bad: /usr/lib/x/profile ") == true)
    }

    @Test(arguments: [
        "member('/etc/x', data=b'evil')", "member('../x', data=b'evil')", "member('./usr/../../x', data=b'evil')",
        "member('./usr/bin/..', sym, VICTIM)", "member('/usr/lib/x', sym, VICTIM)",
        // Hard links to what is no entry of the package.
        "member('./usr/bin/x', hard, VICTIM + '/known')", "member('./usr/bin/x', hard, '../../victim/known')",
        "member('./usr/bin/x', hard, './usr/../../../etc/passwd')",
    ]) func pathsThatLeaveTheTreeAreRefusedBeforeAnythingIsKept(python: String) throws {
        try FileSystem.replace("\(folder)/victim/known", with: "known")
        #expect(reason(try package(python)) == .pathOutside)
        #expect(try FileSystem.list("\(folder)/cache/packages") == [])
        #expect(try victim() == ["known": "known"])
    }

    @Test(arguments: ["CHRTYPE", "BLKTYPE", "FIFOTYPE"])
    func devicesAndPipesAreRefused(type: String) throws {
        let locked = try package(
            """
            m = tarfile.TarInfo('./usr/bin/x')
            m.type, m.mode, m.devmajor, m.devminor = tarfile.\(type), 0o666, 1, 1
            tar.addfile(m)
            """)
        let failure = thrown(BuildFailure.self) { try UnpackedPackage.read(locked, cache: cache) }
        #expect(failure?.message.hasPrefix("bad: /usr/bin/x ") == true)
        #expect(try FileSystem.list("\(folder)/cache/packages") == [])
    }

    @Test func namesOfAnyKindForgeNoOtherEntry() throws {
        let row = "x\\nf\\t33261\\t0\\t0\\t0\\t4\\t\(String(repeating: "0", count: 64))\\t../../home/u/.profile\\t\\t"
        let unpacked = try UnpackedPackage.read(
            try package(
                """
                member('./usr/bin/a', sym, '\(row)')
                member('./usr/bin/b\\tc\\nd', data=b'b')
                member('./usr/bin/e', data=b'e', **{'SCHILY.xattr.user.x,y=z\\n': 'v'})
                """), cache: cache)
        let paths = unpacked.entries.map(\.path)
        #expect(paths == ["usr/bin/a", "usr/bin/b\tc\nd", "usr/bin/e"])
        guard case .symbolicLink(let target)? = unpacked.entries.first?.entry.kind else {
            Issue.record("not a link")
            return
        }
        #expect(target.hasPrefix("x\nf\t") && target.hasSuffix(".profile\t\t"))
        #expect(unpacked.control.keys.sorted() == ["control"])
    }

    @Test func namesThatAreNotUTF8AreRefused() throws {
        #expect(
            reason(try package("member('./usr/bin/' + b'\\xff\\xfe'.decode('utf-8', 'surrogateescape'), data=b'x')"))
                == .name)
    }

    @Test func ownersAboveThirtyTwoBitsDontBecomeRoot() throws {
        #expect(reason(try package("member('./usr/bin/x', data=b'x', uid=2**32)")) == .entryType)
    }

    // MARK: - Sizes

    @Test func theHoleAtAFilesEndIsUnpacked() throws {
        // GNU tar's own sparse format: data at the start, and a hole up to the end.
        try Command(
            "sh",
            [
                "-ec",
                """
                cd '\(folder)/tree'; mkdir -p usr/bin; printf start > usr/bin/x; truncate -s 300000 usr/bin/x
                tar --sparse --format=gnu -cf data.tar ./usr/bin/x
                """,
            ]
        ).check()
        let made = try FileSystem.read("\(folder)/tree/data.tar")
        #expect(made.count < 20_000, "the file system of the test knows no holes")
        let locked = try repack(data: made)
        let unpacked = try UnpackedPackage.read(locked, cache: cache)
        guard case .file(let content)? = unpacked.entries.first(where: { $0.path == "usr/bin/x" })?.entry.kind else {
            Issue.record("no file")
            return
        }
        let bytes = try content.read()
        #expect(bytes.count == 300_000)
        #expect(bytes.starts(with: Array("start".utf8)) && bytes.dropFirst(5).allSatisfy { $0 == 0 })
    }

    /// A .deb with this data archive.
    func repack(data: [UInt8]) throws -> LockedPackage {
        _ = try package("member('./usr/bin/x', data=b'x')")
        try FileSystem.replace("\(folder)/tree/data.tar", with: data)
        try Command(
            "sh",
            [
                "-ec",
                "cd '\(folder)/tree'; rm bad.deb; ar rc bad.deb debian-binary control.tar data.tar",
            ]
        ).check()
        let bytes = try FileSystem.read("\(folder)/tree/bad.deb")
        let locked = LockedPackage(
            name: "bad", version: "1", architecture: "all", size: bytes.count, digest: SHA256.hash(bytes),
            archive: "main", path: "pool/bad.deb")
        try FileSystem.replace(cache.package(locked.digest), with: bytes)
        return locked
    }

    @Test(arguments: ["8T", "2E"]) func aHugeHoleIsRefusedAtOnce(size: String) throws {
        // The header alone says how large it is: no file system is asked.
        let bytes = size == "2E" ? "2 * 2**60" : "8 * 2**40"
        let begin = Clock.seconds
        let locked = try package(
            """
            m = tarfile.TarInfo('./usr/bin/x')
            m.size = 512
            m.pax_headers = {'GNU.sparse.major': '1', 'GNU.sparse.minor': '0', 'GNU.sparse.name': 'usr/bin/x',
                             'GNU.sparse.realsize': str(\(bytes))}
            tar.addfile(m, io.BytesIO(('1\\n%d\\n0\\n' % (\(bytes))).encode().ljust(512, b'\\0')))
            """)
        #expect(reason(locked) == .tooLarge)
        #expect(Clock.seconds - begin < 30)
        #expect(try FileSystem.list("\(folder)/cache/packages") == [])
    }

    @Test func aBombOfXZIsRefusedAtItsLimit() throws {
        let source = "\(folder)/zeros"
        let file = try File(source, O_RDWR | O_CREAT)
        try file.resize(to: 20 << 20)
        let packed = try Command("xz", ["-0", "-c", source]).check().output
        let whole = try Decompression.decompress(packed, name: "x", limit: 20 << 20)
        #expect(whole.count == 20 << 20)
        let failure = thrown(ArchiveError.self) {
            try Decompression.decompress(packed, name: "x", limit: (20 << 20) - 1)
        }
        #expect(failure?.reason == .tooLarge)
    }

    @Test func archivesHaveNoMoreThanTheirLimits() throws {
        let deb = cache.package(
            try package("for i in range(20): member('./usr/bin/%d' % i, data=b'x' * 1000)").digest)
        func reason(_ change: (inout ArchiveLimits) -> Void) -> ArchiveError.Reason? {
            var limits = ArchiveLimits()
            change(&limits)
            do {
                try DebianPackage.read(deb, limits: limits, control: { _, _ in }) { _, content in try content { _ in } }
                return nil
            } catch { return (error as? ArchiveError)?.reason }
        }
        #expect(reason { _ in } == nil)
        #expect(reason { $0.entries = 19 } == .tooLarge)
        #expect(reason { $0.file = 999 } == .tooLarge)
        #expect(reason { $0.package = 19_999 } == .tooLarge)
        #expect(reason { $0.small = 10 } == .tooLarge)
        #expect(reason { $0.path = 9 } == .tooLarge)
    }
}
