import Documents
import Files
import Updates

/// The role that directs groups of boxes to releases; see ``Direction``.
extension ReleaseRepository {
    /// Delegates the director's role to its keys.
    public mutating func addDirector(_ director: Keys, signing session: SigningSession) throws -> Outcome {
        begin(["targets"])
        try delegate("\(Direction.role)/*", to: Direction.role, director)
        return try commit(["targets"], session)
    }

    /// Directs a group to a release of an image. The group's releases of other images do not
    /// change.
    ///
    /// - Parameters:
    ///   - window: when boxes may restart unattended; nil leaves that to their site documents.
    ///   - days: the direction's validity.
    /// - Returns: the file's path and the direction; nil if the session did not confirm it.
    public func direct(
        _ group: String, image: String, to version: String, window: MaintenanceWindow?, days: Int,
        signing session: SigningSession
    ) throws -> (path: String, direction: Direction)? {
        guard let role = directorRole, let authority = authority(Direction.role) else {
            throw ReleaseFailure(
                "\(folder): the repository has no director",
                hint: "vcpe release director \(folder) --key KEY.pub")
        }
        let known = Set(channels.flatMap { self.releases(in: $0) }.filter { $0.image == image }.map(\.version))
        guard known.contains(version) else {
            throw ReleaseFailure(
                "\(folder): no channel has a release \(version) of \(image)",
                hint: known.isEmpty
                    ? "vcpe release add \(image)"
                    : "the releases are "
                        + known.sorted().joined(separator: ", "))
        }
        let path = "\(folder)/\(Direction.role)/\(group).json"
        let last = FileSystem.exists(path) ? try SignedDocument(Direction.role, file: path) : nil
        var releases = last?.signed["releases"]?.object ?? [:]
        releases[image] = .text(version)
        var signed: [String: JSON] = [
            "_type": .text(Direction.role), "spec_version": "1.0.31", "version": .integer((last?.version ?? 0) + 1),
            "expires": .text(expiry(Direction.role, days: days)), "group": .text(group), "releases": .object(releases),
        ]
        if let window { signed["window"] = ["from": .integer(window.from), "to": .integer(window.to)] }
        var document = SignedDocument(Direction.role, signed)
        let review = ChangeReview(direction: document, of: group, after: last, signers: authority)
        guard try session.confirm(review) else { return nil }
        _ = try document.sign(authority.role.identifiers, session.keys)
        let missing = authority.missing(document)
        guard missing == 0 else {
            throw ReleaseFailure(
                "director: \(missing) of \(authority.role.threshold) signatures are missing",
                hint: "--keys FOLDER for each signer", reason: .noKey)
        }
        // Check that a box would accept it.
        let direction = try Direction(
            document.bytes, of: group, signedBy: role, now: now, last: last?.version ?? 0)
        if let parent = FileSystem.parent(of: path) { try FileSystem.makeDirectory(parent) }
        try FileSystem.replace(path, with: document.bytes)
        return (path, direction)
    }

    private var directorRole: Role? {
        guard let json = delegations.first(where: { $0["name"]?.text == Direction.role }) else { return nil }
        let keys = documents["targets"]?.signed["delegations"]?["keys"]?.object ?? [:]
        return try? Role(json, keys: keys, name: Direction.role)
    }

    /// The direction of each group, as a box would read it, by group.
    public var directions: [(group: String, direction: Result<Direction, UpdateFailure>)] {
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
}
