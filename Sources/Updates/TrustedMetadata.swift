import Documents

/// What is trusted of a repository so far. Each step takes one file, and only if it is signed, newer, and what those before it say; the
/// order of steps is that of TUF 1.0, section 5.
public struct TrustedMetadata: Sendable {
    public static let topLevel = ["root", "timestamp", "snapshot", "targets"]

    public private(set) var root: Root
    public private(set) var timestamp: Metadata?
    public private(set) var snapshot: Metadata?
    /// `targets` and the roles that were asked, by their names.
    public private(set) var targets: [String: Targets] = [:]
    /// Seconds since 1970, the same for all steps.
    let now: Int

    /// - Parameters:
    ///   - root: the root that this client was given, or that it trusted last.
    ///   - now: seconds since 1970; never before the last time that was trusted.
    public init(root bytes: [UInt8], now: Int) throws(UpdateFailure) {
        let root = try Root(bytes)
        try root.metadata.verify(by: root.role("root"), name: "root")
        self.root = root
        self.now = now
    }

    // MARK: - Root

    /// The next root: signed by those who signed for the last one, and by its own.
    public mutating func update(root bytes: [UInt8]) throws(UpdateFailure) {
        let name = "\(root.metadata.version + 1).root"
        let next = try Root(bytes, name: name)
        try next.metadata.verify(by: root.role("root"), name: name)
        guard next.metadata.version == root.metadata.version + 1 else {
            throw UpdateFailure(.mismatch, name, "version \(next.metadata.version)")
        }
        try next.metadata.verify(by: next.role("root"), name: name)
        root = next
    }

    private func checkIsFresh(_ metadata: Metadata, _ name: String) throws(UpdateFailure) {
        guard metadata.expires > now else {
            throw UpdateFailure(
                .expired, name,
                "expired \(UTC.text(of: metadata.expires)), and it is \(UTC.text(of: now)): the repository stands still, or "
                    + "somebody holds back what is newer")
        }
    }

    // MARK: - Timestamp

    /// What became of a file that was read.
    public enum Outcome: Sendable { case taken, known }

    public mutating func update(timestamp bytes: [UInt8]) throws(UpdateFailure) -> Outcome {
        let name = "timestamp"
        // A root that is over signs for nothing, though the next root may.
        try checkIsFresh(root.metadata, "root")
        let next = try Metadata(bytes, name: name, type: name)
        try next.verify(by: root.role(name), name: name)
        let meta = try Self.meta(of: next, "snapshot.json", name: name)
        if let timestamp {
            guard next.version >= timestamp.version else {
                throw UpdateFailure(.rollback, name, "version \(next.version) after \(timestamp.version)")
            }
            if next.version == timestamp.version {
                try checkIsFresh(timestamp, name)
                return .known
            }
            let last = try Self.meta(of: timestamp, "snapshot.json", name: name)
            guard meta.version ?? 0 >= last.version ?? 0 else {
                throw UpdateFailure(
                    .rollback, name, "it names the snapshot \(meta.version ?? 0) after \(last.version ?? 0)")
            }
        }
        // Kept though it may be over: nothing older is ever taken again.
        timestamp = next
        try checkIsFresh(next, name)
        return .taken
    }

    /// What the timestamp says of the snapshot.
    public func snapshotMeta() throws(UpdateFailure) -> FileMeta {
        guard let timestamp else { throw UpdateFailure(.malformed, "timestamp", "there is none yet") }
        return try Self.meta(of: timestamp, "snapshot.json", name: "timestamp")
    }

    private static func meta(of metadata: Metadata, _ file: String, name: String) throws(UpdateFailure) -> FileMeta {
        guard let json = metadata.signed["meta"]?[file] else {
            throw UpdateFailure(.malformed, name, "it says nothing of \(file)")
        }
        return try FileMeta(json, name: "\(name) of \(file)", isTarget: false)
    }

    // MARK: - Snapshot

    /// - Parameter isOwn: whether it was trusted once and comes from this machine: its hash need not be the newest one's.
    public mutating func update(snapshot bytes: [UInt8], isOwn: Bool = false) throws(UpdateFailure) {
        let name = "snapshot"
        guard let timestamp else { throw UpdateFailure(.malformed, name, "it comes before a timestamp") }
        try checkIsFresh(timestamp, "timestamp")
        let wanted = try snapshotMeta()
        if !isOwn { try wanted.check(bytes, name: name) }
        let next = try Metadata(bytes, name: name, type: name)
        try next.verify(by: root.role(name), name: name)
        let listed = next.signed["meta"]?.object ?? [:]
        for file in listed.keys.sorted() { _ = try Self.meta(of: next, file, name: name) }
        _ = try Self.meta(of: next, "targets.json", name: name)
        for (file, json) in snapshot?.signed["meta"]?.object ?? [:] {
            let last = json["version"]?.integer ?? 0
            guard let version = listed[file]?["version"]?.integer else {
                throw UpdateFailure(.rollback, name, "\(file) is gone from it")
            }
            guard version >= last else {
                throw UpdateFailure(.rollback, name, "it names version \(version) of \(file) after \(last)")
            }
        }
        snapshot = next
        try checkSnapshot()
    }

    /// An own one of before stays to compare with, and is no final one.
    private func checkSnapshot() throws(UpdateFailure) {
        guard let snapshot else { throw UpdateFailure(.malformed, "snapshot", "there is none yet") }
        try checkIsFresh(snapshot, "snapshot")
        let wanted = try snapshotMeta().version
        guard snapshot.version == wanted else {
            throw UpdateFailure(.mismatch, "snapshot", "version \(snapshot.version), \(wanted ?? 0) is signed")
        }
    }

    // MARK: - Targets

    /// What the snapshot says of a role's metadata.
    public func meta(ofRole name: String) throws(UpdateFailure) -> FileMeta {
        guard let snapshot else { throw UpdateFailure(.malformed, name, "it comes before a snapshot") }
        return try Self.meta(of: snapshot, "\(name).json", name: "snapshot")
    }

    /// - Parameter delegator: the role that handed targets on to it; nil for `targets` itself.
    public mutating func update(targets bytes: [UInt8], role name: String, by delegator: String?) throws(UpdateFailure)
    {
        try checkSnapshot()
        let signer: Role
        if let delegator {
            guard let role = targets[delegator]?.role(name) else {
                throw UpdateFailure(.malformed, name, "\(delegator) hands nothing on to it")
            }
            signer = role
        } else {
            signer = try root.role("targets")
        }
        let wanted = try meta(ofRole: name)
        try wanted.check(bytes, name: name)
        let next = try Targets(bytes, name: name)
        try next.metadata.verify(by: signer, name: name)
        guard next.metadata.version == wanted.version else {
            throw UpdateFailure(
                .mismatch, name, "version \(next.metadata.version), \(wanted.version ?? 0) is signed")
        }
        try checkIsFresh(next.metadata, name)
        targets[name] = next
    }
}
