import Documents
import Files
import Transfers

/// A source of metadata.
public protocol MetadataSource {
    /// The bytes of a file, such as `2.root.json`; nil if the repository has none.
    ///
    /// - Parameters:
    ///   - most: the largest size in bytes; a longer file is a failure, and no more is ever read.
    ///   - isLikely: whether the file should exist; if not, one server that answers that it does
    ///     not exist is enough.
    func read(_ file: String, most: Int, isLikely: Bool) throws(UpdateFailure) -> [UInt8]?
}

extension MetadataSource {
    /// The bytes of a file that should exist; nil if it does not.
    public func read(_ file: String, most: Int) throws(UpdateFailure) -> [UInt8]? {
        try read(file, most: most, isLikely: true)
    }
}

/// A client of a TUF repository (TUF 1.0, section 5): updates trusted metadata, finds targets and
/// fetches them.
public struct UpdateClient {
    /// Bounds on what a hostile repository can make the client do.
    public struct Limits: Sendable {
        /// Roots in one refresh; the next refresh continues.
        public var roots = 256
        public var rootBytes = 512_000
        public var timestampBytes = 16_384
        public var snapshotBytes = 2_000_000
        public var targetsBytes = 5_000_000
        /// Roles that are searched for one target.
        public var delegations = 32

        public init() {}
    }

    private let store: MetadataStore
    private let source: any MetadataSource
    private let limits: Limits
    public private(set) var trusted: TrustedMetadata

    /// Creates a folder of trusted metadata from the root that came with the product.
    ///
    /// - Throws: ``UpdateFailure`` if `root` is not signed by its own keys.
    public static func initialize(_ folder: String, root: [UInt8]) throws(UpdateFailure) {
        // The first refresh checks expiry, since there may be a newer root.
        _ = try TrustedMetadata(root: root, now: 0)
        do { try FileSystem.makeDirectory(folder) } catch { throw UpdateFailure(.storage, folder, "\(error)") }
        try MetadataStore(folder: folder).write("root", root)
    }

    /// The version of a root that its own keys have signed; nil for anything else.
    public static func version(ofRoot bytes: [UInt8]) -> Int? {
        (try? TrustedMetadata(root: bytes, now: 0))?.root.metadata.version
    }

    /// - Parameters:
    ///   - folder: the folder that ``initialize(_:root:)`` created.
    ///   - now: seconds since 1970; not before the time at which metadata was last trusted.
    public init(
        folder: String, source: any MetadataSource, now: Int, limits: Limits = Limits()
    ) throws(UpdateFailure) {
        store = MetadataStore(folder: folder)
        self.source = source
        self.limits = limits
        guard let root = store.read("root") else {
            throw UpdateFailure(
                .storage, folder, "root.json is missing; begin with the root that came with the product")
        }
        trusted = try TrustedMetadata(root: root, now: now)
    }

    /// Updates the four top-level roles. Metadata that a step has accepted stays trusted if a later
    /// step fails.
    public mutating func refresh() throws(UpdateFailure) {
        try refreshRoot()
        try refreshTimestamp()
        try refreshSnapshot()
        try load("targets", by: nil)
    }

    private mutating func refreshRoot() throws(UpdateFailure) {
        for _ in 0..<limits.roots {
            let file = "\(trusted.root.metadata.version + 1).root.json"
            // A mirror can withhold a new root only until a timestamp of the old keys expires.
            guard let bytes = try source.read(file, most: limits.rootBytes, isLikely: false) else { return }
            try trusted.update(root: bytes)
            try store.write("root", bytes)
        }
    }

    private mutating func refreshTimestamp() throws(UpdateFailure) {
        // A stored timestamp that has expired, or whose keys were replaced, is ignored.
        if let own = store.read("timestamp") { _ = try? trusted.update(timestamp: own) }
        let bytes = try required("timestamp.json", limits.timestampBytes, "timestamp")
        if try trusted.update(timestamp: bytes) == .accepted { try store.write("timestamp", bytes) }
    }

    private mutating func refreshSnapshot() throws(UpdateFailure) {
        if let own = store.read("snapshot"), (try? trusted.update(snapshot: own, isOwn: true)) != nil { return }
        let meta = try trusted.snapshotMeta()
        let bytes = try required(
            versioned("snapshot", meta.version), try bounded(meta, limits.snapshotBytes, "snapshot"), "snapshot")
        try trusted.update(snapshot: bytes)
        try store.write("snapshot", bytes)
    }

    private mutating func load(_ role: String, by delegator: String?) throws(UpdateFailure) {
        if trusted.targets[role] != nil { return }
        if let own = store.read(role), (try? trusted.update(targets: own, role: role, by: delegator)) != nil { return }
        let meta = try trusted.meta(ofRole: role)
        let bytes = try required(versioned(role, meta.version), try bounded(meta, limits.targetsBytes, role), role)
        try trusted.update(targets: bytes, role: role, by: delegator)
        try store.write(role, bytes)
    }

    /// The signed length. An online key signs it, so the limit applies to it, too.
    private func bounded(_ meta: FileMeta, _ limit: Int, _ name: String) throws(UpdateFailure) -> Int {
        guard let length = meta.length else { return limit }
        guard length <= limit else {
            throw UpdateFailure(.tooLong, name, "\(length) bytes are signed, \(limit) are allowed")
        }
        return length
    }

    private func versioned(_ role: String, _ version: Int?) -> String {
        let name = URLText.quoted(role) + ".json"
        return trusted.root.isConsistent ? "\(version ?? 0).\(name)" : name
    }

    private func required(_ file: String, _ most: Int, _ name: String) throws(UpdateFailure) -> [UInt8] {
        guard let bytes = try source.read(file, most: most) else {
            throw UpdateFailure(.unavailable, name, "the repository has no \(file)")
        }
        return bytes
    }

    // MARK: - Targets

    /// Length, hashes and custom data of a target, from the first role that signs for it: depth
    /// first, in the order of delegations.
    ///
    /// - Throws: ``UpdateFailure`` for required metadata that cannot be trusted, and if no role
    ///   signs for the target.
    public mutating func find(_ path: String) throws(UpdateFailure) -> FileMeta {
        var waiting: [(role: String, delegator: String?)] = [("targets", nil)]
        var asked: Set<String> = []
        while asked.count <= limits.delegations, let (role, delegator) = waiting.popLast() {
            guard asked.insert(role).inserted else { continue }
            try load(role, by: delegator)
            guard let targets = trusted.targets[role] else { continue }
            if let found = targets.targets[path] { return found }
            var next: [(role: String, delegator: String?)] = []
            for delegation in targets.delegated(path) {
                next.append((delegation.name, role))
                if delegation.isTerminating {
                    // The search ends here, and roles that still wait are not searched.
                    waiting.removeAll()
                    break
                }
            }
            waiting += next.reversed()
        }
        throw UpdateFailure(.unknownTarget, path, "no role signs for this target")
    }

    /// Fetches a target into a folder, unless it is there already, and checks it.
    ///
    /// - Parameter base: the address of the repository's targets.
    /// - Returns: the file; its name is the target's path, percent-encoded.
    public mutating func download(_ path: String, from base: String, into folder: String) throws(UpdateFailure)
        -> String
    {
        let meta = try find(path)
        let file = "\(folder)/\(URLText.quoted(path))"
        if FileSystem.exists(file), (try? Self.check(file, meta, path)) != nil { return file }
        var remote = URLText.quoted(path, keeping: "/")
        if trusted.root.isConsistent {
            guard let hash = ["sha256", "sha512", "sha384"].compactMap({ meta.hashes[$0] }).first else {
                throw UpdateFailure(.mismatch, path, "none of its hashes is sha256, sha384 or sha512")
            }
            var parts = remote.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
            parts[parts.count - 1] = "\(hash).\(parts[parts.count - 1])"
            remote = parts.joined(separator: "/")
        }
        try Self.fetch(URLText.joined(base, remote), to: file, meta, path)
        return file
    }

    private static func fetch(
        _ url: String, to file: String, _ meta: FileMeta, _ path: String
    ) throws(UpdateFailure) {
        // The file has another name until its hashes are checked.
        let unverified = file + ".unverified"
        defer { for left in [unverified, unverified + ".part"] { try? FileSystem.remove(left) } }
        do {
            let failures = try Transfers.fetch([
                Download(url: url, path: unverified, size: meta.length, digest: meta.sha256)
            ])
            if let failure = failures.first {
                if case .mismatch(let text) = failure.reason { throw UpdateFailure(.mismatch, path, text) }
                throw UpdateFailure(.unavailable, path, "\(failure)")
            }
            try check(unverified, meta, path)
            try FileSystem.rename(unverified, to: file)
        } catch let failure as UpdateFailure {
            throw failure
        } catch {
            throw UpdateFailure(.storage, path, "\(error)")
        }
    }

    private static func check(_ file: String, _ meta: FileMeta, _ path: String) throws(UpdateFailure) {
        var check = HashCheck()
        for algorithm in meta.hashes.keys.sorted() { try check.begin(algorithm, name: path) }
        let count: Int
        do { count = try File(file).readPieces { check.update($0) } } catch {
            throw UpdateFailure(.storage, path, "\(error)")
        }
        guard count == meta.length else {
            throw UpdateFailure(.mismatch, path, "\(count) bytes, signed are \(meta.length ?? 0)")
        }
        try check.finish(meta.hashes, name: path)
    }
}
