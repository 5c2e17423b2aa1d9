import Digests
import Documents
import Files

/// A release that a channel offers for an image and a hardware profile, with its signed fields.
public struct AvailableRelease: Sendable, Hashable {
    public let version: String
    /// When it was published, in seconds since 1970; releases are ordered by it.
    public let released: Int
    /// Whether boxes install no release that was published before.
    public let isFloor: Bool
    /// `CHANNEL/IMAGE/PROFILE/VERSION`
    public let path: String
    /// Debian's name of the processor architecture; empty if none is signed.
    public let architecture: String
    /// The root hash of the root's dm-verity tree.
    public let rootHash: Digest
    public let rootDigest: Digest
    /// The size of the root with its dm-verity tree.
    public let rootBytes: Int
    public let ukiDigest: Digest
    public let ukiBytes: Int
    let ukiTreeHash: Digest
    let ukiTreeBytes: Int
    /// The release's files, by name.
    public let files: [String: FileMeta]

    /// Allowed sizes of a root or a UKI in bytes. Larger numbers could overflow in computations.
    private static let sizes = 1...1 << 40

    init?(path: String, files: [String: FileMeta]) {
        func digest(_ value: JSON?) -> Digest? { (value?.text).flatMap { Digest(hex: $0) } }
        guard let uki = files["uki.efi"], let custom = files["manifest"]?.custom, let ukiDigest = uki.sha256,
            let version = custom["version"]?.text, let released = custom["released"]?.integer,
            let rootHash = digest(custom["root-hash"]), let rootDigest = digest(custom["root-sha256"]),
            let rootBytes = custom["root-bytes"]?.integer, let ukiBytes = uki.length,
            let treeHash = digest(custom["uki-tree-hash"]), let treeBytes = custom["uki-tree-bytes"]?.integer,
            path.hasSuffix("/\(version)"), Self.sizes.contains(rootBytes), Self.sizes.contains(ukiBytes),
            // A tree adds 1/127 of its data and a superblock.
            (ukiBytes...2 * ukiBytes + 65_536).contains(treeBytes)
        else { return nil }
        (self.version, self.released, self.path, self.files) = (version, released, path, files)
        isFloor = custom["floor"]?.boolean == true
        architecture = custom["architecture"]?.text ?? ""
        (self.rootHash, self.rootDigest, self.rootBytes) = (rootHash, rootDigest, rootBytes)
        (self.ukiDigest, self.ukiBytes, ukiTreeHash, ukiTreeBytes) = (ukiDigest, ukiBytes, treeHash, treeBytes)
    }

    /// Removes the state that this release left when it ran before, so that it starts with the
    /// state of the running release.
    ///
    /// - Parameter data: the mount point of the data partition. The engine's `CommitStore` and
    ///   `PluginStates` read these names.
    public func removeOldState(data: String) throws(SystemError) {
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

    /// The signed digest of a patch's index.
    func index(of name: String) -> Digest? {
        files[name]?.custom["index-sha256"]?.text.flatMap { Digest(hex: $0) }
    }

    /// The patches of root and UKI from exactly that release; nil without them.
    public func patches(from version: String) -> (root: FileMeta, uki: FileMeta)? {
        guard let root = files["root.from-\(version).patch"], let uki = files["uki.from-\(version).patch"] else {
            return nil
        }
        return (root, uki)
    }
}

extension UpdateClient {
    /// The releases of a channel, the newest first. A release that this program cannot read is left
    /// out.
    public mutating func releases(
        in channel: String, of image: String, profile: String
    ) throws(UpdateFailure) -> [AvailableRelease] {
        let start = "\(channel)/\(image)/\(profile)/"
        // No role has this file, but the search for it loads the metadata of the roles that cover
        // it.
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

    /// The path of a file of a release below the repository's targets.
    public func address(of name: String, in release: AvailableRelease) -> String {
        let hash = trusted.root.isConsistent ? (release.files[name]?.hashes["sha256"] ?? "") + "." : ""
        return URLText.quoted("\(release.path)/\(hash)\(name)", keeping: "/")
    }
}
