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

    /// The outcome of ``direct(_:image:to:window:days:signing:)``.
    public enum DirectionOutcome: Sendable {
        /// Boxes of the group see it.
        case published(path: String, Direction)
        /// Kept in `unsigned/director/`: signatures that are missing.
        case waiting(Int)
        /// The session did not confirm it; nothing is kept.
        case unconfirmed
    }

    /// The folder of directions that wait for signatures; boxes never read it.
    static let waitingDirections = "unsigned/\(Direction.role)"

    private func path(_ group: String) -> String { "\(folder)/\(Direction.role)/\(group).json" }

    /// Directs a group to a release of an image. The group's releases of other images do not
    /// change. A direction that waits is replaced, with its signatures; its releases of other
    /// images stay.
    ///
    /// - Parameters:
    ///   - window: when boxes may restart unattended; nil leaves that to their site documents.
    ///   - days: the direction's validity.
    public mutating func direct(
        _ group: String, image: String, to version: String, window: MaintenanceWindow?, days: Int,
        signing session: SigningSession
    ) throws -> DirectionOutcome {
        guard let authority = directionAuthority else {
            throw ReleaseFailure(
                "\(folder): the repository has no director",
                hint: "vcpe release director \(folder) --key KEY.pub")
        }
        let known = versions(of: image)
        guard known.contains(version) else {
            throw ReleaseFailure(
                "\(folder): no channel has a release \(version) of \(image)",
                hint: known.isEmpty
                    ? "vcpe release add \(image)" : "the releases are \(known.sorted().joined(separator: ", "))")
        }
        let last = try published(group)
        var releases = (pendingDirections[group] ?? last)?.signed["releases"]?.object ?? [:]
        releases[image] = .text(version)
        var signed: [String: JSON] = [
            "_type": .text(Direction.role), "spec_version": "1.0.31", "version": .integer((last?.version ?? 0) + 1),
            "expires": .text(expiry(Direction.role, days: days)), "group": .text(group), "releases": .object(releases),
        ]
        if let window { signed["window"] = ["from": .integer(window.from), "to": .integer(window.to)] }
        var document = SignedDocument(Direction.role, signed)
        var review = try ChangeReview(of: [:], directions: reviewed([group: document]), in: self)
        review.includesWaiting = pendingDirections[group] != nil
        guard try session.confirm(review) else { return .unconfirmed }
        _ = try document.sign(authority.role.identifiers, session.keys)
        if let missing = try settle([group: document]).values.first { return .waiting(missing) }
        let direction = try read(document, of: group, last: last)
        return .published(path: path(group), direction)
    }

    // MARK: - Waiting directions

    /// The keys that boxes accept for directions: those of the published targets, whatever waits.
    var directionAuthority: Authority? { Self.authority(Direction.role, in: published) }

    /// The versions of an image in the published channels.
    private func versions(of image: String) -> Set<String> {
        let channels = published.filter { !TrustedMetadata.topLevel.contains($0.key) }
        return Set(
            channels.flatMap { channel, document in
                Self.releases(document.signed["targets"]?.object ?? [:], in: channel, folder: folder)
            }.filter { $0.image == image }.map(\.version))
    }

    private func published(_ group: String) throws -> SignedDocument? {
        let path = path(group)
        return FileSystem.exists(path) ? try SignedDocument(Direction.role, file: path) : nil
    }

    /// Directions beside the published ones, after a check of each: what a box would refuse, or
    /// what the review does not show, is not signed.
    func reviewed(
        _ directions: [String: SignedDocument]
    ) throws -> [String: (new: SignedDocument, old: SignedDocument?)] {
        var found: [String: (new: SignedDocument, old: SignedDocument?)] = [:]
        for (group, document) in directions {
            let last = try published(group)
            let file = "\(folder)/\(Self.waitingDirections)/\(group).json"
            func refused(_ what: String) -> ReleaseFailure {
                ReleaseFailure(
                    "\(file): \(what)",
                    hint: "sign nothing, find out who wrote the file, and vcpe release discard \(folder)",
                    reason: .doesNotFollow, path: file)
            }
            guard directionAuthority != nil else { throw refused("the repository has no director") }
            let version = (last?.version ?? 0) + 1
            guard document.version == version else {
                throw refused("the counter is \(document.version), allowed is \(version)")
            }
            guard document.signed["_type"]?.text == Direction.role, document.signed["group"]?.text == group else {
                throw refused("it is not a direction of the group \(group)")
            }
            guard let expires = document.signed["expires"]?.text.flatMap(UTC.seconds),
                expires <= now + 86_400 * (Self.mostDays + 1)
            else { throw refused("the expiry date is missing, or more than \(Self.mostDays) days ahead") }
            guard document.signed["window"] == nil || MaintenanceWindow(document.signed["window"]) != nil else {
                throw refused("window is not two different times of a day in seconds")
            }
            for (image, version) in document.signed["releases"]?.object ?? [:]
            where !versions(of: image).contains(version.text ?? "") {
                throw refused("no channel has the release \(version.line) of \(image)")
            }
            found[group] = (document, last)
        }
        return found
    }

    /// Publishes the directions that have all signatures, and keeps the others. No online key is
    /// needed, because the snapshot does not list directions.
    ///
    /// - Returns: missing signatures, by `director/GROUP`.
    mutating func settle(_ directions: [String: SignedDocument]) throws -> [String: Int] {
        var open: [String: Int] = [:]
        for (group, document) in directions.sorted(by: { $0.key < $1.key }) {
            let waiting = "\(folder)/\(Self.waitingDirections)/\(group).json"
            let missing = directionAuthority?.missing(document) ?? 1
            if missing > 0 {
                open["\(Direction.role)/\(group)"] = missing
                try FileSystem.makeDirectory("\(folder)/\(Self.waitingDirections)")
                try FileSystem.replace(waiting, with: document.bytes)
                pendingDirections[group] = document
                continue
            }
            // Check that a box would accept it.
            _ = try read(document, of: group, last: try published(group))
            try FileSystem.makeDirectory("\(folder)/\(Direction.role)")
            try FileSystem.replace(path(group), with: document.bytes)
            pendingDirections[group] = nil
            try FileSystem.remove(waiting)
        }
        if pendingDirections.isEmpty {
            try FileSystem.remove("\(folder)/\(pending.isEmpty ? "unsigned" : Self.waitingDirections)")
        }
        return open
    }

    private func read(_ document: SignedDocument, of group: String, last: SignedDocument?) throws -> Direction {
        guard let role = role(in: published) else { throw ReleaseFailure("\(folder): the repository has no director") }
        return try Direction(document.bytes, of: group, signedBy: role, now: now, last: last?.version ?? 0)
    }

    /// Signatures that waiting directions still need, by group.
    public var missingOfDirections: [(group: String, missing: Int)] {
        pendingDirections.sorted { $0.key < $1.key }.map { ($0.key, directionAuthority?.missing($0.value) ?? 1) }
    }

    private func role(in documents: [String: SignedDocument]) -> SigningRole? {
        let delegations = documents["targets"]?.signed["delegations"]
        let json = delegations?["roles"]?.list?.first { $0["name"]?.text == Direction.role }
        return json.flatMap { try? SigningRole($0, keys: delegations?["keys"]?.object ?? [:], name: Direction.role) }
    }

    /// The direction of each group, as a box would read it, by group.
    public var directions: [(group: String, direction: Result<Direction, UpdateFailure>)] {
        guard let role = role(in: documents) else { return [] }
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
