import Files
import Glibc
@testable import ImageBuilder
import Processes

/// Debian as mmdebstrap installs it: what an image is compared with.
enum StockDebian {
    /// Installs packages from the .debs of a lock, with maintainer scripts.
    ///
    /// - Parameters:
    ///   - definition: for its suite and mirrors.
    ///   - more: packages that the lock does not have.
    static func install(
        _ definition: String, _ lock: Lock, _ names: [String], more: [String] = [], to root: String
    ) throws {
        let debs = "\(root).debs"
        try FileSystem.remove(debs)
        try FileSystem.makeDirectory(debs)
        defer { try? FileSystem.remove(debs) }
        for package in lock.packages {
            let file = "\(package.name)_\(package.version.replacing(":", with: "%3a"))_\(package.architecture).deb"
            _ = link(Cache.standard.package(package.digest), "\(debs)/\(file)")
        }
        let definition = try Definition.read(definition)
        let mirrors = try Mirrors.find(base: definition.base, mirror: nil, cache: .standard)
        let keyring = "[signed-by=\(Mirrors.keyring)]"
        try Command(
            "mmdebstrap",
            [
                "--variant=minbase",
                "--include=\((definition.packages.map(\.value) + more).joined(separator: ","))",
                "--aptopt=APT::Install-Recommends \"0\"",
                "--setup-hook=mkdir -p \"$1/var/cache/apt/archives\" && cp \(debs)/*.deb \"$1/var/cache/apt/archives/\"",
                "trixie", root, "deb \(keyring) \(mirrors.main) trixie main",
                "deb \(keyring) \(mirrors.main) trixie-updates main",
                "deb \(keyring) \(mirrors.security) trixie-security main",
            ], environment: ["HOME": getenv("HOME").map { String(cString: $0) } ?? "/root"]
        ).check()
    }
}

/// Definitions that extend lab-minimal, locked and built by the command in a folder of their own.
final class OwnImages {
    let folder: String
    let build: BuildTests
    var images: String { "\(folder)/images" }
    var output: String { "\(folder)/out" }

    init() throws {
        folder = try FileSystem.makeTemporaryDirectory(in: "/var/tmp", prefix: "vcpe-own")
        build = try BuildTests()
        try FileSystem.makeDirectory("\(folder)/images")
        for name in ["profiles", "lab-minimal.yaml"] {
            try Command("cp", ["-r", "\(BuildTests.repository)/images/\(name)", "\(folder)/images"]).check()
        }
    }

    deinit { _ = try? Command("rm", ["-rf", "--one-file-system", folder]).run() }

    /// Locks and builds an image.
    ///
    /// - Parameter text: the definition's lines after `name` and `extends`.
    /// - Returns: its lock.
    func make(_ name: String, _ text: String) throws -> Lock {
        try FileSystem.replace("\(images)/\(name).yaml", with: "name: \(name)\nextends: lab-minimal\n\(text)")
        try command(["lock", name]).check()
        try command(["build", name, "--output", output, "--box", "\(BuildTests.repository)/.build/box"]).check()
        guard let lock = try Lock.read("\(images)/\(name).lock") else {
            throw BuildFailure("vcpe lock wrote no \(name).lock")
        }
        return lock
    }

    func command(_ arguments: [String]) -> Command {
        Command(build.program, arguments + ["--images", images], environment: build.home)
    }
}
