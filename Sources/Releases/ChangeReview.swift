import Digests
import Documents
import Files
import Updates

/// The differences between a change and the published metadata, for the signers.
///
/// Every difference of the signed parts is an ``Entry``, even in a field that this program does not
/// know, so that no key signs an unseen change.
public struct ChangeReview: Sendable {
    /// A role whose metadata changes.
    public struct RoleChange: Sendable, Hashable {
        public var role: String
        /// 0 for a new role.
        public var oldVersion: Int
        public var version: Int
        /// As in the metadata; nil for a new role.
        public var oldExpires: String?
        public var expires: String
        public var threshold: Int
        /// Signatures that are still missing.
        public var missing: Int
        /// Names, or the first digits of the identifiers, of the keys that have signed.
        public var signedBy: [String]
    }

    /// One difference.
    public struct Entry: Sendable, Hashable {
        public var role: String
        /// The path within the signed part: `roles/timestamp/threshold`, `delegations/keys/ID`,
        /// `targets/PATH`.
        public var path: String
        /// Nil for an added value.
        public var old: JSON?
        /// Nil for a removed value.
        public var new: JSON?
    }

    /// What boxes of a channel, or of a group, get after the change.
    public struct Effect: Sendable, Hashable {
        /// `channel stable` or `group north`.
        public var boxes: String
        /// `IMAGE PROFILE`, or the image alone for a group.
        public var image: String
        /// The version that they get before the change; nil for none.
        public var old: String?
        public var new: String?
    }

    public let roles: [RoleChange]
    public let entries: [Entry]
    public let effects: [Effect]
    /// SHA-256 over the signed parts of all changed roles and of the published ones; it identifies
    /// the review.
    public let digest: Digest
    /// Whether it contains changes that waited before, which another operator may have made.
    public internal(set) var includesWaiting = false
    /// Owners of keys, by identifier.
    private let owners: [String: String]

    /// - Parameter directions: new and published directions by group, which have no entry in the
    ///   snapshot.
    init(
        of change: [String: SignedDocument],
        directions: [String: (new: SignedDocument, old: SignedDocument?)] = [:], in repository: ReleaseRepository
    ) {
        let order = { (role: String) in ["root", "targets"].firstIndex(of: role) ?? 2 }
        let names = change.keys.sorted { (order($0), $0) < (order($1), $1) }
        var (roles, entries, owners): ([RoleChange], [Entry], [String: String]) = ([], [], [:])
        for name in names {
            guard let document = change[name] else { continue }
            let last = repository.published[name]
            for authority in repository.authorities(name) {
                for (identifier, key) in authority.keys { owners[identifier] = SigningKey.owner(of: key) }
            }
            roles.append(
                RoleChange(
                    role: name, oldVersion: last?.version ?? 0, version: document.version,
                    oldExpires: last?.signed["expires"]?.text, expires: document.signed["expires"]?.text ?? "",
                    threshold: repository.authority(name)?.role.threshold ?? 0, missing: repository.missing(document),
                    signedBy: document.signatures.keys.sorted().map { owners[$0] ?? String($0.prefix(12)) }))
            entries += Self.differences(name, last?.signed ?? [:], document.signed)
        }
        var (effects, signed, before) = (Self.effects(of: change, in: repository), change, repository.published)
        if change.isEmpty { effects = [] }
        for (group, direction) in directions.sorted(by: { $0.key < $1.key }) {
            let (role, new, old) = ("\(Direction.role)/\(group)", direction.new, direction.old)
            let authority = repository.directionAuthority
            for (identifier, key) in authority?.keys ?? [:] { owners[identifier] = SigningKey.owner(of: key) }
            roles.append(
                RoleChange(
                    role: role, oldVersion: old?.version ?? 0, version: new.version,
                    oldExpires: old?.signed["expires"]?.text, expires: new.signed["expires"]?.text ?? "",
                    threshold: authority?.role.threshold ?? 0, missing: authority?.missing(new) ?? 1,
                    signedBy: new.signatures.keys.sorted().map { owners[$0] ?? String($0.prefix(12)) }))
            entries += Self.differences(role, old?.signed ?? [:], new.signed)
            let (was, releases) = (old?.signed["releases"]?.object ?? [:], new.signed["releases"]?.object ?? [:])
            effects.removeAll { $0.boxes == "group \(group)" }
            effects += releases.keys.sorted().map {
                Effect(boxes: "group \(group)", image: $0, old: was[$0]?.text, new: releases[$0]?.text)
            }
            (signed[role], before[role]) = (new, old)
        }
        self.roles = roles
        self.entries = entries
        self.effects = effects
        self.owners = owners.merging(Self.owners(in: entries)) { first, _ in first }
        digest = Self.digest(signed, after: before)
    }

    private static func digest(_ change: [String: SignedDocument], after last: [String: SignedDocument]) -> Digest {
        func digests(_ documents: [String: SignedDocument]) -> JSON {
            .object(documents.mapValues { .text(SHA256.hash(JSON.object($0.signed).canonical).hex) })
        }
        let before = last.filter { change[$0.key] != nil || $0.key == "root" || $0.key == "targets" }
        return SHA256.hash((["after": digests(before), "signs": digests(change)] as JSON).canonical)
    }

    // MARK: - Differences

    private static func differences(_ role: String, _ old: [String: JSON], _ new: [String: JSON]) -> [Entry] {
        let (before, after) = (units(old), units(new))
        return Set(before.keys).union(after.keys).sorted().compactMap { path in
            guard before[path] != after[path] else { return nil }
            return Entry(role: role, path: path, old: before[path], new: after[path])
        }
    }

    /// Splits the signed part into the values that are compared: a key, a field of a role, a
    /// target, or any other field. Version and expiry date are in ``RoleChange``.
    private static func units(_ signed: [String: JSON]) -> [String: JSON] {
        var units: [String: JSON] = [:]
        func take(_ path: String, _ json: JSON) { units[path] = json }
        func takeRole(_ path: String, _ json: JSON) {
            guard let fields = json.object else { return take(path, json) }
            for (field, value) in fields { take("\(path)/\(field)", value) }
        }
        for (field, value) in signed {
            switch (field, value) {
            case ("version", _), ("expires", _): break
            case ("keys", .object(let keys)): for (name, key) in keys { take("keys/\(name)", key) }
            case ("targets", .object(let targets)): for (path, meta) in targets { take("targets/\(path)", meta) }
            case ("roles", .object(let roles)): for (name, role) in roles { takeRole("roles/\(name)", role) }
            case ("delegations", .object(let delegations)):
                for (field, value) in delegations {
                    switch (field, value) {
                    case ("keys", .object(let keys)):
                        for (name, key) in keys { take("delegations/keys/\(name)", key) }
                    case ("roles", .list(let roles)):
                        // The order matters: clients search the first role that covers a path.
                        take("delegations/order", .texts(roles.map { $0["name"]?.text ?? "?" }))
                        for (index, role) in roles.enumerated() {
                            takeRole("delegations/roles/\(role["name"]?.text ?? "#\(index)")", role)
                        }
                    default: take("delegations/\(field)", value)
                    }
                }
            default: take(field, value)
            }
        }
        return units
    }

    private static func owners(in entries: [Entry]) -> [String: String] {
        var owners: [String: String] = [:]
        for entry in entries where entry.path.contains("keys/") {
            let identifier = FileSystem.name(of: entry.path)
            owners[identifier] = SigningKey.owner(of: entry.new) ?? SigningKey.owner(of: entry.old)
        }
        return owners
    }

    // MARK: - Effects

    private static func effects(
        of change: [String: SignedDocument], in repository: ReleaseRepository
    ) -> [Effect] {
        var effects: [Effect] = []
        func newest(_ targets: JSON?, _ channel: String) -> [String: String] {
            let all = ReleaseRepository.releases(targets?.object ?? [:], in: channel, folder: repository.folder)
            // The newest of each image and profile is the first.
            return Dictionary(all.map { ("\($0.image) \($0.profile)", $0.version) }) { first, _ in first }
        }
        for channel in change.keys.sorted() where !["root", "targets"].contains(channel) {
            let old = newest(repository.published[channel]?.signed["targets"], channel)
            let expires = change[channel]?.signed["expires"]?.text.flatMap(UTC.seconds) ?? 0
            let new = expires > repository.now ? newest(change[channel]?.signed["targets"], channel) : [:]
            for image in Set(old.keys).union(new.keys).sorted() {
                effects.append(
                    Effect(boxes: "channel \(channel)", image: image, old: old[image], new: new[image]))
            }
        }
        let available = Set(
            repository.channels.flatMap { channel in
                let signed = change[channel]?.signed ?? repository.documents[channel]?.signed
                return ReleaseRepository.releases(
                    signed?["targets"]?.object ?? [:], in: channel, folder: repository.folder
                ).map { "\($0.image) \($0.version)" }
            })
        for (group, direction) in repository.directions {
            guard case .success(let direction) = direction else { continue }
            for (image, version) in direction.releases.sorted(by: { $0.key < $1.key }) {
                effects.append(
                    Effect(
                        boxes: "group \(group)", image: image, old: version,
                        new: available.contains("\(image) \(version)") ? version : nil))
            }
        }
        return effects
    }

    // MARK: - Output

    /// The review as lines for a terminal. Control characters in the repository's text are replaced
    /// by question marks.
    public var lines: [String] {
        var lines: [String] = []
        for role in roles {
            let version = role.oldVersion == 0 ? "new" : "version \(role.oldVersion) -> \(role.version)"
            let expiry = role.oldExpires.map { "\($0) -> \(role.expires)" } ?? role.expires
            lines.append("\(role.role): \(version), expires \(expiry)")
            let signed = role.signedBy.isEmpty ? "" : ", signed by \(role.signedBy.joined(separator: ", "))"
            lines.append("  signatures: \(role.missing) more needed, the threshold is \(role.threshold)\(signed)")
            lines += entries.filter { $0.role == role.role }.map { "  " + text($0) }
        }
        if !effects.isEmpty { lines.append("boxes") }
        for effect in effects {
            let change =
                effect.old == effect.new
                ? "\(effect.new ?? "nothing"), unchanged" : "\(effect.old ?? "nothing") -> \(effect.new ?? "nothing")"
            lines.append("  \(effect.boxes), \(effect.image): \(change)")
        }
        lines.append("digest \(digest.hex)")
        return lines.map(Self.printable)
    }

    private func text(_ entry: Entry) -> String {
        let parts = entry.path.split(separator: "/").map(String.init)
        if let index = parts.firstIndex(of: "keys"), index + 2 == parts.count {
            let value = (entry.new ?? entry.old)?["keyval"]?["public"]?.text ?? ""
            let scheme = (entry.new ?? entry.old)?["scheme"]?.text ?? "?"
            let change = entry.old == nil ? "new key" : entry.new == nil ? "removed key" : "changed key"
            return "\(change) \(name(parts[index + 1])): \(scheme) \(value.replacing("\n", with: " "))"
        }
        let change =
            switch (entry.old, entry.new) {
            case (nil, let new?): "+ \(value(new))"
            case (let old?, nil): "- \(value(old))"
            case (let old, let new): "\(value(old ?? .null)) -> \(value(new ?? .null))"
            }
        return "\(entry.path): \(change)"
    }

    /// A key by its owner and the first digits of its identifier.
    private func name(_ identifier: String) -> String {
        let digits = String(identifier.prefix(12))
        return owners[identifier].map { "\($0) (\(digits))" } ?? digits
    }

    private func value(_ json: JSON) -> String {
        if let list = json.list, !list.isEmpty, list.allSatisfy({ $0.text?.utf8.count == 64 }) {
            return list.compactMap(\.text).map(name).joined(separator: ", ")
        }
        guard let digest = json["hashes"]?["sha256"]?.text, let length = json["length"]?.integer else {
            return json.line
        }
        var rest = json.object ?? [:]
        let custom = (rest.removeValue(forKey: "custom")?.object ?? [:]).sorted { $0.key < $1.key }
        let fields = custom.map { "\($0.key) \($0.value.text ?? $0.value.line)" }
        rest["hashes"] = nil
        rest["length"] = nil
        let others = (json["hashes"]?.object ?? [:]).count > 1 || !rest.isEmpty ? [json.line] : []
        return (["\(length) bytes", "SHA-256 \(digest)"] + fields + others).joined(separator: ", ")
    }

    /// Escape sequences in a name could hide lines of a review from its reader.
    private static func printable(_ line: String) -> String {
        var shown = String.UnicodeScalarView()
        for scalar in line.unicodeScalars {
            let category = scalar.properties.generalCategory
            shown.append(category == .control || category == .format ? "?" : scalar)
        }
        return String(shown)
    }

    /// The review as JSON.
    public var json: JSON {
        [
            "digest": .text(digest.hex),
            "roles": .list(
                roles.map { role in
                    [
                        "role": .text(role.role), "version": .integer(role.version),
                        "old-version": .integer(role.oldVersion), "expires": .text(role.expires),
                        "old-expires": role.oldExpires.map { .text($0) } ?? .null,
                        "threshold": .integer(role.threshold), "missing-signatures": .integer(role.missing),
                        "signed-by": .texts(role.signedBy),
                    ]
                }),
            "changes": .list(
                entries.map {
                    [
                        "role": .text($0.role), "path": .text($0.path), "old": $0.old ?? .null, "new": $0.new ?? .null,
                    ]
                }),
            "boxes": .list(
                effects.map {
                    [
                        "boxes": .text($0.boxes), "image": .text($0.image),
                        "old": $0.old.map { .text($0) } ?? .null, "new": $0.new.map { .text($0) } ?? .null,
                    ]
                }),
        ]
    }
}
