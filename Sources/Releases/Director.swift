import Documents
import Files
import Updates

/// Who hands releases out to groups of boxes; ``Updates/Direction`` says what that is.
extension ReleaseRepository {
    /// Gives the director's role its keys.
    public mutating func addDirector(_ director: Keys, signing keys: KeyFolder) throws -> Outcome {
        try refuseWhileWaiting()
        try delegate("\(Direction.role)/*", to: Direction.role, director)
        return try commit(["targets"], keys)
    }

    /// Says what a group is to run, beside what it was told of other images.
    ///
    /// - Parameters:
    ///   - window: seconds after midnight, UTC; nil for the site's own.
    ///   - days: that it holds.
    /// - Returns: the file, and what it says to a box.
    public func direct(
        _ group: String, image: String, to version: String, window: MaintenanceWindow?, days: Int,
        signing keys: KeyFolder
    ) throws -> (path: String, direction: Direction) {
        guard let role = directorRole, let signers = signers(Direction.role) else {
            throw ReleaseFailure(
                "\(folder) has no director", hint: "vcpe release director \(folder) --key KEY.pub")
        }
        let known = versions(of: image)
        guard known.contains(version) else {
            throw ReleaseFailure(
                "no channel has a release \(version) of \(image)",
                hint: known.isEmpty ? nil : "there are " + known.sorted().joined(separator: ", "))
        }
        let path = "\(folder)/\(Direction.role)/\(group).json"
        let before = FileSystem.exists(path) ? try SignedDocument(Direction.role, FileSystem.read(path)) : nil
        var releases = before?.signed["releases"]?.object ?? [:]
        releases[image] = .text(version)
        var signed: [String: JSON] = [
            "_type": .text(Direction.role), "spec_version": "1.0.31", "version": .integer((before?.version ?? 0) + 1),
            "expires": .text(expiry(Direction.role, days: days)), "group": .text(group), "releases": .object(releases),
        ]
        if let window { signed["window"] = ["from": .integer(window.from), "to": .integer(window.to)] }
        var document = SignedDocument(Direction.role, signed)
        try document.sign(signers.identifiers, keys)
        guard signers.missing(document) == 0 else {
            throw ReleaseFailure(
                "\(signers.missing(document)) keys of the director are missing",
                hint: "--keys may be given several times: all that must sign do so at once")
        }
        // As a box reads it.
        let direction = try Direction(
            document.bytes, of: group, signedBy: role, now: now, last: before?.version ?? 0)
        if let parent = FileSystem.parent(of: path) { try FileSystem.makeDirectory(parent) }
        try FileSystem.replace(path, with: document.bytes)
        return (path, direction)
    }

    private var directorRole: Role? {
        guard let json = delegations.first(where: { $0["name"]?.text == Direction.role }) else { return nil }
        let keys = documents["targets"]?.signed["delegations"]?["keys"]?.object ?? [:]
        return try? Role(json, keys: keys, name: Direction.role)
    }

    /// What each group is told, as a box would read it.
    public var directions: [(group: String, says: Result<Direction, UpdateFailure>)] {
        guard let role = directorRole else { return [] }
        let names = (try? FileSystem.list("\(folder)/\(Direction.role)")) ?? []
        return names.filter { $0.hasSuffix(".json") && !$0.hasPrefix(".") }.sorted().map { name in
            let group = String(name.dropLast(5))
            let bytes = (try? FileSystem.read("\(folder)/\(Direction.role)/\(name)")) ?? []
            return (
                group,
                Result { () throws(UpdateFailure) in
                    try Direction(bytes, of: group, signedBy: role, now: now, last: 0)
                }
            )
        }
    }

    /// Of an image, in all channels.
    private func versions(of image: String) -> Set<String> {
        var found: Set<String> = []
        for path in channels.flatMap({ targets(of: $0).keys }) {
            let parts = path.split(separator: "/").map(String.init)
            if parts.count == 5, parts[1] == image { found.insert(parts[3]) }
        }
        return found
    }
}
