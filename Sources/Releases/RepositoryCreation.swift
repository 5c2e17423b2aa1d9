import Documents
import Files
import Updates

extension ReleaseRepository {
    /// - Throws: ``ReleaseFailure`` if the folder has a repository.
    public static func checkIsNew(_ folder: String) throws(ReleaseFailure) {
        guard !FileSystem.exists("\(folder)/metadata"), !FileSystem.exists("\(folder)/unsigned") else {
            throw ReleaseFailure(
                "\(folder): a repository exists here", hint: "vcpe release status \(folder)", reason: .exists)
        }
    }

    /// Creates a repository with its four top-level roles and its first channel.
    ///
    /// - Parameters:
    ///   - roles: the keys of root, targets, snapshot and timestamp.
    ///   - channelKeys: the keys of the first channel.
    /// - Returns: the repository, and whether it is published or waits for other signers.
    public static func make(
        _ folder: String, roles: [String: Keys], channel: String, channelKeys: Keys, signing session: SigningSession,
        now: Int
    ) throws -> (ReleaseRepository, Outcome) {
        try checkIsNew(folder)
        var listed: [String: JSON] = [:]
        for role in TrustedMetadata.topLevel {
            guard let keys = roles[role] else { throw ReleaseFailure("\(role): no keys are given") }
            for key in keys.publicKeys { listed[SigningKey.identifier(of: key)] = key }
            try RoleKeys(keys.publicKeys, threshold: keys.threshold).check(role, keys: listed)
        }
        let signers = roles.mapValues { JSON.object(RoleKeys($0.publicKeys, threshold: $0.threshold).json) }
        var repository = try ReleaseRepository(empty: folder, now: now)
        repository.documents["root"] = SignedDocument(
            "root",
            repository.body("root", ["keys": .object(listed), "roles": .object(signers), "consistent_snapshot": true]))
        repository.documents["targets"] = SignedDocument(
            "targets", repository.body("targets", ["targets": [:], "delegations": ["keys": [:], "roles": []]]))
        try repository.addDelegation(to: channel, channelKeys)
        let outcome = try repository.commit(["root", "targets", channel], session)
        return (repository, outcome)
    }
}
