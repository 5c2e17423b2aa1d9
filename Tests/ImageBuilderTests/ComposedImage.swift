import Digests
import Documents
import Files
import ImageBuilder
import Processes
import Testing

/// Packages made by dpkg-deb, composed as an image's are.
class ComposedImage {
    let folder: String
    let cache: Cache

    init() throws {
        folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-compose")
        cache = Cache(root: "\(folder)/cache")
        try FileSystem.makeDirectory("\(folder)/images/profiles")
        try FileSystem.replace(
            "\(folder)/images/profiles/none.yaml", with: "summary: x\nkernel: linux-image-1\nboot-modules: []\n")
    }

    deinit { try? FileSystem.remove(folder) }

    /// Makes a package of `script`, which runs in the folder that will be its tree.
    func package(_ name: String, fields: String = "", postinst: String = "", _ script: String) throws -> UnpackedPackage
    {
        let tree = "\(folder)/\(name)"
        try FileSystem.makeDirectory("\(tree)/DEBIAN")
        try FileSystem.replace(
            "\(tree)/DEBIAN/control",
            with:
                "Package: \(name)\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example.org>\n\(fields)Description: x\n"
        )
        if !postinst.isEmpty {
            try FileSystem.replace(
                "\(tree)/DEBIAN/postinst", with: "#!/bin/sh\nset -e\n\(postinst)\nexit 0\n", mode: 0o755)
        }
        try Command("sh", ["-ec", "umask 022; cd '\(tree)'; chmod 755 . DEBIAN; \(script)"]).check()
        try Command("dpkg-deb", ["--root-owner-group", "-b", tree, "\(folder)/\(name).deb"]).check()
        let bytes = try FileSystem.read("\(folder)/\(name).deb")
        let locked = LockedPackage(
            name: name, version: "1", architecture: "all", size: bytes.count, digest: SHA256.hash(bytes),
            archive: "main", path: "pool/\(name).deb")
        _ = try cache.folder("debs")
        try FileSystem.replace(cache.package(locked.digest), with: bytes)
        return try UnpackedPackage.read(locked, cache: cache)
    }

    /// - Parameter effects: as a `.effects` file has them below `effects:`.
    func compose(
        _ packages: [UnpackedPackage], definition: String = "", lock: Lock = Lock(), effects: String = "",
        diversions: String = "", alternatives: String = ""
    ) async throws -> Composer.Result {
        try FileSystem.replace(
            "\(folder)/images/box.effects",
            with: "reference: none\ndiversions: [\(diversions)]\nalternatives: [\(alternatives)]\nunresolved: []\n"
                + (effects.isEmpty ? "effects: {}\n" : "effects:\n\(effects)\n"))
        let kernel = try package("linux-image-1", "mkdir -p boot; echo kernel > boot/vmlinuz-1")
        try FileSystem.replace(
            "\(folder)/images/box.yaml",
            with: "name: box\nversion: '1'\nbase: {suite: trixie, architecture: amd64}\nprofiles: [none]\n" + definition
        )
        let read = try Definition.read("\(folder)/images/box.yaml")
        var composer = Composer(
            definition: read, profile: try HardwareProfile.read(read.profiles[0], folder: "\(folder)/images"),
            packages: packages + [kernel], lock: lock,
            effects: try #require(try Effects.read("\(folder)/images/box.effects")), folder: "\(folder)/images",
            cache: cache)
        return try await composer.compose(box: [:])
    }

    func text(_ tree: Tree, _ path: String) throws -> String? {
        guard case .file(let content)? = tree[path]?.kind else { return nil }
        return String(decoding: try content.read(), as: UTF8.self)
    }
}
