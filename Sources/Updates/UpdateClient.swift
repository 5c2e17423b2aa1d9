import Documents
import Files
import Transfers

/// Where metadata come from.
public protocol MetadataSource {
    /// The bytes of a file, such as `2.root.json`; nil when the repository has none.
    ///
    /// - Parameters:
    ///   - most: bytes; a longer file is a failure, and no more than these are ever read.
    ///   - isLikely: it should be there; of one that is not, the first that says so is believed.
    func read(_ file: String, most: Int, isLikely: Bool) throws(UpdateFailure) -> [UInt8]?
}

extension MetadataSource {
    /// The bytes of a file that should be there; nil when it is not.
    public func read(_ file: String, most: Int) throws(UpdateFailure) -> [UInt8]? {
        try read(file, most: most, isLikely: true)
    }
}

/// A client of a TUF repository (TUF 1.0, section 5): brings what it trusts up to date, finds targets, and fetches them.
public struct UpdateClient {
    /// What a hostile repository may cost.
    public struct Limits: Sendable {
        /// Roots in one go; the next refresh goes on.
        public var roots = 256
        public var rootBytes = 512_000
        public var timestampBytes = 16_384
        public var snapshotBytes = 2_000_000
        public var targetsBytes = 5_000_000
        /// Roles that are asked for one target.
        public var delegations = 32

        public init() {}
    }

    private let store: MetadataStore
    private let source: any MetadataSource
    private let limits: Limits
    public private(set) var trusted: TrustedMetadata

    /// Makes a folder the trusted one of a repository, by the root that came with the product.
    ///
    /// - Throws: ``UpdateFailure``, where `root` is not signed by itself.
    public static func initialize(_ folder: String, root: [UInt8]) throws(UpdateFailure) {
        // Whether it is over says the first refresh: there may be a newer one.
        _ = try TrustedMetadata(root: root, now: 0)
        do { try FileSystem.makeDirectory(folder) } catch { throw UpdateFailure(.storage, folder, "\(error)") }
        try MetadataStore(folder: folder).write("root", root)
    }

    /// The version of a root that is signed by itself; nil for anything else.
    public static func version(ofRoot bytes: [UInt8]) -> Int? {
        (try? TrustedMetadata(root: bytes, now: 0))?.root.metadata.version
    }

    /// - Parameters:
    ///   - folder: that ``initialize(_:root:)`` made.
    ///   - now: seconds since 1970; never before the last time that was trusted.
    public init(
        folder: String, source: any MetadataSource, now: Int, limits: Limits = Limits()
    ) throws(UpdateFailure) {
        store = MetadataStore(folder: folder)
        self.source = source
        self.limits = limits
        guard let root = store.read("root") else {
            throw UpdateFailure(
                .storage, folder, "it holds no root.json: begin with the root that came with the product")
        }
        trusted = try TrustedMetadata(root: root, now: now)
    }

    /// Brings the four roles up to date. What was good stays good when a later step fails.
    public mutating func refresh() throws(UpdateFailure) {
        try refreshRoot()
        try refreshTimestamp()
        try refreshSnapshot()
        try load("targets", by: nil)
    }

    private mutating func refreshRoot() throws(UpdateFailure) {
        for _ in 0..<limits.roots {
            let file = "\(trusted.root.metadata.version + 1).root.json"
            // Whoever holds back a new root has to say by the old one's keys that nothing else is new, and only until that is over.
            guard let bytes = try source.read(file, most: limits.rootBytes, isLikely: false) else { return }
            try trusted.update(root: bytes)
            try store.write("root", bytes)
        }
    }

    private mutating func refreshTimestamp() throws(UpdateFailure) {
        // What is here may be over, or by keys that are no more: then it is only forgotten.
        if let own = store.read("timestamp") { _ = try? trusted.update(timestamp: own) }
        let bytes = try required("timestamp.json", limits.timestampBytes, "timestamp")
        if try trusted.update(timestamp: bytes) == .taken { try store.write("timestamp", bytes) }
    }

    private mutating func refreshSnapshot() throws(UpdateFailure) {
        if let own = store.read("snapshot"), (try? trusted.update(snapshot: own, isOwn: true)) != nil { return }
        let meta = try trusted.snapshotMeta()
        let bytes = try required(
            versioned("snapshot", meta.version), meta.length ?? limits.snapshotBytes, "snapshot")
        try trusted.update(snapshot: bytes)
        try store.write("snapshot", bytes)
    }

    private mutating func load(_ role: String, by delegator: String?) throws(UpdateFailure) {
        if trusted.targets[role] != nil { return }
        if let own = store.read(role), (try? trusted.update(targets: own, role: role, by: delegator)) != nil { return }
        let meta = try trusted.meta(ofRole: role)
        let bytes = try required(versioned(role, meta.version), meta.length ?? limits.targetsBytes, role)
        try trusted.update(targets: bytes, role: role, by: delegator)
        try store.write(role, bytes)
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

    /// What is signed of a target, by the first role that knows it: depth first, in the order of delegations.
    ///
    /// - Throws: ``UpdateFailure`` for metadata that are needed and can't be trusted, and where nobody knows the target.
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
                    // Nobody else is asked, those that wait included.
                    waiting.removeAll()
                    break
                }
            }
            waiting += next.reversed()
        }
        throw UpdateFailure(.unknownTarget, path, "nobody signs for a target of that name")
    }

    /// Fetches a target into a folder, unless it lies there already, and checks it.
    ///
    /// - Parameter base: where the repository's targets are.
    /// - Returns: the file; its name is the target's path, with all but plain characters as a percent sign and digits.
    public mutating func download(_ path: String, from base: String, into folder: String) throws(UpdateFailure)
        -> String
    {
        let meta = try find(path)
        let file = "\(folder)/\(URLText.quoted(path))"
        if FileSystem.exists(file), (try? Self.check(file, meta, path)) != nil { return file }
        var remote = URLText.quoted(path, keeping: "/")
        if trusted.root.isConsistent {
            guard let hash = ["sha256", "sha512", "sha384"].compactMap({ meta.hashes[$0] }).first else {
                throw UpdateFailure(.mismatch, path, "no hash that is known here")
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
        // Under a name of its own until it is known to be what is signed.
        let arriving = file + ".arriving"
        defer { for left in [arriving, arriving + ".part"] { try? FileSystem.remove(left) } }
        do {
            let failures = try Transfers.fetch([
                Download(url: url, path: arriving, size: meta.length, digest: meta.sha256)
            ])
            if let failure = failures.first {
                if case .mismatch(let text) = failure.reason { throw UpdateFailure(.mismatch, path, text) }
                throw UpdateFailure(.unavailable, path, "\(failure)")
            }
            try check(arriving, meta, path)
            try FileSystem.rename(arriving, to: file)
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
            throw UpdateFailure(.mismatch, path, "\(count) bytes, \(meta.length ?? 0) are signed")
        }
        try check.finish(meta.hashes, name: path)
    }
}
