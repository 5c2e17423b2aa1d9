import CSystem
import Digests
import Documents
import Files
import Glibc
import Processes

/// Installs packages with their maintainer scripts, inside namespaces of its own: a process that
/// ``ReferenceRoot`` starts.
///
/// The root is a file system in memory. The scripts see neither the network nor the host's files,
/// devices and processes.
public struct ReferenceInstallation {
    /// What is installed, written as a file for the process.
    struct Specification {
        /// Where the root is made: an empty directory of the host.
        var root: String
        var cache: String
        /// The host's name that the scripts see: another one in each installation.
        var host: String
        var packages: [LockedPackage]
        var bootstrap: [String]
        var steps: [InstallationOrder.Step]

        var json: JSON {
            [
                "root": .text(root), "cache": .text(cache), "host": .text(host),
                "packages": .list(
                    packages.map {
                        [
                            "name": .text($0.name), "version": .text($0.version),
                            "architecture": .text($0.architecture),
                            "size": .integer($0.size), "sha256": .text($0.digest.hex), "archive": .text($0.archive),
                            "path": .text($0.path),
                        ]
                    }),
                "bootstrap": .list(bootstrap.map { .text($0) }),
                "steps": .list(
                    steps.map {
                        ["packages": .list($0.packages.map { .text($0) }), "scripted": .boolean($0.isScripted)]
                    }),
            ]
        }

        init(root: String, cache: String, host: String, packages: [LockedPackage], order: InstallationOrder) {
            self.root = root
            self.cache = cache
            self.host = host
            self.packages = packages
            bootstrap = order.bootstrap
            steps = order.steps
        }

        init(_ json: JSON) throws {
            root = json["root"]?.text ?? ""
            cache = json["cache"]?.text ?? ""
            host = json["host"]?.text ?? "reference"
            packages = (json["packages"]?.list ?? []).compactMap { item in
                guard let name = item["name"]?.text, let version = item["version"]?.text,
                    let architecture = item["architecture"]?.text, let size = item["size"]?.integer,
                    let digest = item["sha256"]?.text.flatMap({ Digest(hex: $0) }),
                    let archive = item["archive"]?.text, let path = item["path"]?.text
                else { return nil }
                return LockedPackage(
                    name: name, version: version, architecture: architecture, size: size, digest: digest,
                    archive: archive, path: path)
            }
            bootstrap = (json["bootstrap"]?.list ?? []).compactMap(\.text)
            steps = (json["steps"]?.list ?? []).map { step in
                InstallationOrder.Step(
                    packages: (step["packages"]?.list ?? []).compactMap(\.text),
                    isScripted: step["scripted"]?.boolean ?? true)
            }
            guard !root.isEmpty, !cache.isEmpty, !packages.isEmpty else {
                throw BuildFailure("the reference root's specification is damaged")
            }
        }
    }

    private let specification: Specification
    private let packages: [String: UnpackedPackage]
    /// Packages whose script also runs for triggers that others activate (deb-triggers(5)).
    private let triggered: Set<String>
    /// Who changed a path last.
    private var changedBy: [String: String] = [:]
    private var scan: TreeScan?
    private var accounts = Accounts()
    private var users: [String: InstallationObservation.User] = [:]
    private var groups: [String: InstallationObservation.Group] = [:]

    /// Seconds for one run of dpkg.
    private static let deadline = 900.0
    /// What invoke-rc.d(8) asks whether a service may be started.
    private static let policy = "/usr/sbin/policy-rc.d"
    /// Files larger than this are never effects that an image could hold.
    static let largestFile = 1 << 20
    /// What maintainer scripts may need; not what would reach beyond their root: no devices, no
    /// modules, no clock.
    private static let capabilities: UInt64 = [
        "chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap",
        "setfcap", "sys_chroot", "net_bind_service", "audit_write", "sys_nice",
    ].reduce(into: 0) { (mask: inout UInt64, name: String) in mask |= 1 << UInt64(csystem_capability(name)) }

    /// Runs in the process that ``ReferenceRoot`` starts.
    ///
    /// - Parameter path: of the specification.
    /// - Returns: the observation as a line of JSON.
    public static func run(_ path: String) throws -> String {
        let specification = try Specification(JSON.parse(try FileSystem.read(path)))
        var installation = try ReferenceInstallation(specification)
        return try installation.observe().json.line
    }

    private init(_ specification: Specification) throws {
        self.specification = specification
        let cache = Cache(root: specification.cache)
        packages = Dictionary(
            try specification.packages.map { ($0.name, try UnpackedPackage.read($0, cache: cache)) }
        ) { $1 }
        triggered = Set(
            try packages.filter { _, package in
                let text = String(decoding: try package.control["triggers"]?.read() ?? [], as: UTF8.self)
                return text.split(separator: "\n").contains { $0.hasPrefix("interest") }
            }.keys)
    }

    private mutating func observe() throws -> InstallationObservation {
        try prepareRoot()
        try bootstrap()
        // The order satisfies all dependencies but those on packages that are not installed, and
        // those within a step.
        for step in specification.steps {
            try dpkg(["--force-depends", "--install"] + step.packages.map(deb), packages: step.packages)
            try note(step.packages)
        }
        try dpkg(["--triggers-only", "--pending"], packages: ["triggers"])
        try note([specification.bootstrap.last ?? "dpkg"])
        return try compare()
    }

    // MARK: - The root

    /// Mounts an empty root and moves into it; then writes the bootstrap's files. Nothing of the
    /// host is reachable when the first of them is written, wherever a package's links lead.
    private func prepareRoot() throws {
        // In memory before the cache is out of reach.
        let files = try specification.bootstrap.compactMap { packages[$0] }.flatMap(\.entries).map { item in
            guard case .file(let content) = item.entry.kind else { return (item, [UInt8]()) }
            return (item, try content.read())
        }
        do {
            try enterRoot()
        } catch let error as SystemError {
            throw BuildFailure("\(Self.impossible): \(error)")
        }
        for (item, bytes) in files { try extract(item, bytes) }
        for name in ["var/lib/dpkg/info", "var/lib/dpkg/updates", "root", "usr/sbin", "etc", "run"] {
            try FileSystem.makeDirectory("/\(name)")
        }
        try Self.check(chmod("/root", 0o700), "chmod", "/root")
        for name in ["status", "available"] { try FileSystem.replace("/var/lib/dpkg/\(name)", with: "") }
        // invoke-rc.d(8) asks it: nothing is started.
        try FileSystem.replace(Self.policy, with: "#!/bin/sh\nexit 101\n", mode: 0o755)
        let name = specification.host
        try FileSystem.replace("/etc/hostname", with: "\(name)\n")
        try FileSystem.replace("/etc/hosts", with: "127.0.0.1 localhost \(name)\n::1 localhost\n")
        try FileSystem.replace("/etc/fstab", with: "")
        do {
            try Self.check(mount("/.vcpe/proc", "/proc", nil, UInt(MS_MOVE), nil), "mount", "/proc")
            try Self.check(csystem_drop_capabilities(Self.capabilities), "PR_CAPBSET_DROP", "/")
        } catch {
            throw BuildFailure("\(Self.impossible): \(error)")
        }
    }

    /// What the error begins with where namespaces lack a right.
    static let impossible = "the reference root can't be made"

    private static func check(_ result: Int32, _ call: String, _ path: String) throws(SystemError) {
        if result != 0 { throw SystemError(call, path) }
    }

    private func enterRoot() throws {
        let root = specification.root
        umask(0o022)
        try Self.check(mount("tmpfs", root, "tmpfs", 0, "mode=0755,size=75%,nr_inodes=0"), "mount", root)
        for name in ["proc", "sys", "dev", "tmp", ".vcpe/debs", ".vcpe/old", ".vcpe/proc"] {
            try FileSystem.makeDirectory("\(root)/\(name)")
        }
        try Self.check(chmod("\(root)/tmp", 0o1777), "chmod", "\(root)/tmp")
        _ = sethostname(specification.host, specification.host.utf8.count)
        csystem_loopback_up()
        try Self.check(
            mount("tmpfs", "\(root)/dev", "tmpfs", UInt(MS_NOSUID | MS_NOEXEC), "mode=0755,size=64m"), "mount", "/dev")
        for name in ["null", "zero", "full", "random", "urandom", "tty"] {
            // A namespace without privilege can't make device nodes, and these six do no harm.
            let target = "\(root)/dev/\(name)"
            _ = try File(target, O_WRONLY | O_CREAT, mode: 0o666)
            try Self.check(mount("/dev/\(name)", target, nil, UInt(MS_BIND), nil), "mount", target)
        }
        for (name, target) in [
            ("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0"), ("stdout", "/proc/self/fd/1"),
            ("stderr", "/proc/self/fd/2"), ("ptmx", "pts/ptmx"),
        ] {
            _ = symlink(target, "\(root)/dev/\(name)")
        }
        try FileSystem.makeDirectory("\(root)/dev/shm")
        try Self.check(chmod("\(root)/dev/shm", 0o1777), "chmod", "/dev/shm")
        try FileSystem.makeDirectory("\(root)/dev/pts")
        // Some containers refuse it; few scripts need a terminal.
        _ = mount("devpts", "\(root)/dev/pts", "devpts", UInt(MS_NOSUID | MS_NOEXEC), "newinstance,ptmxmode=0666")
        // While the host's is still there: a user namespace may mount no proc that shows more than
        // one it sees. Read-only: as root a script could set the host's kernel parameters there.
        try Self.check(
            mount("proc", "\(root)/.vcpe/proc", "proc", UInt(MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY), nil),
            "mount", "/proc")
        let debs = "\(specification.cache)/debs"
        try Self.check(mount(debs, "\(root)/.vcpe/debs", nil, UInt(MS_BIND), nil), "mount", debs)
        // A user namespace may not clear flags that the host's mount has: with and without its
        // usual one.
        let safe = MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC
        if mount(nil, "\(root)/.vcpe/debs", nil, UInt(safe), nil) != 0 {
            try Self.check(
                mount(nil, "\(root)/.vcpe/debs", nil, UInt(safe | MS_NOATIME), nil), "mount (read-only)", debs)
        }
        try Self.check(csystem_pivot_root(root, "\(root)/.vcpe/old"), "pivot_root", root)
        try Self.check(chdir("/"), "chdir", "/")
        try Self.check(umount2("/.vcpe/old", Int32(MNT_DETACH)), "umount2", "/.vcpe/old")
    }

    /// Writes an entry of a package, with the bytes of a file.
    private func extract(_ item: UnpackedPackage.Entry, _ bytes: [UInt8]) throws {
        let path = "/\(PackageTree.canonical(item.path))"
        let entry = item.entry
        if PackageTree.merged.contains(item.path), entry.kind == .directory { return }
        if let parent = FileSystem.parent(of: path) { try FileSystem.makeDirectory(parent) }
        switch entry.kind {
        case .directory: try FileSystem.makeDirectory(path)
        case .file: try FileSystem.replace(path, with: bytes, mode: 0o600)
        case .symbolicLink(let target):
            guard symlink(target, path) == 0 || errno == EEXIST else { throw SystemError("symlink", path) }
            return
        case .hardLink(let target):
            guard link("/\(PackageTree.canonical(target))", path) == 0 || errno == EEXIST else {
                throw SystemError("link", path)
            }
        }
        guard lchown(path, entry.uid, entry.gid) == 0 else { throw SystemError("lchown", path) }
        guard chmod(path, entry.mode) == 0 else { throw SystemError("chmod", path) }
    }

    // MARK: - Installing

    /// Essential packages need each other's programs for their scripts: all files first, then all
    /// scripts.
    private mutating func bootstrap() throws {
        scan = try TreeScan(root: "/")
        let names = specification.bootstrap
        try dpkg(["--force-depends", "--unpack"] + names.map(deb), packages: names)
        try note(names)
        for name in names { try configure(name) }
    }

    private mutating func configure(_ name: String) throws {
        try dpkg(["--force-depends", "--configure", name], packages: [name])
        try note([name])
    }

    private func deb(_ name: String) -> String {
        "/.vcpe/debs/" + (packages[name].map { "\($0.package.digest.hex).deb" } ?? name)
    }

    private func dpkg(_ arguments: [String], packages: [String]) throws {
        let environment = [
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root",
            "DEBIAN_FRONTEND": "noninteractive", "DEBCONF_NONINTERACTIVE_SEEN": "true", "LC_ALL": "C.UTF-8",
            "SHELL": "/bin/sh", "LOGNAME": "root", "USER": "root",
        ]
        let options = [
            "--force-unsafe-io", "--force-confnew", "--log=/dev/null", "--force-remove-essential",
        ]
        let result: Command.Result
        do {
            result = try Command("/usr/bin/dpkg", options + arguments, environment: environment).begin()
                .finish(deadline: Self.deadline, limit: 64 << 20)
        } catch let overrun as Command.Overrun {
            throw BuildFailure(
                "\(packages.joined(separator: ", ")): the maintainer scripts do not end in the reference root: \(overrun)",
                hint: "a script may have started a daemon, or wait for a service; take the package out of packages:")
        }
        guard result.status == 0 else {
            let lines = (result.text + result.errorText).split(separator: "\n").suffix(12)
            throw BuildFailure(
                "\(packages.joined(separator: ", ")): the maintainer scripts failed in the reference root "
                    + "(dpkg exited with \(result.status)):\n  \(lines.joined(separator: "\n  "))",
                hint: "take the package out of packages:, or fix its script in an own .deb (debs:)")
        }
    }

    /// Notes what changed since the last time as the work of `names`.
    private mutating func note(_ names: [String]) throws {
        let now = try TreeScan(root: "/")
        if let before = scan {
            // Without a script in the step, a trigger of an earlier package did it: image packages
            // first.
            let author =
                names.first { packages[$0]?.control["postinst"] != nil }
                ?? names.first { !Resolver.replaced.contains($0) } ?? names[0]
            for path in now.differences(from: before) {
                // What a trigger does again is its own package's, whichever package's step runs it.
                if let earlier = changedBy[path], triggered.contains(earlier), !names.contains(earlier) { continue }
                changedBy[path] = author
            }
        }
        scan = now
        let read = Accounts.read()
        let author = names.first { packages[$0]?.control["postinst"] != nil || packages[$0]?.control["preinst"] != nil }
        for (name, user) in read.users where accounts.users[name] != user {
            users[name] = InstallationObservation.User(
                package: author ?? names[0], name: name, id: user.uid, group: read.name(ofGroup: user.gid),
                comment: user.comment, home: user.home, shell: user.shell)
        }
        for (name, group) in read.groups where accounts.groups[name] != group {
            let author = author ?? names[0]
            var known =
                groups[name] ?? InstallationObservation.Group(package: author, name: name, id: group.gid, members: [:])
            known.id = group.gid
            known.members = known.members.filter { group.members.contains($0.key) }
            // The package that adds a member need not be the one that made the group.
            for member in group.members where known.members[member] == nil { known.members[member] = author }
            groups[name] = known
        }
        accounts = read
    }

    // MARK: - Comparing

    private func compare() throws -> InstallationObservation {
        try FileSystem.remove(Self.policy)
        var observation = InstallationObservation()
        observation.diversions = DpkgDatabase.diversions()
        observation.alternatives = DpkgDatabase.alternatives()
        observation.users = users.values.filter { accounts.users[$0.name] != nil }.sorted { $0.name < $1.name }
        observation.groups = groups.values.filter { accounts.groups[$0.name] != nil }.sorted { $0.name < $1.name }
        let expected = try PackageTree(Array(packages.values), diversions: observation.diversions).tree
        let now = try TreeScan(root: "/")
        for (path, entry) in now.entries
        where !IgnoredEffects.contains(path, isDirectory: entry.mode & S_IFMT == S_IFDIR) {
            if let change = try change(path, entry, expected) { observation.changes.append(change) }
        }
        for (path, entry) in expected.entries where now.entries[path] == nil && !IgnoredEffects.contains(path) {
            if isUnread(path) { continue }
            observation.changes.append(
                .init(path: path, package: changedBy[path] ?? entry.origin, kind: .removed))
        }
        observation.changes.sort { $0.path < $1.path }
        return observation
    }

    private func isUnread(_ path: String) -> Bool {
        var above = FileSystem.parent(of: path)
        while let parent = above {
            if IgnoredEffects.isUnread(parent) { return true }
            above = FileSystem.parent(of: parent)
        }
        return false
    }

    /// How a path differs from what its package has there; nil when it doesn't.
    private func change(_ path: String, _ entry: TreeScan.Entry, _ expected: Tree) throws -> InstallationObservation
        .Change?
    {
        let packaged = expected[path]
        var change = InstallationObservation.Change(
            path: path, package: changedBy[path] ?? packaged?.origin ?? specification.bootstrap.first ?? "",
            kind: .special, mode: entry.mode & 0o7777, owner: accounts.name(ofUser: Int(entry.uid)),
            group: accounts.name(ofGroup: Int(entry.gid)))
        switch entry.mode & S_IFMT {
        case S_IFLNK:
            change.kind = .link
            change.target = try FileSystem.linkTarget("/" + path)
            if case .symbolicLink(let target)? = packaged?.kind, target == change.target { return nil }
            return change
        case S_IFDIR:
            change.kind = .directory
            // A package's directory below a link that another package has is that link's target.
            let isPackaged = packaged.map { $0.kind == .directory } ?? false
            let isSame = packaged.map { $0.mode == change.mode && $0.uid == entry.uid && $0.gid == entry.gid } ?? false
            if isPackaged, isSame { return nil }
            if isPackaged { change.kind = .attributes }
            return change
        case S_IFREG:
            change.kind = .file
            change.size = entry.size
            var value = [UInt8](repeating: 0, count: 64)
            let count = csystem_get_attribute("/" + path, FileCapabilities.attribute, &value, value.count)
            if count > 0 {
                change.capabilities = FileCapabilities.decode(Array(value.prefix(count))) ?? FileCapabilities.unknown
            }
            let content = content(packaged, expected)
            let bytes = try File("/" + path).readAll()
            change.digest = SHA256.hash(bytes)
            if let content, content.digest == change.digest {
                let owner = packaged.map { ($0.mode, $0.uid, $0.gid) }
                let attribute = packaged?.attributes[FileCapabilities.attribute].flatMap { FileCapabilities.decode($0) }
                if let owner, owner == (change.mode, entry.uid, entry.gid), attribute == change.capabilities {
                    return nil
                }
                change.kind = .attributes
                return change
            }
            if bytes.count <= Self.largestFile { change.bytes = bytes }
            return change
        default: return change
        }
    }

    private func content(_ entry: TreeEntry?, _ tree: Tree) -> Content? {
        switch entry?.kind {
        case .file(let content)?: return content
        case .hardLink(let target)?:
            if case .file(let content)? = tree[target]?.kind { return content }
            return nil
        default: return nil
        }
    }
}
