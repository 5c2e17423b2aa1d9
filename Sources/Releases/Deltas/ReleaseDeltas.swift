import Documents
import Files
import ImageBuilder
import Processes
import Updates

/// Files by which boxes come to a new release from earlier ones.
public struct ReleaseDeltas {
    /// On this machine, by their names within the release.
    public private(set) var files: [String: String] = [:]
    /// What is signed beside: the hash at the root of the UKI's tree, and the bytes of the UKI with it.
    public private(set) var custom: [String: JSON] = [:]

    /// - Parameters:
    ///   - earlier: releases from which patches are made; from any other one boxes come by blocks.
    ///   - folder: where the files are made.
    ///   - level: zstd's.
    public init(
        of image: BuiltImage, since earlier: [PublishedRelease], in folder: String, level: Int32 = 19
    ) async throws {
        let (root, uki) = (try File(image.root), try File(image.uki))
        let tree = try await FileTree.copy(uki, "\(folder)/uki.tree", like: root)
        for (name, file) in [("root", root), ("uki", tree)] {
            files["\(name).blocks"] = "\(folder)/\(name).blocks"
            try BlockDelta.make(of: file, to: "\(folder)/\(name).blocks", level: level)
        }
        files["root.zst"] = "\(folder)/root.zst"
        try PatchDelta.make(from: nil, to: root, path: "\(folder)/root.zst", level: level)
        custom["uki-tree-hash"] = .text(try FileTree.top(of: tree).hex)
        custom["uki-tree-bytes"] = .integer(Int(try tree.status().st_size))
        custom["uki-bytes"] = .integer(Int(try uki.status().st_size))
        for release in earlier {
            let old = "\(folder)/old.root"
            try Command("zstd", ["-d", "-q", "-f", release.root, "-o", old]).check()
            for (name, from, to) in [("root", try File(old), root), ("uki", try File(release.uki), uki)] {
                let patch = "\(name).from-\(release.version).patch"
                try PatchDelta.make(from: from, to: to, path: "\(folder)/\(patch)", level: level)
                files[patch] = "\(folder)/\(patch)"
            }
        }
    }
}

/// A release that stands in a repository.
public struct PublishedRelease: Sendable, Hashable {
    public var version: String
    /// Seconds since 1970.
    public var released: Int
    /// Its root, compressed, and its UKI, in the repository's folder.
    public var root: String
    public var uki: String
}

extension ReleaseRepository {
    /// Releases of an image for a hardware profile in a channel, the newest first.
    public func releases(of image: String, profile: String, in channel: String) -> [PublishedRelease] {
        let start = "\(channel)/\(image)/\(profile)/"
        var found: [PublishedRelease] = []
        for (path, meta) in targets(of: channel) where path.hasPrefix(start) && path.hasSuffix("/root.zst") {
            let version = String(path.dropFirst(start.count).dropLast("/root.zst".count))
            guard let root = file(path, meta), let other = targets(of: channel)["\(start)\(version)/uki.efi"],
                let uki = file("\(start)\(version)/uki.efi", other)
            else { continue }
            found.append(
                PublishedRelease(
                    version: version, released: meta["custom"]?["released"]?.integer ?? 0, root: root, uki: uki))
        }
        return found.sorted { ($0.released, $0.version) > ($1.released, $1.version) }
    }

    private func file(_ path: String, _ meta: JSON) -> String? {
        guard let digest = meta["hashes"]?["sha256"]?.text, let parent = FileSystem.parent(of: path) else { return nil }
        return "\(folder)/targets/\(parent)/\(digest).\(FileSystem.name(of: path))"
    }
}
