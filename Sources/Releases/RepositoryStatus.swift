import Documents
import Updates

/// A role of a repository, as `vcpe release status` shows it.
public struct RoleStatus: Sendable, Hashable {
    public struct Key: Sendable, Hashable {
        public var identifier: String
        /// The owner's name; nil if the key has none.
        public var owner: String?
        /// Whether the key has signed the waiting change.
        public var hasSigned: Bool
    }

    public var role: String
    /// 0 before the first version is published.
    public var version: Int
    /// Seconds since 1970; 0 before the first version.
    public var expires: Int
    public var keys: [Key]
    public var threshold: Int
    /// Signatures that a waiting change of the role still needs; 0 for none.
    public var missing: Int
    /// Whether a change of the role waits.
    public var isPending: Bool
    /// Seconds before expiry from which the role should be signed again.
    public var signingPeriod: Int

    /// Whether the role should be signed again now.
    public func isDue(now: Int) -> Bool { version > 0 && expires - now <= signingPeriod }
}

extension ReleaseRepository {
    /// All roles: those of root, the channels, and the director.
    public var status: [RoleStatus] {
        var next = self
        for (role, document) in pending { next.documents[role] = document }
        let director = next.authority(Direction.role) == nil ? [] : [Direction.role]
        return (TrustedMetadata.topLevel + next.channels + director).compactMap { role in
            guard let authority = authority(role) ?? next.authority(role) else { return nil }
            let (document, waiting) = (published[role], pending[role])
            let keys = authority.role.identifiers.map { identifier in
                RoleStatus.Key(
                    identifier: identifier, owner: SigningKey.owner(of: authority.keys[identifier]),
                    hasSigned: waiting?.signatures[identifier] != nil)
            }
            return RoleStatus(
                role: role, version: document?.version ?? 0,
                expires: document?.signed["expires"]?.text.flatMap(UTC.seconds) ?? 0, keys: keys,
                threshold: authority.role.threshold, missing: waiting.map(next.missing) ?? 0,
                isPending: waiting != nil, signingPeriod: signingPeriod(role))
        }
    }

    /// Half of the period of an online role. For an offline role, whose signers have to meet, 60
    /// days or a third of the period.
    private func signingPeriod(_ role: String) -> Int {
        let days = period(role)
        return 86_400 * (Self.online.contains(role) ? (days + 1) / 2 : min(60, days / 3))
    }
}
