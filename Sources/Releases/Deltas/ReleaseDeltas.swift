import Documents
import Files
import ImageBuilder
import Processes
import Updates

/// The files that upgrade boxes from earlier releases to a new one.
public struct ReleaseDeltas {
    /// Files on this machine, by their names within the release.
    public private(set) var files: [String: String] = [:]
    /// The fields that are signed with them: the root hash of the UKI's tree, the UKI's size, and
    /// its size with the tree.
    public private(set) var custom: [String: JSON] = [:]

    /// - Parameters:
    ///   - earlier: releases from which patches are made; boxes with any other release use blocks.
    ///   - folder: where the files are written.
    ///   - level: the compression level of zstd.
    public init(
        of image: BuiltImage, since earlier: [PublishedRelease], in folder: String, level: Int32 = 19
    ) async throws {
        let root = try File(image.root)
        let uki = try File(image.uki)
        let tree = try await FileTree.copy(uki, "\(folder)/uki.tree", like: root)
        for (name, file) in [("root", root), ("uki", tree)] {
            try BlockDelta.make(of: file, to: "\(folder)/\(name).blocks", level: level)
            files["\(name).blocks"] = "\(folder)/\(name).blocks"
        }
        try addPatch("root.zst", from: nil, to: root, folder, level)
        custom["uki-tree-hash"] = .text(try FileTree.top(of: tree).hex)
        custom["uki-tree-bytes"] = .integer(Int(try tree.status().st_size))
        custom["uki-bytes"] = .integer(Int(try uki.status().st_size))
        for release in earlier {
            guard let oldRoot = release.root, let oldUKI = release.uki else { continue }
            let old = "\(folder)/old.root"
            try Command("zstd", ["-d", "-q", "-f", oldRoot, "-o", old]).check()
            try addPatch("root.from-\(release.version).patch", from: File(old), to: root, folder, level)
            try addPatch("uki.from-\(release.version).patch", from: File(oldUKI), to: uki, folder, level)
        }
    }

    /// Makes a patch, unless boxes would refuse its index; they use blocks then.
    private mutating func addPatch(
        _ name: String, from old: File?, to new: File, _ folder: String, _ level: Int32
    ) throws {
        guard try PatchDelta.make(from: old, to: new, path: "\(folder)/\(name)", level: level) else { return }
        files[name] = "\(folder)/\(name)"
    }
}
