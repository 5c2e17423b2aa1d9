import Documents

/// The trusted metadata of a repository. Each step accepts one file, if it is signed, is not older
/// than the trusted one, and is the one that earlier files refer to. The steps and their order are
/// those of TUF 1.0, section 5.
public struct TrustedMetadata: Sendable {
    public static let topLevel = ["root", "timestamp", "snapshot", "targets"]

    public private(set) var root: Root
    public private(set) var timestamp: Metadata?
    public private(set) var snapshot: Metadata?
    /// `targets` and the delegated roles that were loaded, by name.
    public private(set) var targets: [String: Targets] = [:]
    /// Seconds since 1970, the same for all steps.
    let now: Int

    /// - Parameters:
    ///   - root: the root that came with the product, or the last trusted one.
    ///   - now: seconds since 1970; not before the time at which metadata was last trusted.
    public init(root bytes: [UInt8], now: Int) throws(UpdateFailure) {
        let root = try Root(bytes)
        try root.metadata.verify(by: root.role("root"), name: "root")
        self.root = root
        self.now = now
    }

    // MARK: - Root

    /// Accepts the next root: signed by the keys of the trusted one and by its own (section 5.3).
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
                "expired \(UTC.text(of: metadata.expires)), and it is \(UTC.text(of: now)): the repository was not signed "
                    + "again, or newer metadata is withheld")
        }
    }

    // MARK: - Timestamp

    /// Whether a file is newer than the trusted one.
    public enum Outcome: Sendable { case accepted, unchanged }

    public mutating func update(timestamp bytes: [UInt8]) throws(UpdateFailure) -> Outcome {
        let name = "timestamp"
        // An expired root may only verify the next root (section 5.3.10).
        try checkIsFresh(root.metadata, "root")
        let next = try Metadata(bytes, name: name, type: name)
        try next.verify(by: root.role(name), name: name)
        let meta = try Self.meta(of: next, "snapshot.json", name: name)
        if let timestamp {
            guard next.version >= timestamp.version else {
                throw UpdateFailure(.rollback, name, "version \(next.version), trusted is \(timestamp.version)")
            }
            if next.version == timestamp.version {
                try checkIsFresh(timestamp, name)
                return .unchanged
            }
            let last = try Self.meta(of: timestamp, "snapshot.json", name: name)
            guard meta.version ?? 0 >= last.version ?? 0 else {
                throw UpdateFailure(
                    .rollback, name,
                    "it has version \(meta.version ?? 0) of the snapshot, trusted is \(last.version ?? 0)")
            }
        }
        // Kept in memory even if it has expired, so that this run accepts nothing older. The client
        // stores it only after the check below (section 5.4.5).
        timestamp = next
        try checkIsFresh(next, name)
        return .accepted
    }

    /// Version, length and hashes of the snapshot, from the timestamp.
    public func snapshotMeta() throws(UpdateFailure) -> FileMeta {
        guard let timestamp else { throw UpdateFailure(.malformed, "timestamp", "it is not loaded yet") }
        return try Self.meta(of: timestamp, "snapshot.json", name: "timestamp")
    }

    private static func meta(of metadata: Metadata, _ file: String, name: String) throws(UpdateFailure) -> FileMeta {
        guard let json = metadata.signed["meta"]?[file] else {
            throw UpdateFailure(.malformed, name, "it has no entry for \(file)")
        }
        return try FileMeta(json, name: "\(name), entry \(file)", isTarget: false)
    }

    // MARK: - Snapshot

    /// - Parameter isOwn: whether it is this machine's stored snapshot, whose hash need not be that
    ///   of the newest one (section 5.5).
    public mutating func update(snapshot bytes: [UInt8], isOwn: Bool = false) throws(UpdateFailure) {
        let name = "snapshot"
        guard let timestamp else { throw UpdateFailure(.malformed, name, "it needs a trusted timestamp") }
        try checkIsFresh(timestamp, "timestamp")
        let expected = try snapshotMeta()
        if !isOwn { try expected.check(bytes, name: name) }
        let next = try Metadata(bytes, name: name, type: name)
        try next.verify(by: root.role(name), name: name)
        let listed = next.signed["meta"]?.object ?? [:]
        for file in listed.keys.sorted() { _ = try Self.meta(of: next, file, name: name) }
        _ = try Self.meta(of: next, "targets.json", name: name)
        for (file, json) in snapshot?.signed["meta"]?.object ?? [:] {
            let last = json["version"]?.integer ?? 0
            guard let version = listed[file]?["version"]?.integer else {
                throw UpdateFailure(.rollback, name, "it no longer has an entry for \(file)")
            }
            guard version >= last else {
                throw UpdateFailure(.rollback, name, "it has version \(version) of \(file), trusted is \(last)")
            }
        }
        snapshot = next
        try checkSnapshot()
    }

    /// A stored snapshot is accepted for comparison; only the one in the timestamp is final.
    private func checkSnapshot() throws(UpdateFailure) {
        guard let snapshot else { throw UpdateFailure(.malformed, "snapshot", "it is not loaded yet") }
        try checkIsFresh(snapshot, "snapshot")
        let expected = try snapshotMeta().version
        guard snapshot.version == expected else {
            throw UpdateFailure(.mismatch, "snapshot", "version \(snapshot.version), signed is \(expected ?? 0)")
        }
    }

    // MARK: - Targets

    /// Version, length and hashes of a role's metadata, from the snapshot.
    public func meta(ofRole name: String) throws(UpdateFailure) -> FileMeta {
        guard let snapshot else { throw UpdateFailure(.malformed, name, "it needs a trusted snapshot") }
        return try Self.meta(of: snapshot, "\(name).json", name: "snapshot")
    }

    /// - Parameter delegator: the role that delegates to this one; nil for `targets` itself.
    public mutating func update(targets bytes: [UInt8], role name: String, by delegator: String?) throws(UpdateFailure)
    {
        try checkSnapshot()
        let signer: SigningRole
        if let delegator {
            guard let role = targets[delegator]?.role(name) else {
                throw UpdateFailure(.malformed, name, "\(delegator) does not delegate to it")
            }
            signer = role
        } else {
            signer = try root.role("targets")
        }
        let expected = try meta(ofRole: name)
        try expected.check(bytes, name: name)
        let next = try Targets(bytes, name: name)
        try next.metadata.verify(by: signer, name: name)
        guard next.metadata.version == expected.version else {
            throw UpdateFailure(
                .mismatch, name, "version \(next.metadata.version), signed is \(expected.version ?? 0)")
        }
        try checkIsFresh(next.metadata, name)
        targets[name] = next
    }
}
