import Documents
import Files
import Updates

/// Changes of roles and their keys. Each ends in ``commit(_:_:days:)``.
extension ReleaseRepository {
    /// Adds a channel that another team's keys sign.
    public mutating func addChannel(
        _ name: String, _ channelKeys: Keys, signing session: SigningSession
    ) throws -> Outcome {
        begin(["targets", name])
        try addDelegation(to: name, channelKeys)
        return try commit(["targets", name], session)
    }

    mutating func addDelegation(to channel: String, _ keys: Keys) throws {
        guard channel != Direction.role else {
            throw ReleaseFailure(
                "\(channel): the name is reserved for the role that directs groups",
                hint: "vcpe release director \(folder)")
        }
        // A channel's name becomes a folder and a part of file names. As an fnmatch(3) pattern it
        // could cover other channels, too.
        guard Self.isPlain(channel) else {
            throw ReleaseFailure(
                "\"\(channel)\" is not a name for a channel; allowed are at most 64 letters, digits, hyphens and "
                    + "dots, the first no hyphen or dot",
                hint: "stable, or edge, for example")
        }
        // CHANNEL/IMAGE/PROFILE/VERSION/FILE
        try delegate("\(channel)/*/*/*/*", to: channel, keys)
        documents[channel] = SignedDocument(channel, body(channel, ["targets": [:]]))
    }

    /// Whether a name can be a channel's or a group's.
    public static func isPlain(_ name: String) -> Bool {
        let isFirstPlain = name.utf8.first.map { $0 != UInt8(ascii: "-") && $0 != UInt8(ascii: ".") } ?? false
        return isFirstPlain && name.utf8.count <= 64
            && name.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || "-.".contains($0)) }
    }

    /// - Parameter paths: the pattern of paths that the role signs for (TUF 1.0, section 4.5).
    mutating func delegate(_ paths: String, to role: String, _ keys: Keys) throws {
        guard !TrustedMetadata.topLevel.contains(role), authority(role) == nil else {
            throw ReleaseFailure(
                "\(folder): the role \(role) exists", hint: "vcpe release status \(folder)", reason: .exists)
        }
        var known = documents["targets"]?.signed["delegations"]?["keys"]?.object ?? [:]
        for key in keys.publicKeys { known[SigningKey.identifier(of: key)] = key }
        let roleKeys = RoleKeys(keys.publicKeys, threshold: keys.threshold)
        try roleKeys.check(role, keys: known)
        for key in keys.publicKeys { try checkSeparation(of: key, in: role) }
        var json = roleKeys.json
        json["name"] = .text(role)
        json["terminating"] = true
        json["paths"] = [.text(paths)]
        let delegated: JSON = ["keys": .object(known), "roles": .list(delegations + [.object(json)])]
        documents["targets"]?.signed["delegations"] = delegated
    }

    /// Online keys are on the release host. A key of both an online and an offline role would
    /// defeat the separation of roles.
    private func checkSeparation(of key: JSON, in role: String) throws(ReleaseFailure) {
        guard let encoded = PublicKey(key)?.encoded else { return }
        let isOnline = Self.online.contains(role)
        for other in TrustedMetadata.topLevel + channels where Self.online.contains(other) != isOnline {
            guard let authority = authority(other) else { continue }
            // A lab may use one key for all roles.
            for identifier in authority.role.identifiers
            where authority.keys[identifier].flatMap(PublicKey.init)?.encoded == encoded && !isLab {
                throw ReleaseFailure(
                    "\(role): the key \(identifier.prefix(12)) is a key of \(other), and one of the two roles is online",
                    hint: "make another key for \(role)")
            }
        }
    }

    /// Whether root and timestamp share a key, as in the repository of a test run.
    private var isLab: Bool {
        func keys(_ role: String) -> Set<String> { Set(authority(role)?.role.identifiers ?? []) }
        return !keys("root").isDisjoint(with: keys("timestamp"))
    }

    // MARK: - Validity

    /// Signs roles again with a new expiry date, and the online roles with them.
    ///
    /// - Parameter days: the new period of these roles; nil keeps the current one.
    public mutating func resign(_ roles: [String], days: Int? = nil, signing session: SigningSession) throws -> Outcome
    {
        begin(roles)
        for role in roles where documents[role] == nil { throw noRole(role) }
        let offline = roles.filter { !Self.online.contains($0) }
        if let days {
            for role in roles { documents[role]?.signed[Self.periodField] = .integer(days) }
        }
        return try commit(offline, session)
    }

    /// Signs a channel so that it has expired: boxes install nothing from it until it is signed
    /// again.
    public mutating func expire(_ channel: String, signing session: SigningSession) throws -> Outcome {
        begin([channel])
        try check(channel: channel)
        return try commit([channel], session, days: 0)
    }

    private func noRole(_ role: String) -> ReleaseFailure {
        ReleaseFailure(
            "\(folder): there is no role \(role)",
            hint: "the roles are " + (TrustedMetadata.topLevel + channels).joined(separator: ", "))
    }

    // MARK: - Keys

    /// Replaces or removes a key of a role. The keys of the previous root sign a new root, too (TUF
    /// 1.0, section 5.3.4).
    ///
    /// - Parameters:
    ///   - old: the first digits of the key's identifier.
    ///   - key: the new public key; nil removes the old one only.
    public mutating func replaceKey(
        _ old: String, of role: String, by key: JSON?, signing session: SigningSession
    ) throws -> Outcome {
        let delegator = TrustedMetadata.topLevel.contains(role) ? "root" : "targets"
        begin([delegator, role])
        guard let authority = authority(role) else { throw noRole(role) }
        var (roleKeys, known) = (authority.role, authority.keys)
        let found = roleKeys.identifiers.filter { $0.hasPrefix(old) }
        guard found.count == 1, let removed = found.first, !old.isEmpty else {
            throw ReleaseFailure(
                "\(role): \(found.count) keys begin with \"\(old)\", exactly one must",
                hint: "its keys are " + roleKeys.identifiers.map { String($0.prefix(12)) }.joined(separator: ", "))
        }
        roleKeys.identifiers.removeAll { $0 == removed }
        if let key {
            let identifier = SigningKey.identifier(of: key)
            roleKeys.identifiers.append(identifier)
            known[identifier] = key
            try checkSeparation(of: key, in: role)
        }
        try roleKeys.check(role, keys: known)
        if delegator == "root" {
            var roles = documents["root"]?.signed["roles"]?.object ?? [:]
            roles[role] = .object(roleKeys.json)
            documents["root"]?.signed["roles"] = .object(roles)
            documents["root"]?.signed["keys"] = .object(Self.used(known, by: Array(roles.values)))
        } else {
            let list = delegations.map { item -> JSON in
                guard item["name"]?.text == role else { return item }
                return .object((item.object ?? [:]).merging(roleKeys.json) { $1 })
            }
            documents["targets"]?.signed["delegations"] = [
                "keys": .object(Self.used(known, by: list)), "roles": .list(list),
            ]
        }
        // Signatures of the removed key no longer count, so the role's own metadata is signed
        // again.
        let again = documents[role] == nil || role == "root" || Self.online.contains(role) ? [] : [role]
        return try commit([delegator] + again, session)
    }

    private static func used(_ keys: [String: JSON], by roles: [JSON]) -> [String: JSON] {
        let identifiers = Set(roles.flatMap { $0["keyids"]?.list?.compactMap(\.text) ?? [] })
        return keys.filter { identifiers.contains($0.key) }
    }
}
