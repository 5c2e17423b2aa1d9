import Documents
import Files
import Updates

/// A release in a repository.
public struct PublishedRelease: Sendable, Hashable {
    public var image: String
    public var profile: String
    public var version: String
    /// Seconds since 1970.
    public var released: Int
    /// Whether boxes install no release that is older than this one.
    public var isFloor: Bool
    /// The compressed root and the UKI, in the repository's folder; nil for a file that the release
    /// lacks.
    public var root: String?
    public var uki: String?

    /// The path below its channel.
    public var path: String { "\(image)/\(profile)/\(version)" }
}

/// Releases are targets with the path `CHANNEL/IMAGE/PROFILE/VERSION/FILE`.
extension ReleaseRepository {
    /// Field of a channel's metadata that lists withdrawn releases, so that their versions are
    /// never used again.
    static let withdrawnField = "x-vcpe-withdrawn"

    /// All releases of a channel, the newest of each image and profile first.
    public func releases(in channel: String) -> [PublishedRelease] {
        Self.releases(targets(of: channel), in: channel, folder: folder)
    }

    /// Releases of an image for a hardware profile in a channel, the newest first.
    public func releases(of image: String, profile: String, in channel: String) -> [PublishedRelease] {
        releases(in: channel).filter { $0.image == image && $0.profile == profile }
    }

    static func releases(_ targets: [String: JSON], in channel: String, folder: String) -> [PublishedRelease] {
        func file(_ path: String) -> String? {
            guard let digest = targets[path]?["hashes"]?["sha256"]?.text, let parent = FileSystem.parent(of: path)
            else { return nil }
            return "\(folder)/targets/\(parent)/\(digest).\(FileSystem.name(of: path))"
        }
        var found: [PublishedRelease] = []
        for (path, meta) in targets where path.hasSuffix("/manifest") {
            let parts = path.split(separator: "/").map(String.init)
            guard parts.count == 5, parts[0] == channel else { continue }
            let prefix = parts[..<4].joined(separator: "/")
            found.append(
                PublishedRelease(
                    image: parts[1], profile: parts[2], version: parts[3],
                    released: meta["custom"]?["released"]?.integer ?? 0,
                    isFloor: meta["custom"]?["floor"]?.boolean == true, root: file("\(prefix)/root.zst"),
                    uki: file("\(prefix)/uki.efi")))
        }
        return found.sorted {
            ($0.image, $0.profile, -$0.released, $0.version) < ($1.image, $1.profile, -$1.released, $1.version)
        }
    }

    private func withdrawn(_ channel: String) -> [String] {
        documents[channel]?.signed[Self.withdrawnField]?.list?.compactMap(\.text) ?? []
    }

    /// Checks that a release can be added.
    ///
    /// - Parameter path: `IMAGE/PROFILE/VERSION`.
    /// - Throws: ``ReleaseFailure`` for a channel that is missing, and for a version that was
    ///   released or withdrawn.
    public func checkIsNew(_ path: String, in channel: String) throws(ReleaseFailure) {
        var next = self
        next.begin([channel])
        try next.check(channel: channel)
        let start = "\(channel)/\(path)/"
        if next.targets(of: channel).keys.contains(where: { $0.hasPrefix(start) }) {
            throw ReleaseFailure(
                "\(channel)/\(path): this version was released before, and a release never changes",
                hint: "give the image another version", reason: .exists)
        }
        if next.withdrawn(channel).contains(path) {
            throw ReleaseFailure(
                "\(channel)/\(path): this version was withdrawn, and boxes may have it",
                hint: "give the image another version", reason: .exists)
        }
    }

    /// Adds the files of releases to a channel.
    ///
    /// - Parameters:
    ///   - files: files of this machine, by `IMAGE/PROFILE/VERSION/FILE`.
    ///   - custom: the fields that are signed with the file `manifest`.
    public mutating func add(
        _ files: [String: String], to channel: String, custom: JSON, signing session: SigningSession
    ) throws -> Outcome {
        for release in Set(files.keys.compactMap(FileSystem.parent(of:))).sorted() {
            try checkIsNew(release, in: channel)
        }
        begin([channel])
        var targets = targets(of: channel)
        for (path, file) in files.sorted(by: { $0.key < $1.key }) {
            let target = "\(channel)/\(path)"
            let (length, digest) = try copy(file, to: target)
            // Repeated for every file, the fields would exceed the metadata size that boxes accept.
            var own = FileSystem.name(of: path) == "manifest" ? custom.object ?? [:] : [:]
            own["released"] = .integer(now)
            own["index-sha256"] = try PatchDelta.index(of: File(file)).map { .text($0.hex) }
            targets[target] = [
                "length": .integer(length), "hashes": ["sha256": .text(digest)], "custom": .object(own),
            ]
        }
        documents[channel]?.signed["targets"] = .object(targets)
        return try commit([channel], session)
    }

    /// Copies a file to the name that clients of consistent snapshots read (TUF 1.0, section 6.2).
    private func copy(_ file: String, to target: String) throws -> (length: Int, digest: String) {
        let source = try File(file)
        let (digest, count) = try source.digest()
        let parent = "\(folder)/targets/\(FileSystem.parent(of: target) ?? "")"
        try FileSystem.makeDirectory(parent)
        let copied = "\(parent)/\(digest.hex).\(FileSystem.name(of: target))"
        if !FileSystem.exists(copied) {
            try FileSystem.replace(copied) { (made: File) throws(SystemError) in
                try made.copy(from: source, at: 0, count: count, to: 0)
            }
        }
        return (count, digest.hex)
    }

    // MARK: - Removal

    /// Removes a version of an image from a channel. Boxes no longer install it, and its number is
    /// never used again.
    ///
    /// - Parameter profile: nil for all hardware profiles.
    /// - Throws: ``ReleaseFailure`` for a version that the channel does not have, and for one that
    ///   a group is directed to.
    public mutating func withdraw(
        _ version: String, of image: String, profile: String? = nil, from channel: String,
        signing session: SigningSession
    ) throws -> Outcome {
        begin([channel])
        try check(channel: channel)
        let all = releases(in: channel).filter { $0.image == image && (profile == nil || $0.profile == profile) }
        let gone = all.filter { $0.version == version }
        guard !gone.isEmpty else {
            let known = Set(all.map(\.version)).sorted().joined(separator: ", ")
            throw ReleaseFailure(
                "\(channel): there is no release \(version) of \(image)",
                hint: known.isEmpty ? "vcpe release status \(folder)" : "the releases are \(known)")
        }
        if let group = groups(directedTo: version, of: image).first {
            throw ReleaseFailure(
                "\(channel)/\(image) \(version): the group \(group) is directed to this release",
                hint: "vcpe release direct \(folder) \(group) --image \(image) --release VERSION")
        }
        drop(gone, from: channel)
        return try commit([channel], session)
    }

    /// Removes all but the newest releases of each image and profile from a channel. Releases that
    /// a group is directed to, and the newest floor, stay.
    ///
    /// - Parameter keep: how many releases stay, at least 1.
    public mutating func dropOldReleases(
        keep: Int, from channel: String, signing session: SigningSession
    ) throws -> Outcome {
        begin([channel])
        drop(try oldReleases(keep: keep, in: channel), from: channel)
        return try commit([channel], session)
    }

    /// The releases that ``dropOldReleases(keep:from:signing:)`` would remove.
    public func oldReleases(keep: Int, in channel: String) throws(ReleaseFailure) -> [PublishedRelease] {
        try check(channel: channel)
        let groups = Dictionary(grouping: releases(in: channel)) { "\($0.image)/\($0.profile)" }
        return groups.sorted { $0.key < $1.key }.flatMap { _, releases -> [PublishedRelease] in
            let floor = releases.first { $0.isFloor }
            return releases.dropFirst(max(1, keep)).filter { release in
                release != floor && self.groups(directedTo: release.version, of: release.image).isEmpty
            }
        }
    }

    private mutating func drop(_ releases: [PublishedRelease], from channel: String) {
        let starts = releases.map { "\(channel)/\($0.path)/" }
        let rest = targets(of: channel).filter { target in !starts.contains { target.key.hasPrefix($0) } }
        documents[channel]?.signed["targets"] = .object(rest)
        let numbers = Set(withdrawn(channel)).union(releases.map(\.path))
        documents[channel]?.signed[Self.withdrawnField] = .texts(numbers.sorted())
    }

    /// The names of groups that are directed to a release.
    func groups(directedTo version: String, of image: String) -> [String] {
        directions.compactMap { item in
            guard case .success(let direction) = item.direction, direction.releases[image] == version else {
                return nil
            }
            return item.group
        }
    }
}
