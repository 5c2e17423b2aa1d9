import Digests
import Documents
import Files
import Glibc
import Updates

/// A repository of releases (TUF 1.0): plain files on any server, CDN or stick.
///
/// Boxes read `metadata/`, `targets/` and `director/`. `unsigned/` holds changes that wait for
/// signatures. No change is published before the box's own client has accepted it, and
/// `timestamp.json` is written last, so that a client that reads meanwhile sees the old state or
/// the new one.
public struct ReleaseRepository {
    /// Public keys for a role, and how many of them must sign.
    public struct Keys: Sendable {
        public var publicKeys: [JSON]
        public var threshold: Int

        public init(_ publicKeys: [JSON], threshold: Int) {
            self.publicKeys = publicKeys
            self.threshold = threshold
        }
    }

    /// The outcome of a change.
    public enum Outcome: Sendable, Hashable {
        /// Boxes see the change.
        case published
        /// Kept in `unsigned/`: signatures that are missing, by role.
        case waiting([String: Int])
        /// Kept in `unsigned/` with all signatures of offline roles; `vcpe release publish` adds
        /// the online ones.
        case complete

        /// The outcome of a change that also has directions.
        ///
        /// - Parameter open: signatures that directions still need.
        func with(_ open: [String: Int]) -> Outcome {
            switch self {
            case .published where !open.isEmpty: .waiting(open)
            case .waiting(let missing): .waiting(missing.merging(open) { $1 })
            case .published, .complete: self
            }
        }
    }

    public let folder: String
    let now: Int
    /// The published metadata, by role.
    var published: [String: SignedDocument] = [:]
    /// The waiting metadata in `unsigned/`, by role.
    var pending: [String: SignedDocument] = [:]
    /// Directions in `unsigned/director/` that wait for signatures, by group.
    var pendingDirections: [String: SignedDocument] = [:]
    /// The metadata with the current change applied, by role.
    var documents: [String: SignedDocument] = [:]
    /// Held while this value lives, because concurrent changes would overwrite each other. Nil for
    /// a reader.
    private let lock: File?

    static let online = ["snapshot", "timestamp"]
    /// Days for which metadata of a role is valid, unless `resign --days` has recorded another
    /// period.
    static let days = ["root": 730, "targets": 365, "snapshot": 30, "timestamp": 7]
    static let channelDays = 365
    /// The longest validity of metadata, in days.
    static let mostDays = 3650
    /// Field of a role's metadata with its own period in days, so that each later version keeps it.
    static let periodField = "x-vcpe-expiry-days"

    // MARK: - Opening

    /// An empty repository, or one whose first version still waits for signatures.
    init(empty folder: String, now: Int, readOnly: Bool = false) throws {
        (self.folder, self.now) = (folder, now)
        lock = try readOnly ? nil : Self.lock(folder)
        for role in Self.online { documents[role] = SignedDocument(role, body(role, ["meta": [:]])) }
        pending = try Self.readPending("\(folder)/unsigned") { $0 }
        pendingDirections = try Self.readPending("\(folder)/\(Self.waitingDirections)") { _ in Direction.role }
    }

    /// Opens a published repository, and checks all of it as a box does, except for expiry.
    ///
    /// - Parameters:
    ///   - root: a copy of the first root that boxes trust; nil for the one in the repository.
    ///   - now: seconds since 1970.
    ///   - readOnly: does not lock the repository and does not wait for a change of another
    ///     process.
    /// - Throws: ``ReleaseFailure`` with the path of a damaged file.
    public init(_ folder: String, root: [UInt8]? = nil, now: Int, readOnly: Bool = false) throws {
        guard FileSystem.exists("\(folder)/metadata/timestamp.json") else {
            let waits = FileSystem.exists("\(folder)/unsigned")
            throw ReleaseFailure(
                waits
                    ? "\(folder): the repository is not published yet, its first metadata waits for signatures"
                    : "\(folder): not a repository of releases, metadata/timestamp.json is missing",
                hint: waits ? "vcpe release sign \(folder) --keys FOLDER" : "vcpe release init \(folder)")
        }
        try self.init(empty: folder, now: now, readOnly: readOnly)
        published = try Self.readPublished(folder)
        for (role, document) in published { documents[role] = document }
        // A crash between publishing and the removal of `unsigned/` leaves published metadata
        // there.
        pending = pending.filter { published[$0.key]?.signed != $0.value.signed }
        try checkAsBox([:], root: root, now: 0)
    }

    private static func lock(_ folder: String) throws -> File {
        try FileSystem.makeDirectory(folder)
        let file = try File("\(folder)/.lock", O_RDWR | O_CREAT)
        guard flock(file.descriptor, LOCK_EX | LOCK_NB) == 0 else {
            throw ReleaseFailure(
                "\(folder): another process changes the repository", hint: "run the command again when it has finished")
        }
        return file
    }

    /// - Parameter role: the role of a file, by its name.
    private static func readPending(
        _ folder: String, role: (String) -> String
    ) throws -> [String: SignedDocument] {
        guard FileSystem.exists(folder) else { return [:] }
        var found: [String: SignedDocument] = [:]
        for name in try FileSystem.list(folder) where name.hasSuffix(".json") && !name.hasPrefix(".") {
            let stem = String(name.dropLast(5))
            found[stem] = try SignedDocument(role(stem), file: "\(folder)/\(name)")
        }
        return found
    }

    /// Reads the metadata that the timestamp refers to, and checks each file's signed hash.
    private static func readPublished(_ folder: String) throws -> [String: SignedDocument] {
        var found: [String: SignedDocument] = [:]
        func read(_ role: String, _ file: String, _ meta: JSON?) throws {
            let path = "\(folder)/metadata/\(file)"
            guard FileSystem.exists(path) else { throw ReleaseFailure.damaged(path, "the file is missing") }
            let bytes = try FileSystem.read(path)
            if let expected = meta?["hashes"]?["sha256"]?.text, SHA256.hash(bytes).hex != expected {
                throw ReleaseFailure.damaged(
                    path, "SHA-256 is \(SHA256.hash(bytes).hex), signed is \(expected)",
                    hint: "copy the file with the signed hash from a mirror or a backup; if it is a snapshot, "
                        + "vcpe release repair \(folder)")
            }
            found[role] = try SignedDocument(role, bytes, file: path)
        }
        guard let newest = try roots(in: folder).last else {
            throw ReleaseFailure.damaged("\(folder)/metadata/1.root.json", "the file is missing")
        }
        try read("root", "\(newest).root.json", nil)
        try read("timestamp", "timestamp.json", nil)
        let meta = found["timestamp"]?.signed["meta"]?["snapshot.json"]
        try read("snapshot", "\(meta?["version"]?.integer ?? 0).snapshot.json", meta)
        for (file, meta) in found["snapshot"]?.signed["meta"]?.object ?? [:] where file.hasSuffix(".json") {
            try read(String(file.dropLast(5)), "\(meta["version"]?.integer ?? 0).\(file)", meta)
        }
        return found
    }

    /// Versions of the root in the repository, in order.
    static func roots(in folder: String) throws -> [Int] {
        try FileSystem.list("\(folder)/metadata").compactMap { name in
            name.hasSuffix(".root.json") ? Int(name.dropLast(".root.json".count)) : nil
        }.sorted()
    }

    func body(_ role: String, _ rest: [String: JSON]) -> [String: JSON] {
        rest.merging([
            "_type": .text(TrustedMetadata.topLevel.contains(role) ? role : "targets"), "spec_version": "1.0.31",
            "version": 0, "expires": .text(expiry(role)),
        ]) { $1 }
    }

    /// Days for which a new version of a role's metadata is valid.
    func period(_ role: String) -> Int {
        documents[role]?.signed[Self.periodField]?.integer ?? Self.days[role] ?? Self.channelDays
    }

    func expiry(_ role: String, days: Int? = nil) -> String {
        UTC.text(of: now + 86_400 * (days ?? period(role)))
    }

    // MARK: - Roles

    /// The keys whose signatures count for a role.
    struct Authority {
        var role: RoleKeys
        /// Public keys by identifier.
        var keys: [String: JSON]

        func missing(_ document: SignedDocument) -> Int { role.missing(document, keys: keys) }
    }

    var delegations: [JSON] { documents["targets"]?.signed["delegations"]?["roles"]?.list ?? [] }

    /// The channels, by name.
    public var channels: [String] {
        delegations.compactMap { $0["name"]?.text }.filter { $0 != Direction.role }.sorted()
    }

    /// The targets of a channel, by path.
    func targets(of channel: String) -> [String: JSON] { documents[channel]?.signed["targets"]?.object ?? [:] }

    /// - Throws: ``ReleaseFailure`` if there is no such channel.
    public func check(channel: String) throws(ReleaseFailure) {
        guard channels.contains(channel) else {
            let meant = didYouMean(channel, among: channels).map { "did you mean \($0)? " } ?? ""
            throw ReleaseFailure(
                "\(folder): there is no channel \(channel)",
                hint: meant + "the channels are \(channels.joined(separator: ", "))")
        }
    }

    /// The keys of a role, as the documents of this change list them.
    func authority(_ role: String) -> Authority? { Self.authority(role, in: documents) }

    static func authority(_ role: String, in documents: [String: SignedDocument]) -> Authority? {
        let root = documents["root"]?.signed
        if let keys = RoleKeys(root?["roles"]?[role]) {
            return Authority(role: keys, keys: root?["keys"]?.object ?? [:])
        }
        let delegated = documents["targets"]?.signed["delegations"]
        let json = delegated?["roles"]?.list?.first { $0["name"]?.text == role }
        return RoleKeys(json).map { Authority(role: $0, keys: delegated?["keys"]?.object ?? [:]) }
    }

    /// All authorities that must sign a document. Boxes accept a new root only if the keys of the
    /// previous root signed it, too.
    func authorities(_ role: String) -> [Authority] {
        var list = [authority(role)].compactMap { $0 }
        if role == "root", let last = Self.authority(role, in: published) { list.append(last) }
        return list
    }

    /// How many signatures a document still needs.
    func missing(_ document: SignedDocument) -> Int {
        authorities(document.role).map { $0.missing(document) }.max() ?? 1
    }
}
