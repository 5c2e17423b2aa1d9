import Digests
import Files
import Glibc
import ImageBuilder
import Processes
import Testing

/// What is done when the mirror no longer has what the lock names.
extension BuildTests {
    @Test func whatTheMirrorForgotIsNamedAndRelockedAlone() throws {
        let fixture = try LockFixture()
        try fixture.define("")
        try fixture.lock()
        // A version that the mirror has no more.
        let path = "\(fixture.images)/own.lock"
        let lines = String(decoding: try FileSystem.read(path), as: UTF8.self).split(separator: "\n").map { line in
            guard line.contains("{name: netbase,") else { return String(line) }
            return "  - {name: netbase, version: \"6.1\", architecture: all, size: 12345, "
                + "sha256: \(SHA256.hash(Array("gone".utf8))), archive: main, path: \"pool/main/n/netbase/netbase_6.1_all.deb\"}"
        }
        try FileSystem.replace(path, with: lines.joined(separator: "\n") + "\n")
        let before = try FileSystem.read(path)
        let out = "\(fixture.folder)/out"
        let build = ["build", "own", "--output", out, "--box", "\(Self.repository)/.build/box"]
        let refused = try fixture.vcpe(build)
        #expect(refused.status == 1)
        #expect(refused.errorText.contains("  netbase 6.1\n") && refused.errorText.contains("--relock-gone"))
        #expect(try FileSystem.read(path) == before)
        let result = try fixture.vcpe(build + ["--relock-gone"])
        let relocked = result.errorText
        #expect(result.status == 0, "\(relocked)")
        #expect(try FileSystem.read(path) == before)
        #expect(FileSystem.exists("\(out)/own/relocked/own.lock"))
        let moved = relocked.split(separator: "\n").filter { $0.hasPrefix("relocked: ") }
        #expect(moved.count == 1 && moved.first?.contains("virtio: netbase 6.1 → ") == true, "\(relocked)")
    }

    /// The archive has one import an hour after the lock's dates; every earlier time leads to a
    /// state without packages.
    @Test func snapshotArchiveIsAskedForTheStateAfterTheLock() throws {
        try warm()
        let cache = Cache(root: "\(home["HOME"] ?? "")/.cache/vcpe")
        let lock = try #require(try Lock.read("\(Self.repository)/images/lab-minimal.lock"))
        let snapshot = "\(folder)/snapshot/archive"
        for (archive, isWanted) in [
            ("debian", { (suite: String) in !suite.hasSuffix("-security") }),
            ("debian-security", { (suite: String) in suite.hasSuffix("-security") }),
        ] {
            let dates = lock.dates.filter { isWanted($0.key) }
            let newest = try #require(dates.values.compactMap { SnapshotTime.seconds($0) }.max())
            for (suite, date) in dates {
                for (hour, shown) in [(0, "Thu, 01 Jan 2026 00:00:00 UTC"), (1, date)] {
                    let time = SnapshotTime.text(newest + hour * 3600)
                    let path = "\(snapshot)/\(archive)/\(time)/dists/\(suite)/InRelease"
                    try FileSystem.makeDirectory(FileSystem.parent(of: path) ?? "/")
                    try FileSystem.replace(path, with: "Date: \(shown)\n")
                }
            }
            for package in lock.packages where (package.archive == "main") == (archive == "debian") {
                let path = "\(snapshot)/\(archive)/\(SnapshotTime.text(newest + 3600))/\(package.path)"
                try FileSystem.makeDirectory(FileSystem.parent(of: path) ?? "/")
                try FileSystem.replace(path, with: try FileSystem.read(cache.package(package.digest)))
            }
        }
        var environment = home
        environment["XDG_CACHE_HOME"] = "\(folder)/empty"
        // Without network: all of it comes from the archive.
        try Command(
            "unshare",
            ["-rn", program] + arguments("\(folder)/out", ["--snapshot", "file://\(folder)/snapshot"]),
            environment: environment
        ).check()
        #expect(try digests("\(folder)/out") == digests("\(folder)/warm"))
    }
}
