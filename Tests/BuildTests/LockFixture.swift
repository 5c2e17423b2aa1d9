import Files
import ImageBuilder
import Processes
import TestSupport
import Testing

/// A folder with definitions that take Debian's packages from an archive of the test's own: nothing
/// needs the network.
final class LockFixture {
    let folder: String
    let images: String
    let mirror: DebianMirror
    private let build: BuildTests
    /// Further environment of the commands.
    var environment: [String: String]

    init() throws {
        build = try BuildTests()
        folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-lock")
        images = "\(folder)/images"
        try FileSystem.makeDirectory("\(images)/debs")
        try Command("cp", ["-r", "\(BuildTests.repository)/images/profiles", images]).check()
        try Command("cp", ["\(BuildTests.repository)/images/lab-minimal.yaml", images]).check()
        mirror = try DebianMirror.debian(BuildTests.repository, in: "\(folder)/mirror")
        try mirror.use(by: "lab-minimal", in: images)
        // The user's cache, with package lists of its own.
        let cache = "\(folder)/cache/vcpe"
        try FileSystem.makeDirectory(cache)
        for name in ["debs", "packages", "tools", "modules", "initramfs"] {
            try Command("ln", ["-s", try Cache.standard.folder(name), cache]).check()
        }
        environment = build.home.merging(["XDG_CACHE_HOME": "\(folder)/cache"]) { $1 }
    }

    deinit { try? FileSystem.remove(folder) }

    /// Makes a .deb beside the definition, or in another folder, and returns its path.
    ///
    /// - Parameter files: a script that runs in the package's tree.
    @discardableResult
    func deb(
        _ name: String, version: String = "1:2.0-1", scripts: [String: String] = [:], files: String = "",
        fields: String = "", in place: String? = nil
    ) throws -> String {
        let tree = "\(folder)/trees/\(name)"
        try FileSystem.remove(tree)
        try FileSystem.makeDirectory("\(tree)/DEBIAN")
        try FileSystem.replace(
            "\(tree)/DEBIAN/control",
            with: "Package: \(name)\nVersion: \(version)\nArchitecture: all\nMaintainer: x <x@example.org>\n"
                + "\(fields)Description: x\n")
        for (script, text) in scripts {
            try FileSystem.replace("\(tree)/DEBIAN/\(script)", with: "#!/bin/sh\nset -e\n\(text)\n", mode: 0o755)
        }
        let made = files.isEmpty ? "mkdir -p usr/share/\(name); echo \(version) > usr/share/\(name)/version" : files
        try Command("sh", ["-ec", "umask 022; cd '\(tree)'; chmod 755 . DEBIAN; \(made)"]).check()
        let target = place ?? "\(images)/debs"
        try FileSystem.makeDirectory(target)
        let deb = "\(target)/\(name)\(place == nil ? "" : "_" + version.replacing(":", with: "%3a")).deb"
        try Command("dpkg-deb", ["--root-owner-group", "-b", tree, deb]).check()
        return deb
    }

    /// A .deb of an archive.
    func package(_ name: String, _ version: String, fields: String = "") throws -> DebianMirror.Package {
        DebianMirror.Package(try deb(name, version: version, fields: fields, in: "\(folder)/packages"))
    }

    /// Writes the definition `own`, which extends lab-minimal.
    func define(_ more: String) throws {
        try FileSystem.replace("\(images)/own.yaml", with: "name: own\nextends: lab-minimal\noutputs: []\n\(more)")
    }

    func command(_ arguments: [String]) -> Command {
        Command(build.program, arguments + ["--images", images], environment: environment)
    }

    func vcpe(_ arguments: [String]) throws -> Command.Result { try command(arguments).run() }

    /// Locks `own`, which must succeed.
    @discardableResult
    func lock() throws -> Lock {
        let result = try vcpe(["lock", "own"])
        #expect(result.status == 0, "\(result.errorText)")
        return try #require(try Lock.read("\(images)/own.lock"))
    }

    /// Builds `own` without network, and returns the manifest.
    func manifest() throws -> String {
        let words = ["build", "own", "--output", "\(folder)/out", "--box", "\(BuildTests.repository)/.build/box"]
        try Command(
            "unshare", ["-n", build.program] + command(words).arguments, environment: environment
        ).check()
        return String(decoding: try FileSystem.read("\(folder)/out/own/own.manifest"), as: UTF8.self)
    }
}
