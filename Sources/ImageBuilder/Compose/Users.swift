import Digests
import Files
import PluginKit

/// The users and groups of an image: Debian's fixed ones (base-passwd), those that packages'
/// scripts made, those of sysusers.d(5), those of the definition.
struct Users {
    struct User: Hashable {
        var uid: Int
        var gid: Int
        var comment: String
        var home: String
        var shell: String
    }

    private(set) var users: [String: User] = [:]
    private(set) var groups: [String: Int] = [:]
    private var members: [String: Set<String>] = [:]

    /// Numbers given to names that have none of their own, from the lock or new.
    private(set) var allocatedUsers: [String: Int]
    private(set) var allocatedGroups: [String: Int]
    /// Names that had no number in the lock.
    private(set) var fresh: [String] = []

    /// System users are numbered from here up (Debian Policy 9.2.2).
    private static let range = 100...999

    init(lock: Lock) {
        allocatedUsers = lock.users
        allocatedGroups = lock.groups
    }

    /// Reads all that a tree declares.
    ///
    /// - Parameter effects: those of the packages that the tree is made of.
    mutating func collect(from tree: Tree, effects: [PackageEffect], definition: Definition) throws {
        for line in try lines("usr/share/base-passwd/group.master", in: tree) {
            let fields = line.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
            if fields.count >= 3, let gid = Int(fields[2]) { groups[fields[0]] = gid }
        }
        for line in try lines("usr/share/base-passwd/passwd.master", in: tree) {
            let fields = line.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
            guard fields.count == 7, let uid = Int(fields[2]), let gid = Int(fields[3]) else { continue }
            users[fields[0]] = User(uid: uid, gid: gid, comment: fields[4], home: fields[5], shell: fields[6])
        }
        if users["root"] == nil {
            users["root"] = User(uid: 0, gid: 0, comment: "root", home: "/root", shell: "/bin/sh")
            groups["root"] = 0
        }
        users["root"]?.shell = tree["usr/bin/bash"] == nil ? "/bin/sh" : "/bin/bash"
        // The engine tells by these groups which role a user has.
        for role in Role.allCases where !definition.plugins.isEmpty { groups[role.group.name] = role.group.number }
        if !definition.plugins.isEmpty {
            let number = ProgramUser.number
            groups[ProgramUser.name] = number
            users[ProgramUser.name] = User(
                uid: number, gid: number, comment: "", home: "/nonexistent", shell: "/usr/sbin/nologin")
        }
        try apply(effects)
        try apply(SystemUsers(tree))
        // A missing unit is an error of the composition.
        for (_, service) in try Composer.unitServices(of: definition, in: SystemdUnits(tree), further: nil).sorted(by: {
            $0.key < $1.key
        }) {
            // The user of a service with `DynamicUser=`, which systemd makes when the service
            // starts.
            let (unit, user) = (service.unit, service.user)
            guard unit.isTrue("DynamicUser"), users[user] == nil, Int(user) == nil else { continue }
            try add(user, id: nil, group: nil, comment: unit.name, home: "/", shell: "/usr/sbin/nologin")
        }
        for (name, home) in definition.users.sorted(by: { $0.key < $1.key }) where users[name] == nil {
            try add(
                name, id: nil, group: nil, comment: "", home: home, shell: "/usr/sbin/nologin")
        }
    }

    /// Groups first: a user names its own.
    private mutating func apply(_ effects: [PackageEffect]) throws {
        for case .group(let name, let id) in effects where groups[name] == nil {
            groups[name] = try id ?? number(name, group: true)
        }
        for case .user(let name, let id, let group, let comment, let home, let shell) in effects {
            guard var known = users[name] else {
                try add(name, id: id, group: group, comment: comment, home: home, shell: shell)
                continue
            }
            // One of base-passwd's, changed by a script.
            known.comment = comment
            known.home = home
            known.shell = shell
            users[name] = known
        }
        for case .member(let user, let group) in effects {
            if groups[group] == nil { groups[group] = try number(group, group: true) }
            members[group, default: []].insert(user)
        }
    }

    private mutating func apply(_ declared: SystemUsers) throws {
        for group in declared.groups where groups[group.name] == nil {
            let id = try group.id ?? number(group.name, group: true)
            try checkFree(id, of: group.name, among: groups, "group")
            groups[group.name] = id
        }
        for user in declared.users where users[user.name] == nil {
            try add(
                user.name, id: user.id, group: user.group, comment: user.comment, home: user.home, shell: user.shell)
        }
        for (user, group) in declared.members {
            if groups[group] == nil { groups[group] = try number(group, group: true) }
            // sysusers.d(5): a line m makes what it names.
            if users[user] == nil {
                try add(user, id: nil, group: nil, comment: "", home: "/", shell: "/usr/sbin/nologin")
            }
            members[group, default: []].insert(user)
        }
    }

    /// - Throws: for a fixed number that another name has.
    private func checkFree(_ id: Int, of name: String, among others: [String: Int], _ kind: String) throws {
        let twins = others.filter { $0.value == id && $0.key != name }.keys.sorted()
        guard let other = twins.first else { return }
        throw BuildFailure(
            "the \(kind)s \(name) and \(other) have the same number \(id)",
            hint: "give one of them another number: sysusers.d(5), or the lock's for a name without a fixed one")
    }

    private func lines(_ path: String, in tree: Tree) throws -> [String] {
        guard case .file(let content)? = tree[path]?.kind else { return [] }
        return String(decoding: try content.read(), as: UTF8.self).split(separator: "\n").map(String.init).filter {
            !$0.isEmpty && !$0.hasPrefix("#")
        }
    }

    /// - Parameter group: of the user; one of its own name when nil.
    private mutating func add(
        _ name: String, id: Int?, group: String?, comment: String, home: String, shell: String
    ) throws {
        let uid = try id ?? number(name, group: false)
        try checkFree(uid, of: name, among: users.mapValues(\.uid), "user")
        let gid: Int
        if let group, let known = groups[group] ?? Int(group) {
            gid = known
        } else {
            let group = group ?? name
            // The user's number, unless another group has it: as systemd-sysusers does.
            let twin = group == name && !groups.values.contains { $0 == id } ? id : nil
            gid = try groups[group] ?? twin ?? number(group, group: true)
            groups[group] = gid
        }
        users[name] = User(uid: uid, gid: gid, comment: comment, home: home, shell: shell)
    }

    private mutating func number(_ name: String, group: Bool) throws -> Int {
        if let id = (group ? allocatedGroups : allocatedUsers)[name] { return id }
        // A name's user and group share a number, and neither takes one that any name ever had.
        let taken = Set(allocatedUsers.values).union(allocatedGroups.values).union(groups.values).union(
            users.values.map(\.uid))
        let twin = (group ? allocatedUsers : allocatedGroups)[name]
        guard let id = twin ?? Self.range.first(where: { !taken.contains($0) }) else {
            throw BuildFailure(
                "there is no number left for the system user \(name) in \(Self.range)",
                hint: "a lock keeps the number of every user that an image had: remove its `users` and lock again")
        }
        if group { allocatedGroups[name] = id } else { allocatedUsers[name] = id }
        if !fresh.contains(name) { fresh.append(name) }
        return id
    }

    /// Adds /etc/passwd, group, shadow and gshadow. No password fits: nobody logs in by one.
    func write(to tree: inout Tree) {
        let sorted = users.sorted { ($0.value.uid, $0.key) < ($1.value.uid, $1.key) }
        let groups = groups.sorted { ($0.value, $0.key) < ($1.value, $1.key) }
        func members(_ group: String) -> String {
            (self.members[group] ?? []).filter { users[$0] != nil }.sorted().joined(separator: ",")
        }
        let files: [(String, UInt32, [String])] = [
            (
                "passwd", 0o644,
                sorted.map {
                    "\($0.key):x:\($0.value.uid):\($0.value.gid):\($0.value.comment):\($0.value.home):\($0.value.shell)"
                }
            ),
            ("group", 0o644, groups.map { "\($0.key):x:\($0.value):\(members($0.key))" }),
            ("shadow", 0o640, sorted.map { "\($0.key):!*:::::::" }),
            ("gshadow", 0o640, groups.map { "\($0.key):!::\(members($0.key))" }),
        ]
        for (name, mode, lines) in files {
            tree["etc/\(name)"] = TreeEntry(
                .file(Content(lines.joined(separator: "\n") + "\n")), mode: mode, uid: 0,
                gid: mode == 0o640 ? gid("shadow") ?? 0 : 0, origin: Composer.origin)
        }
    }

    /// The number of a user's own group.
    func primaryGroup(of user: String) -> UInt32? { users[user].map { UInt32($0.gid) } }

    /// The numbers of the groups that a user is a member of, beside its own.
    func memberships(of user: String) -> [UInt32] {
        members.filter { $0.value.contains(user) }.compactMap { gid($0.key) }
    }

    func uid(_ name: String) -> UInt32? { UInt32(name) ?? users[name].map { UInt32($0.uid) } }
    func gid(_ name: String) -> UInt32? { UInt32(name) ?? groups[name].map { UInt32($0) } }
}
