import Digests
import Documents
import Files
import Updates

/// The keys that may sign, and the confirmation of what they sign.
public struct SigningSession {
    public var keys: KeyFolder
    /// Gets what offline keys are about to sign. If it returns false, nothing is signed, and the
    /// change is kept without signatures.
    public var confirm: (ChangeReview) throws -> Bool

    public init(_ keys: KeyFolder, confirm: @escaping (ChangeReview) throws -> Bool) {
        (self.keys, self.confirm) = (keys, confirm)
    }

    /// Signs without a review: for a lab, whose keys are on the same disk, and for changes that the
    /// caller itself has just made.
    public static func unattended(_ keys: KeyFolder) -> SigningSession { SigningSession(keys) { _ in true } }
}

/// Signs changes, and publishes those that have enough signatures.
extension ReleaseRepository {
    /// Bases a change of `roles` on the waiting change, if that contains one of them.
    mutating func begin(_ roles: [String]) {
        guard roles.contains(where: { pending[$0] != nil }) else { return }
        for (role, document) in pending { documents[role] = document }
    }

    /// Gives changed roles the version after the published one, and signs them with the available
    /// keys.
    ///
    /// The change is published if it has all signatures and the online keys are available.
    /// Otherwise it is kept in `unsigned/`. A change of a role that waits joins the waiting change,
    /// and drops the signatures of the roles that it changes.
    mutating func commit(_ roles: [String], _ session: SigningSession, days: Int? = nil) throws -> Outcome {
        for role in roles {
            let expires = expiry(role, days: days)
            documents[role]?.renew(version: (published[role]?.version ?? 0) + 1, expires: expires)
        }
        var change = Dictionary(uniqueKeysWithValues: roles.compactMap { role in documents[role].map { (role, $0) } })
        let joins = roles.contains { pending[$0] != nil }
        if joins { change = pending.merging(change) { $1 } }
        return try finish(change, session, includesWaiting: joins)
    }

    /// Adds the signatures of the available keys to the waiting change.
    ///
    /// Each signature is kept, even if others are missing. The last signer of an offline role needs
    /// no online key: the release host calls ``publish(_:root:signing:now:)`` afterwards.
    ///
    /// - Throws: ``ReleaseFailure`` if no change waits, if it does not follow the published
    ///   metadata, or if none of the keys is a key of a waiting role.
    public static func sign(
        _ folder: String, root: [UInt8]? = nil, with session: SigningSession, now: Int
    ) throws -> Outcome {
        var repository = try opened(folder, root: root, now: now)
        try repository.beginWaiting()
        return try repository.finish(
            repository.pending, directions: repository.pendingDirections, session, includesWaiting: true,
            mustSign: true)
    }

    /// Publishes the waiting change if its offline roles have all signatures: signs snapshot and
    /// timestamp. A direction needs neither.
    ///
    /// - Throws: ``ReleaseFailure`` if no change waits, or the online keys are not available.
    public static func publish(
        _ folder: String, root: [UInt8]? = nil, signing keys: @autoclosure () throws -> KeyFolder, now: Int
    ) throws -> Outcome {
        var repository = try opened(folder, root: root, now: now)
        try repository.beginWaiting()
        try repository.checkFollows(repository.pending)
        let open = try repository.settle(repository.pendingDirections)
        if repository.pending.isEmpty { return Outcome.published.with(open) }
        let missing = repository.missing(in: repository.pending)
        guard missing.isEmpty else { return Outcome.waiting(missing).with(open) }
        try repository.publish(repository.pending.keys.sorted(), keys())
        try repository.write(pending: [:])
        return Outcome.published.with(open)
    }

    /// Compares the waiting change with the published metadata.
    public static func review(_ folder: String, root: [UInt8]? = nil, now: Int) throws -> ChangeReview {
        var repository = try opened(folder, root: root, now: now, readOnly: true)
        try repository.beginWaiting()
        try repository.checkFollows(repository.pending)
        return try ChangeReview(
            of: repository.pending, directions: repository.reviewed(repository.pendingDirections), in: repository)
    }

    /// Removes a change that waits for signatures.
    public static func discard(_ folder: String) throws {
        guard FileSystem.exists("\(folder)/unsigned") else { throw nothingWaits(folder) }
        try FileSystem.remove("\(folder)/unsigned")
    }

    private static func opened(
        _ folder: String, root: [UInt8]?, now: Int, readOnly: Bool = false
    ) throws -> ReleaseRepository {
        guard !FileSystem.exists("\(folder)/metadata"), FileSystem.exists("\(folder)/unsigned") else {
            return try ReleaseRepository(folder, root: root, now: now, readOnly: readOnly)
        }
        return try ReleaseRepository(empty: folder, now: now, readOnly: readOnly)
    }

    private static func nothingWaits(_ folder: String) -> ReleaseFailure {
        ReleaseFailure(
            "\(folder): no change waits for signatures", hint: "vcpe release status \(folder)", reason: .doesNotFollow)
    }

    private mutating func beginWaiting() throws {
        guard !pending.isEmpty || !pendingDirections.isEmpty else { throw Self.nothingWaits(folder) }
        for (role, document) in pending { documents[role] = document }
    }

    private func missing(in change: [String: SignedDocument]) -> [String: Int] {
        change.mapValues(missing).filter { $0.value > 0 }
    }

    // MARK: - Signing

    /// - Parameter mustSign: whether it is an error if no available key is a key of the change.
    private mutating func finish(
        _ staged: [String: SignedDocument], directions stagedDirections: [String: SignedDocument] = [:],
        _ session: SigningSession, includesWaiting: Bool, mustSign: Bool = false
    ) throws -> Outcome {
        var (change, directions) = (staged, stagedDirections)
        try checkFollows(change)
        let reviewed = try reviewed(directions)
        let available = session.keys.identifiers
        func identifiers(_ role: String) -> [String] { authorities(role).flatMap(\.role.identifiers) }
        let able = change.keys.filter { !available.isDisjoint(with: identifiers($0)) }
        let directors = directions.isEmpty ? [] : directionAuthority?.role.identifiers ?? []
        if mustSign, able.isEmpty, available.isDisjoint(with: directors) {
            let roles = change.keys.sorted() + (directions.isEmpty ? [] : [Direction.role])
            throw ReleaseFailure(
                "no available key is a key of \(roles.joined(separator: ", "))",
                hint: "--keys FOLDER, with your .key file", reason: .noKey)
        }
        let unsigned = able.filter { role in
            let signed = change[role]?.signatures ?? [:]
            return identifiers(role).contains { available.contains($0) && signed[$0] == nil }
        }
        let unsignedDirections = directions.filter { _, document in
            directors.contains { available.contains($0) && document.signatures[$0] == nil }
        }.keys.sorted()
        var review = ChangeReview(of: change, directions: reviewed, in: self)
        review.includesWaiting = includesWaiting
        if !unsigned.isEmpty || !unsignedDirections.isEmpty, try session.confirm(review) {
            for role in unsigned.sorted() { _ = try change[role]?.sign(identifiers(role), session.keys) }
            for group in unsignedDirections { _ = try directions[group]?.sign(directors, session.keys) }
        }
        let open = try settle(directions)
        if change.isEmpty, !directions.isEmpty { return Outcome.published.with(open) }
        return try finish(signed: change, session).with(open)
    }

    /// Publishes a change of roles if it has all signatures, and keeps it otherwise.
    private mutating func finish(
        signed change: [String: SignedDocument], _ session: SigningSession
    ) throws -> Outcome {
        for (role, document) in change { documents[role] = document }
        let missing = missing(in: change)
        guard missing.isEmpty else {
            try write(pending: pending.merging(change) { $1 })
            return .waiting(missing)
        }
        do {
            try publish(change.keys.sorted(), session.keys)
        } catch let failure as ReleaseFailure where failure.reason == .noKey && !change.isEmpty {
            try write(pending: pending.merging(change) { $1 })
            return .complete
        }
        try write(pending: pending.filter { change[$0.key] == nil })
        return .published
    }

    /// Replaces the contents of `unsigned/`: writes each file by a rename, then removes the files
    /// of roles that no longer wait.
    private mutating func write(pending next: [String: SignedDocument]) throws {
        pending = next
        let unsigned = "\(folder)/unsigned"
        guard !next.isEmpty || !pendingDirections.isEmpty else { return try FileSystem.remove(unsigned) }
        try FileSystem.makeDirectory(unsigned)
        for (role, document) in next { try FileSystem.replace("\(unsigned)/\(role).json", with: document.bytes) }
        for name in try FileSystem.list(unsigned)
        where name.hasSuffix(".json") && !name.hasPrefix(".") && next[String(name.dropLast(5))] == nil {
            try FileSystem.remove("\(unsigned)/\(name)")
        }
        try FileSystem.syncDirectory(unsigned)
    }

    // MARK: - Publication

    private mutating func publish(_ roles: [String], _ keys: KeyFolder) throws {
        let before = documents
        do {
            let files = try filesToPublish(roles, keys)
            try checkAsBox(files, root: nil, now: now)
            try Self.write(files, to: folder)
        } catch {
            documents = before
            throw error
        }
        published = documents
    }

    /// Signs the online roles over the new versions of `roles`.
    mutating func filesToPublish(_ roles: [String], _ keys: KeyFolder) throws -> [String: [UInt8]] {
        // Waiting roles are not published with this change.
        var next = published
        for role in roles { next[role] = documents[role] }
        for role in Self.online { next[role] = documents[role] }
        documents = next
        var files: [String: [UInt8]] = [:]
        var meta = documents["snapshot"]?.signed["meta"]?.object ?? [:]
        for role in roles {
            guard let document = documents[role] else { continue }
            files["\(document.version).\(role).json"] = document.bytes
            if role != "root" { meta["\(role).json"] = Self.meta(document) }
        }
        documents["snapshot"]?.signed["meta"] = .object(meta)
        for role in Self.online {
            if role == "timestamp", let snapshot = documents["snapshot"] {
                documents[role]?.signed["meta"] = ["snapshot.json": Self.meta(snapshot)]
            }
            guard var document = documents[role], let authority = authority(role) else { continue }
            document.renew(version: document.version + 1, expires: expiry(role))
            _ = try document.sign(authority.role.identifiers, keys)
            let missing = authority.missing(document)
            guard missing == 0 else {
                throw ReleaseFailure(
                    "\(role): \(missing) of \(authority.role.threshold) signatures are missing, and every change needs them",
                    hint: "vcpe release publish \(folder) on the host that has the online keys", reason: .noKey)
            }
            documents[role] = document
            files[role == "timestamp" ? "timestamp.json" : "\(document.version).\(role).json"] = document.bytes
        }
        return files
    }

    static func write(_ files: [String: [UInt8]], to folder: String) throws {
        try FileSystem.makeDirectory("\(folder)/metadata")
        try FileSystem.makeDirectory("\(folder)/targets")
        for (name, bytes) in files.sorted(by: { $0.key < $1.key }) where name != "timestamp.json" {
            try FileSystem.replace("\(folder)/metadata/\(name)", with: bytes)
        }
        try FileSystem.syncDirectory("\(folder)/metadata")
        if let timestamp = files["timestamp.json"] {
            try FileSystem.replace("\(folder)/metadata/timestamp.json", with: timestamp)
        }
        try FileSystem.syncDirectory("\(folder)/metadata")
    }

    static func meta(_ document: SignedDocument) -> JSON {
        let bytes = document.bytes
        return [
            "version": .integer(document.version), "length": .integer(bytes.count),
            "hashes": ["sha256": .text(SHA256.hash(bytes).hex)],
        ]
    }
}
