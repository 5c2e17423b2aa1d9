import Digests
import Documents
import Files
import Glibc
import Updates

/// A repository of releases (TUF 1.0): plain files, which any server, CDN or stick may hold. `metadata/` and `targets/` are what boxes
/// read; `unsigned/` is what waits for further signatures.
///
/// Nothing is published that a box would refuse: each change is read by the box's own client first. The timestamp is written last, so that
/// whoever reads meanwhile sees the old or the new.
public struct ReleaseRepository {
    /// Who signs for a role from the start.
    public struct Keys: Sendable {
        public var publicKeys: [JSON]
        public var threshold: Int

        public init(_ publicKeys: [JSON], threshold: Int) {
            self.publicKeys = publicKeys
            self.threshold = threshold
        }
    }

    /// What a change has come to.
    public enum Outcome: Sendable, Hashable {
        case published
        /// Signatures that are missing still, by role.
        case waiting([String: Int])
    }

    /// A role as it stands.
    public struct RoleStatus: Sendable, Hashable {
        public var role: String
        public var version: Int
        /// Seconds since 1970; 0 before the first version.
        public var expires: Int
        public var keys: [String]
        public var threshold: Int
        /// Signatures that a change of it waits for; 0 for none.
        public var missing: Int
    }

    public let folder: String
    var documents: [String: SignedDocument] = [:]
    /// The root that boxes trust now; nil before the first.
    var trustedRoot: SignedDocument?
    let now: Int
    /// Held as long as this lives: two changes at once would lose one. Nil for who only reads.
    private let lock: File?

    static let online = ["snapshot", "timestamp"]
    /// Days that metadata of a role hold.
    static let days = ["root": 730, "targets": 365, "snapshot": 30, "timestamp": 7]
    static let channelDays = 365

    // MARK: - Beginning

    /// Throws where there is a repository already.
    public static func checkIsNew(_ folder: String) throws(ReleaseFailure) {
        guard !FileSystem.exists("\(folder)/metadata"), !FileSystem.exists("\(folder)/unsigned") else {
            throw ReleaseFailure("\(folder) is a repository already", hint: "vcpe release status \(folder)")
        }
    }

    /// Makes a repository with its roles and its first channel. Where keys are missing it waits for their signatures.
    public static func make(
        _ folder: String, roles: [String: Keys], channel: String, channelKeys: Keys, signing keys: KeyFolder, now: Int
    ) throws -> (ReleaseRepository, Outcome) {
        try checkIsNew(folder)
        var repository = try ReleaseRepository(empty: folder, now: now)
        var listed: [String: JSON] = [:]
        for role in TrustedMetadata.topLevel {
            guard let signers = roles[role] else { throw ReleaseFailure("no keys for \(role)") }
            for key in signers.publicKeys { listed[SigningKey.identifier(of: key)] = key }
        }
        let signers = roles.mapValues { JSON.object(Signers($0.publicKeys, threshold: $0.threshold).json) }
        repository.documents["root"] = SignedDocument(
            "root",
            repository.body("root", ["keys": .object(listed), "roles": .object(signers), "consistent_snapshot": true]))
        repository.documents["targets"] = SignedDocument(
            "targets", repository.body("targets", ["targets": [:], "delegations": ["keys": [:], "roles": []]]))
        try repository.addDelegation(channel, channelKeys)
        let outcome = try repository.commit(["root", "targets", channel], keys)
        return (repository, outcome)
    }

    init(empty folder: String, now: Int, onlyReads: Bool = false) throws {
        (self.folder, self.now) = (folder, now)
        lock = try onlyReads ? nil : Self.lock(folder)
        let names = (try? FileSystem.list("\(folder)/metadata")) ?? []
        let roots = names.compactMap { $0.hasSuffix(".root.json") ? Int($0.prefix { $0 != "." }) : nil }
        trustedRoot = try roots.max().map {
            try SignedDocument("root", FileSystem.read("\(folder)/metadata/\($0).root.json"))
        }
        for role in Self.online { documents[role] = SignedDocument(role, body(role, ["meta": [:]])) }
    }

    private static func lock(_ folder: String) throws -> File {
        try FileSystem.makeDirectory(folder)
        let file = try File("\(folder)/.lock", O_RDWR | O_CREAT)
        guard flock(file.descriptor, LOCK_EX | LOCK_NB) == 0 else {
            throw ReleaseFailure("somebody else changes \(folder) just now", hint: "again, when they are done")
        }
        return file
    }

    private func body(_ role: String, _ rest: [String: JSON]) -> [String: JSON] {
        rest.merging([
            "_type": .text(TrustedMetadata.topLevel.contains(role) ? role : "targets"), "spec_version": "1.0.31",
            "version": 0, "expires": .text(expiry(role)),
        ]) { $1 }
    }

    func expiry(_ role: String, days: Int? = nil) -> String {
        UTC.text(of: now + 86_400 * (days ?? Self.days[role] ?? Self.channelDays))
    }

    /// Reads what is published.
    ///
    /// - Parameters:
    ///   - now: seconds since 1970.
    ///   - onlyReads: for who changes nothing, and waits for nobody who does.
    public init(_ folder: String, now: Int, onlyReads: Bool = false) throws {
        let names = (try? FileSystem.list("\(folder)/metadata")) ?? []
        guard names.contains("timestamp.json") else {
            let waits = FileSystem.exists("\(folder)/unsigned")
            throw ReleaseFailure(
                waits ? "\(folder) waits for signatures since it was made" : "\(folder) is no repository of releases",
                hint: waits ? "vcpe release sign \(folder) --keys FOLDER" : "vcpe release init \(folder)")
        }
        try self.init(empty: folder, now: now, onlyReads: onlyReads)
        documents["timestamp"] = try read("timestamp", "timestamp.json")
        documents["root"] = trustedRoot
        let snapshot = documents["timestamp"]?.signed["meta"]?["snapshot.json"]?["version"]?.integer ?? 0
        documents["snapshot"] = try read("snapshot", "\(snapshot).snapshot.json")
        for (file, meta) in documents["snapshot"]?.signed["meta"]?.object ?? [:] {
            documents[String(file.dropLast(5))] = try read(
                String(file.dropLast(5)), "\(meta["version"]?.integer ?? 0).\(file)")
        }
    }

    private func read(_ role: String, _ file: String) throws -> SignedDocument {
        try SignedDocument(role, try FileSystem.read("\(folder)/metadata/\(file)"))
    }

    // MARK: - Roles

    var delegations: [JSON] { documents["targets"]?.signed["delegations"]?["roles"]?.list ?? [] }

    /// Channels, by name.
    public var channels: [String] {
        delegations.compactMap { $0["name"]?.text }.filter { $0 != Direction.role }.sorted()
    }

    /// What a channel signs for, by path.
    func targets(of channel: String) -> [String: JSON] { documents[channel]?.signed["targets"]?.object ?? [:] }

    /// Throws where there is no such channel.
    public func check(channel: String) throws(ReleaseFailure) {
        guard channels.contains(channel) else {
            let meant = didYouMean(channel, among: channels).map { "did you mean \($0)? " } ?? ""
            throw ReleaseFailure(
                "there is no channel \(channel)", hint: meant + "channels are \(channels.joined(separator: ", "))")
        }
    }

    func signers(_ role: String) -> Signers? {
        Signers(
            documents["root"]?.signed["roles"]?[role] ?? delegations.first { $0["name"]?.text == role })
    }

    public var status: [RoleStatus] {
        let waiting = (try? pending()) ?? [:]
        var next = self
        for (role, document) in waiting { next.documents[role] = document }
        let director = next.signers(Direction.role) == nil ? [] : [Direction.role]
        return (TrustedMetadata.topLevel + next.channels + director).compactMap { role in
            guard let signers = signers(role) ?? next.signers(role) else { return nil }
            let document = documents[role]
            return RoleStatus(
                role: role, version: document?.version ?? 0,
                expires: document?.signed["expires"]?.text.flatMap(UTC.seconds) ?? 0, keys: signers.identifiers,
                threshold: signers.threshold, missing: waiting[role].map(next.missing) ?? 0)
        }
    }

    private mutating func addDelegation(_ channel: String, _ keys: Keys) throws {
        guard channel != Direction.role else {
            throw ReleaseFailure("\(channel) is no name for a channel", hint: "vcpe release director \(folder)")
        }
        // CHANNEL/IMAGE/PROFILE/VERSION/FILE
        try delegate("\(channel)/*/*/*/*", to: channel, keys)
        documents[channel] = SignedDocument(channel, body(channel, ["targets": [:]]))
    }

    /// - Parameter paths: what the role signs for.
    mutating func delegate(_ paths: String, to role: String, _ keys: Keys) throws {
        guard !TrustedMetadata.topLevel.contains(role), signers(role) == nil else {
            throw ReleaseFailure("there is a role \(role) already", hint: "vcpe release status \(folder)")
        }
        var known = documents["targets"]?.signed["delegations"]?["keys"]?.object ?? [:]
        for key in keys.publicKeys { known[SigningKey.identifier(of: key)] = key }
        var json = Signers(keys.publicKeys, threshold: keys.threshold).json
        json["name"] = .text(role)
        json["terminating"] = true
        json["paths"] = [.text(paths)]
        let delegated: JSON = ["keys": .object(known), "roles": .list(delegations + [.object(json)])]
        documents["targets"]?.signed["delegations"] = delegated
    }

    // MARK: - Changes

    /// Another team's releases, signed by their keys.
    public mutating func addChannel(_ name: String, _ channelKeys: Keys, signing keys: KeyFolder) throws -> Outcome {
        try refuseWhileWaiting()
        try addDelegation(name, channelKeys)
        return try commit(["targets", name], keys)
    }

    /// Signs roles anew, so that they hold longer; online ones where none is named.
    public mutating func resign(_ roles: [String], days: Int? = nil, signing keys: KeyFolder) throws -> Outcome {
        for role in roles where documents[role] == nil {
            throw ReleaseFailure(
                "there is no role \(role)", hint: (TrustedMetadata.topLevel + channels).joined(separator: ", "))
        }
        let offline = roles.filter { !Self.online.contains($0) }
        if !offline.isEmpty { try refuseWhileWaiting() }
        return try commit(offline, keys, days: days)
    }

    /// Signs a channel so that it is over at once: boxes install nothing of it until it is signed anew.
    public mutating func expire(_ channel: String, signing keys: KeyFolder) throws -> Outcome {
        try refuseWhileWaiting()
        try check(channel: channel)
        return try commit([channel], keys, days: 0)
    }

    /// Another key instead of one of a role's, which signs nothing from then on. Of root, the old keys sign once more.
    ///
    /// - Parameter old: the first digits of its identifier.
    public mutating func replaceKey(_ old: String, of role: String, by key: JSON?, signing keys: KeyFolder) throws
        -> Outcome
    {
        try refuseWhileWaiting()
        guard var signers = signers(role) else {
            throw ReleaseFailure(
                "there is no role \(role)", hint: (TrustedMetadata.topLevel + channels).joined(separator: ", "))
        }
        let found = signers.identifiers.filter { $0.hasPrefix(old) }
        guard found.count == 1, let gone = found.first, !old.isEmpty else {
            throw ReleaseFailure(
                "\(found.count) keys of \(role) begin with \"\(old)\"",
                hint: "its keys are " + signers.identifiers.map { String($0.prefix(12)) }.joined(separator: ", "))
        }
        signers.identifiers.removeAll { $0 == gone }
        if let key {
            let identifier = SigningKey.identifier(of: key)
            guard !signers.identifiers.contains(identifier) else {
                throw ReleaseFailure("\(identifier.prefix(12)) is a key of \(role) already")
            }
            signers.identifiers.append(identifier)
        }
        guard signers.identifiers.count >= signers.threshold else {
            throw ReleaseFailure(
                "\(signers.identifiers.count) keys of \(role) would be left, and \(signers.threshold) must sign",
                hint: "vcpe release rotate puts another in its place")
        }
        let delegator = TrustedMetadata.topLevel.contains(role) ? "root" : "targets"
        func changed(_ keys: JSON?, _ all: [JSON]) -> JSON {
            var known = keys?.object ?? [:]
            if let key { known[SigningKey.identifier(of: key)] = key }
            let used = Set(all.flatMap { $0["keyids"]?.list?.compactMap(\.text) ?? [] })
            return .object(known.filter { used.contains($0.key) })
        }
        if delegator == "root" {
            var roles = documents["root"]?.signed["roles"]?.object ?? [:]
            roles[role] = .object(signers.json)
            let known = changed(documents["root"]?.signed["keys"], Array(roles.values))
            documents["root"]?.signed["roles"] = .object(roles)
            documents["root"]?.signed["keys"] = known
        } else {
            let list = delegations.map { item -> JSON in
                guard item["name"]?.text == role else { return item }
                return .object((item.object ?? [:]).merging(signers.json) { $1 })
            }
            let known = changed(documents["targets"]?.signed["delegations"]?["keys"], list)
            documents["targets"]?.signed["delegations"] = ["keys": known, "roles": .list(list)]
        }
        // What the old key signed alone counts no more.
        let again = documents[role] == nil || role == "root" || Self.online.contains(role) ? [] : [role]
        return try commit([delegator] + again, keys)
    }

    /// Adds files to a channel.
    ///
    /// - Parameters:
    ///   - files: by their paths within the channel, the files on this machine.
    ///   - custom: what is signed of their manifest beside length and hash.
    public mutating func add(
        _ files: [String: String], to channel: String, custom: JSON, signing keys: KeyFolder
    ) throws -> Outcome {
        try refuseWhileWaiting()
        try check(channel: channel)
        var targets = targets(of: channel)
        for (path, file) in files.sorted(by: { $0.key < $1.key }) {
            let target = "\(channel)/\(path)"
            guard targets[target] == nil else {
                throw ReleaseFailure(
                    "\(target) was released before", hint: "a release never changes: give the image another version")
            }
            let (length, digest) = try copy(file, to: target)
            // Of all files it would soon be more than a box takes of metadata.
            var own = FileSystem.name(of: path) == "manifest" ? custom.object ?? [:] : [:]
            own["released"] = .integer(now)
            own["index-sha256"] = try PatchDelta.index(of: File(file)).map { .text($0.hex) }
            targets[target] = [
                "length": .integer(length), "hashes": ["sha256": .text(digest)], "custom": .object(own),
            ]
        }
        documents[channel]?.signed["targets"] = .object(targets)
        return try commit([channel], keys)
    }

    /// Puts a file where targets are, under its hash's name.
    private func copy(_ file: String, to target: String) throws -> (length: Int, digest: String) {
        let source = try File(file)
        let (digest, count) = try source.digest()
        let place = "\(folder)/targets/\(FileSystem.parent(of: target) ?? "")"
        try FileSystem.makeDirectory(place)
        let copied = "\(place)/\(digest.hex).\(FileSystem.name(of: target))"
        if !FileSystem.exists(copied) {
            try FileSystem.replace(copied) { (made: File) throws(SystemError) in
                try made.copy(from: source, at: 0, count: count, to: 0)
            }
        }
        return (count, digest.hex)
    }
}
