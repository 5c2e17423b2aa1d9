import Digests
import Documents
import Files

/// A release that a channel offers for an image and a hardware profile: what is signed of it.
public struct AvailableRelease: Sendable, Hashable {
    public let version: String
    /// When it was published, in seconds since 1970: the order of releases.
    public let released: Int
    /// Nothing that was published before may be installed any more.
    public let isFloor: Bool
    /// `CHANNEL/IMAGE/PROFILE/VERSION`
    public let path: String
    public let architecture: String
    /// At the top of the root's verity tree.
    public let rootHash: Digest
    public let rootDigest: Digest
    /// With its tree.
    public let rootBytes: Int
    public let ukiDigest: Digest
    public let ukiBytes: Int
    let ukiTreeHash: Digest
    let ukiTreeBytes: Int
    /// Its files by name.
    public let files: [String: FileMeta]

    init?(path: String, files: [String: FileMeta]) {
        func digest(_ value: JSON?) -> Digest? { (value?.text).flatMap { Digest(hex: $0) } }
        guard let uki = files["uki.efi"], let custom = files["manifest"]?.custom, let ukiDigest = uki.sha256,
            let version = custom["version"]?.text, let released = custom["released"]?.integer,
            let rootHash = digest(custom["root-hash"]), let rootDigest = digest(custom["root-sha256"]),
            let rootBytes = custom["root-bytes"]?.integer, let ukiBytes = uki.length,
            let treeHash = digest(custom["uki-tree-hash"]), let treeBytes = custom["uki-tree-bytes"]?.integer,
            path.hasSuffix("/\(version)"), rootBytes > 0, ukiBytes > 0
        else { return nil }
        (self.version, self.released, self.path, self.files) = (version, released, path, files)
        isFloor = custom["floor"]?.boolean == true
        architecture = custom["architecture"]?.text ?? ""
        (self.rootHash, self.rootDigest, self.rootBytes) = (rootHash, rootDigest, rootBytes)
        (self.ukiDigest, self.ukiBytes, ukiTreeHash, ukiTreeBytes) = (ukiDigest, ukiBytes, treeHash, treeBytes)
    }

    /// Has this release begin with what the one that runs follows and keeps, whatever it had when it had the box before.
    ///
    /// - Parameter data: where the data partition is. The engine's `CommitStore` and `PluginStates` read these names.
    public func handOver(data: String) throws(SystemError) {
        var old = ["\(data)/vcpe/commits/head.\(version)"]
        let states = "\(data)/vcpe/states"
        if FileSystem.exists(states) {
            old += try FileSystem.list(states).filter { !$0.contains("@") }.map { "\(states)/\($0)" }
        }
        for path in old where FileSystem.exists(path) {
            try FileSystem.remove(path)
            if let folder = FileSystem.parent(of: path) { try FileSystem.syncDirectory(folder) }
        }
    }

    /// What is signed of the index of a patch.
    func index(of name: String) -> Digest? {
        files[name]?.custom["index-sha256"]?.text.flatMap { Digest(hex: $0) }
    }

    /// The files of a patch from exactly that release; nil where it has none.
    public func patches(from version: String) -> (root: FileMeta, uki: FileMeta)? {
        guard let root = files["root.from-\(version).patch"], let uki = files["uki.from-\(version).patch"] else {
            return nil
        }
        return (root, uki)
    }
}

extension UpdateClient {
    /// Releases that a channel signs for, the newest first. What an image, a profile or this program can't read is left out.
    public mutating func releases(
        in channel: String, of image: String, profile: String
    ) throws(UpdateFailure) -> [AvailableRelease] {
        let start = "\(channel)/\(image)/\(profile)/"
        // Whoever may sign for such a file is asked, though nobody has it; then what they say is here.
        do { _ = try find(start + "0/none") } catch { if error.reason != .unknownTarget { throw error } }
        guard let targets = trusted.targets[channel]?.targets else {
            throw UpdateFailure(.unknownTarget, channel, "the repository has no such channel")
        }
        var found: [String: [String: FileMeta]] = [:]
        for (path, meta) in targets where path.hasPrefix(start) {
            let rest = path.dropFirst(start.count).split(separator: "/").map(String.init)
            if rest.count == 2 { found[rest[0], default: [:]][rest[1]] = meta }
        }
        return found.compactMap { AvailableRelease(path: start + $0.key, files: $0.value) }
            .sorted { ($0.released, $0.version) > ($1.released, $1.version) }
    }

    /// Where a file of a release is, behind the address of the repository's targets.
    public func address(of name: String, in release: AvailableRelease) -> String {
        let hash = trusted.root.isConsistent ? (release.files[name]?.hashes["sha256"] ?? "") + "." : ""
        return URLText.quoted("\(release.path)/\(hash)\(name)", keeping: "/")
    }
}
