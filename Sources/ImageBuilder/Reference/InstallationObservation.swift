import Digests
import Documents

/// What an installation in a reference root left, against what the packages' files alone make.
struct InstallationObservation: Sendable, Hashable {
    /// One path that differs.
    struct Change: Sendable, Hashable {
        enum Kind: String, Sendable, Hashable {
            case directory, file, link, removed
            /// A device, a pipe or a socket.
            case special
            /// The same contents as the package's, other mode, owner or capabilities.
            case attributes
        }

        var path: String
        /// Whose script made it so.
        var package: String
        var kind: Kind
        var mode: UInt32 = 0
        var owner = "root"
        var group = "root"
        var capabilities: String?
        /// Of a link.
        var target = ""
        var digest: Digest?
        /// Bytes of a file.
        var size = 0
        /// Of a file that is small enough.
        var bytes: [UInt8]?
    }

    struct User: Sendable, Hashable {
        var package: String
        var name: String
        var id: Int
        var group: String
        var comment: String
        var home: String
        var shell: String
    }

    struct Group: Sendable, Hashable {
        var package: String
        var name: String
        var id: Int
        /// The package that added a member, by the member's name.
        var members: [String: String]
    }

    var changes: [Change] = []
    var users: [User] = []
    var groups: [Group] = []
    var alternatives: [Effects.Alternative] = []
    var diversions: [PackageTree.Diversion] = []
}

// MARK: - Between the process in the reference root and the builder

extension InstallationObservation {
    var json: JSON {
        [
            "changes": .list(
                changes.map { change in
                    .object([
                        "path": .text(change.path), "package": .text(change.package),
                        "kind": .text(change.kind.rawValue),
                        "mode": .integer(Int(change.mode)), "owner": .text(change.owner), "group": .text(change.group),
                        "capabilities": change.capabilities.map { .text($0) }, "target": .text(change.target),
                        "digest": change.digest.map { .text($0.hex) }, "size": .integer(change.size),
                        "bytes": change.bytes.map { .text(hex($0)) },
                    ])
                }),
            "users": .list(
                users.map {
                    [
                        "package": .text($0.package), "name": .text($0.name), "id": .integer($0.id),
                        "group": .text($0.group), "comment": .text($0.comment), "home": .text($0.home),
                        "shell": .text($0.shell),
                    ]
                }),
            "groups": .list(
                groups.map {
                    [
                        "package": .text($0.package), "name": .text($0.name), "id": .integer($0.id),
                        "members": Self.json($0.members),
                    ]
                }),
            "alternatives": .list(
                alternatives.map {
                    [
                        "name": .text($0.name), "link": .text($0.link), "slaves": Self.json($0.slaves),
                        "candidates": .list(
                            $0.candidates.map {
                                [
                                    "path": .text($0.path), "priority": .integer($0.priority),
                                    "slaves": Self.json($0.slaves),
                                ]
                            }),
                    ]
                }),
            "diversions": .list(
                diversions.map {
                    .object([
                        "path": .text($0.path), "to": .text($0.to), "package": $0.package.map { .text($0) },
                    ])
                }),
        ]
    }

    private static func json(_ map: [String: String]) -> JSON { .object(map.mapValues { .text($0) }) }

    /// - Returns: nil for a text that this program did not write.
    init?(_ json: JSON) {
        guard let changes = json["changes"]?.list, let users = json["users"]?.list, let groups = json["groups"]?.list,
            let alternatives = json["alternatives"]?.list, let diversions = json["diversions"]?.list
        else { return nil }
        func text(_ json: JSON, _ key: String) -> String { json[key]?.text ?? "" }
        func map(_ json: JSON?) -> [String: String] { (json?.object ?? [:]).compactMapValues(\.text) }
        self.changes = changes.compactMap { item in
            guard let kind = Change.Kind(rawValue: text(item, "kind")) else { return nil }
            return Change(
                path: text(item, "path"), package: text(item, "package"), kind: kind,
                mode: UInt32(item["mode"]?.integer ?? 0), owner: text(item, "owner"), group: text(item, "group"),
                capabilities: item["capabilities"]?.text, target: text(item, "target"),
                digest: item["digest"]?.text.flatMap { Digest(hex: $0) }, size: item["size"]?.integer ?? 0,
                bytes: item["bytes"]?.text.map { unhex($0) })
        }
        self.users = users.map { item in
            User(
                package: text(item, "package"), name: text(item, "name"), id: item["id"]?.integer ?? 0,
                group: text(item, "group"), comment: text(item, "comment"), home: text(item, "home"),
                shell: text(item, "shell"))
        }
        self.groups = groups.map { item in
            Group(
                package: text(item, "package"), name: text(item, "name"), id: item["id"]?.integer ?? 0,
                members: map(item["members"]))
        }
        self.alternatives = alternatives.map { item in
            Effects.Alternative(
                name: text(item, "name"), link: text(item, "link"), slaves: map(item["slaves"]),
                candidates: (item["candidates"]?.list ?? []).map {
                    .init(path: text($0, "path"), priority: $0["priority"]?.integer ?? 0, slaves: map($0["slaves"]))
                })
        }
        self.diversions = diversions.map { item in
            PackageTree.Diversion(package: item["package"]?.text, path: text(item, "path"), to: text(item, "to"))
        }
    }
}
