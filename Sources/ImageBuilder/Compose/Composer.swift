import Documents
import Files
import Planning

/// Lays packages, kernel, users, files and services together into one tree.
public struct Composer {
    /// The origin of what the builder itself puts into a tree.
    static let origin = "(vcpe)"
    /// The origin of what the definition puts into a tree.
    static let definitionOrigin = "(definition)"

    /// The composed root and what a person should know of it.
    public struct Result: Sendable {
        public var tree = Tree()
        /// Lines of maintainer scripts that nobody vouches for, by package.
        public var unknownScripts: [String: [String]] = [:]
        /// Bytes that packages hold and the image doesn't, by the folder that was left out.
        public var stripped: [String: Int] = [:]
        public var kernel = Kernel()
        /// Further remarks, one line each.
        public var remarks: [String] = []
    }

    /// Left out of every image: nothing on the box reads it.
    static let unwanted = [
        "usr/share/doc/", "usr/share/man/", "usr/share/info/", "usr/share/locale/", "usr/share/lintian/",
        "usr/share/bash-completion/", "usr/share/zsh/", "usr/share/fish/", "usr/share/doc-base/", "usr/share/bug/",
        "usr/share/menu/", "usr/share/pixmaps/", "usr/share/icons/", "usr/share/applications/", "usr/share/gtk-doc/",
        "usr/share/initramfs-tools/", "usr/share/debconf/", "usr/share/perl5/", "usr/share/polkit-1/",
        "usr/share/common-licenses/", "usr/share/apport/", "usr/share/metainfo/", "usr/share/base-files/",
        "usr/share/reportbug/", "usr/share/pam-configs/", "usr/share/base-passwd/", "usr/lib/systemd/",
        "usr/lib/sysusers.d/", "usr/lib/tmpfiles.d/", "usr/lib/udev/", "usr/lib/dracut/", "usr/lib/valgrind/",
        "usr/lib/debug/", "usr/lib/modules-load.d/", "usr/lib/apt/", "usr/lib/dpkg/", "usr/include/",
        "usr/lib/x86_64-linux-gnu/pkgconfig/", "usr/lib/x86_64-linux-gnu/gconv/", "etc/init.d/", "etc/rc", "etc/cron",
        "etc/logrotate.d/",
        "etc/apparmor.d/", "etc/bash_completion.d/", "etc/kernel/", "etc/initramfs-tools/", "etc/apt/", "etc/dpkg/",
        "etc/default/", "etc/ufw/", "etc/init/", "etc/systemd/", "etc/insserv/", "etc/ppp/ip-", "etc/resolvconf/",
        "etc/network/", "etc/dhcp/", "etc/update-motd.d/", "var/", "boot/", "run/", "tmp/", "dev/", "proc/", "sys/",
    ]

    /// Links of the merged /usr: a package that still writes below one of these means the folder in /usr.
    private static let merged = ["bin", "sbin", "lib", "lib64"]

    let definition: Definition
    let profile: HardwareProfile
    let packages: [UnpackedPackage]
    let plugins: [BuiltPlugin]
    let lock: Lock
    let folder: String
    let cache: Cache

    private var result = Result()
    private var diversions: [MaintainerScripts.Diversion] = []

    public init(
        definition: Definition, profile: HardwareProfile, packages: [UnpackedPackage], plugins: [BuiltPlugin] = [],
        lock: Lock, folder: String, cache: Cache
    ) {
        self.definition = definition
        self.profile = profile
        self.packages = packages.sorted { $0.package.name < $1.package.name }
        self.plugins = plugins
        self.lock = lock
        self.folder = folder
        self.cache = cache
    }

    /// Composes the root.
    ///
    /// - Parameter box: the box's own executables by absolute path.
    public mutating func compose(box: [String: Content]) async throws -> Result {
        let scripts = try readScripts()
        diversions = scripts.diversions.map {
            MaintainerScripts.Diversion(package: $0.package, path: canonical($0.path), to: canonical($0.to))
        }
        var whole = Tree()
        for package in packages { try add(package, to: &whole) }
        var users = Users(lock: lock)
        try users.collect(from: whole, definition: definition)
        guard users.fresh.isEmpty else {
            throw BuildFailure(
                "the lock has no number for the system user \(users.fresh.joined(separator: ", "))",
                hint: "vcpe lock \(definition.name), or vcpe build --update")
        }
        strip(whole)
        try addAlternatives(scripts.alternatives)
        result.kernel = try await Kernel(profile: profile, packages: packages, cache: cache, tree: &result.tree)
        let missing = result.kernel.missingFirmware
        if !missing.isEmpty {
            result.remarks.append(
                "\(missing.count) firmware files that chosen modules may ask for are in none of the profile's packages: "
                    + missing.prefix(8).joined(separator: ", ") + (missing.count > 8 ? ", …" : ""))
        }
        try addCapabilities(scripts.capabilities)
        addSkeleton()
        users.write(to: &result.tree)
        for (path, content) in box {
            put(String(path.dropFirst()), .file(content), mode: 0o755)
        }
        try addPlugins()
        try addFiles(users)
        try addServices(users)
        checkLibraryFolders()
        return result
    }

    /// The system users that the packages and the definition declare, for the lock.
    static func users(of packages: [UnpackedPackage], definition: Definition, lock: Lock) throws -> Users {
        var tree = Tree()
        for package in packages {
            for entry in package.entries
            where entry.path.hasPrefix("usr/lib/sysusers.d/") || entry.path.hasPrefix("usr/share/base-passwd/") {
                tree[entry.path] = entry.entry
            }
        }
        var users = Users(lock: lock)
        try users.collect(from: tree, definition: definition)
        return users
    }

    private func put(_ tree: inout Tree, _ path: String, _ kind: TreeEntry.Kind, mode: UInt32) {
        tree.addParents(of: path, origin: Self.origin)
        tree[path] = TreeEntry(kind, mode: mode, origin: Self.origin)
    }

    private mutating func put(_ path: String, _ kind: TreeEntry.Kind, mode: UInt32) {
        put(&result.tree, path, kind, mode: mode)
    }

    // MARK: - Packages

    private mutating func readScripts() throws -> MaintainerScripts {
        var all = MaintainerScripts()
        for package in packages {
            var scripts = MaintainerScripts()
            for name in ["preinst", "postinst"] {
                guard let content = package.control[name] else { continue }
                scripts.read(String(decoding: try content.read(), as: UTF8.self), package: package.package.name)
            }
            all.alternatives += scripts.alternatives
            all.diversions += scripts.diversions
            all.capabilities += scripts.capabilities
            if !scripts.unknown.isEmpty { result.unknownScripts[package.package.name] = scripts.unknown }
        }
        return all
    }

    /// Adds a package's files as dpkg would: two packages with one file are an error, unless one replaces the other.
    private func add(_ package: UnpackedPackage, to tree: inout Tree) throws {
        let name = package.package.name
        let replaces = package.names(in: "Replaces")
        for (path, entry) in package.entries.map({ (canonical($0.path), $0.entry) }) where !path.isEmpty {
            var entry = entry
            var path = path
            if let diversion = diversions.first(where: { $0.path == path && $0.package != name }) {
                path = diversion.to
            }
            if case .hardLink(let target) = entry.kind { entry.kind = .hardLink(path: canonical(target)) }
            // A folder where the merged link stands is the link itself.
            if Self.merged.contains(path), entry.kind == .directory { continue }
            if let there = tree[path] {
                if there.kind == .directory, entry.kind == .directory { continue }
                // A link to a folder serves where another package ships the folder.
                if entry.kind == .directory, case .symbolicLink = there.kind { continue }
                let other = packages.first { $0.package.name == there.origin }
                if other?.names(in: "Replaces").contains(name) == true { continue }
                guard replaces.contains(there.origin) else {
                    throw BuildFailure(
                        "/\(path) is in \(there.origin) and in \(name), and neither replaces the other",
                        hint: "take one of the two out of packages:")
                }
            }
            tree.addParents(of: path, origin: name)
            tree[path] = entry
        }
    }

    private func canonical(_ path: String) -> String {
        guard let slash = path.firstIndex(of: "/"), Self.merged.contains(String(path[..<slash])) else { return path }
        return "usr/" + path
    }

    /// Keeps what the box has a use for.
    private mutating func strip(_ whole: Tree) {
        for (path, entry) in whole.entries {
            let unwanted = Self.unwanted.first { path.hasPrefix($0) || path + "/" == $0 }
            // Modules and firmware are chosen by the profile.
            let chosen = ["usr/lib/modules/", "usr/lib/firmware/"].first { path.hasPrefix($0) }
            guard let reason = unwanted ?? chosen else {
                result.tree[path] = entry
                continue
            }
            if case .file(let content) = entry.kind { result.stripped[reason, default: 0] += content.count }
        }
        // Folders that stripping has emptied tell a reader nothing.
        // From the bottom up: a folder that held only empty ones is empty too.
        var filled: Set<String> = []
        for path in result.tree.sortedPaths.reversed() {
            let isEmpty = result.tree[path]?.kind == .directory && !filled.contains(path)
            if isEmpty, path.hasPrefix("usr/share/") || path.hasPrefix("usr/lib/") {
                result.tree[path] = nil
            } else if let parent = FileSystem.parent(of: path) {
                filled.insert(parent)
            }
        }
        for (path, entry) in result.tree.entries {
            if case .hardLink(let target) = entry.kind, result.tree[target] == nil, let file = whole[target] {
                result.tree[path] = file
            }
        }
    }

    private mutating func addAlternatives(_ alternatives: [MaintainerScripts.Alternative]) throws {
        var best: [String: MaintainerScripts.Alternative] = [:]
        for alternative in alternatives where result.tree[canonical(String(alternative.path.dropFirst()))] != nil {
            if let other = best[alternative.name], other.priority >= alternative.priority { continue }
            best[alternative.name] = alternative
        }
        for (name, alternative) in best.sorted(by: { $0.key < $1.key }) {
            let link = canonical(String(alternative.link.dropFirst()))
            if result.tree[link] != nil { continue }
            put("etc/alternatives/\(name)", .symbolicLink(target: alternative.path), mode: 0o777)
            put(link, .symbolicLink(target: "/etc/alternatives/\(name)"), mode: 0o777)
        }
    }

    private mutating func addCapabilities(_ capabilities: [MaintainerScripts.Capability]) throws {
        for capability in capabilities {
            let path = canonical(String(capability.path.dropFirst()))
            guard result.tree[path] != nil else { continue }
            guard let value = FileCapabilities.encode(capability.capabilities) else {
                result.remarks.append("\(capability.path): the capabilities \(capability.capabilities) are not known")
                continue
            }
            result.tree[path]?.attributes[FileCapabilities.attribute] = value
        }
    }

    // MARK: - What the builder adds

    private mutating func addSkeleton() {
        for name in ["dev", "proc", "sys", "run", "data", "mnt", "root", "var", "etc", "boot"] {
            if result.tree[name] == nil { put(name, .directory, mode: name == "root" ? 0o700 : 0o755) }
        }
        put("tmp", .directory, mode: 0o1777)
        for name in Self.merged where result.tree[name] == nil {
            if result.tree["usr/" + name] != nil { put(name, .symbolicLink(target: "usr/" + name), mode: 0o777) }
        }
        let links = [
            "etc/resolv.conf": plugins.isEmpty ? "/run/vcpe/resolv.conf" : "/run/vcpe/network/resolv.conf",
            "etc/mtab": "/proc/self/mounts",
            "etc/machine-id": "/run/vcpe/machine-id", "etc/hostname": "/run/vcpe/hostname",
            "usr/sbin/init": "../lib/vcpe/vcpe-init", "usr/lib/vcpe/modprobe": "vcpe-init",
            "usr/sbin/poweroff": "../lib/vcpe/vcpe-init", "usr/sbin/reboot": "../lib/vcpe/vcpe-init",
        ]
        for (path, target) in links { put(path, .symbolicLink(target: target), mode: 0o777) }
        put("etc/hosts", .file(Content("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n")), mode: 0o644)
        if definition.debug, result.tree["usr/bin/sh"] == nil {
            put("usr/bin/sh", .symbolicLink(target: "busybox"), mode: 0o777)
        }
        let release = """
            PRETTY_NAME="\(definition.name) \(definition.version)"
            NAME="vcpe"
            ID=vcpe
            ID_LIKE=debian
            VERSION_ID="\(definition.version)"
            VERSION_CODENAME=\(definition.base.suite)
            IMAGE_ID=\(definition.name)
            IMAGE_VERSION=\(definition.version)

            """
        put("usr/lib/os-release", .file(Content(release)), mode: 0o644)
        put("etc/os-release", .symbolicLink(target: "../usr/lib/os-release"), mode: 0o777)
        put(
            "usr/lib/vcpe/image",
            .file(
                Content(
                    "name \(definition.name)\nversion \(definition.version)\nprofile \(profile.name)\n"
                        + "debug \(definition.debug ? "yes" : "no")\n")), mode: 0o644)
    }

    /// The engine, the operator's command and the plugins, which are one executable by several names; the factory site.
    private mutating func addPlugins() throws {
        if plugins.isEmpty { return }
        let links = [
            "usr/lib/vcpe/vcpe-engine": "vcpe-box", "usr/lib/vcpe/report-lease": "vcpe-box",
            "usr/bin/vcpectl": "../lib/vcpe/vcpe-box",
        ]
        for (path, target) in links { put(path, .symbolicLink(target: target), mode: 0o777) }
        for plugin in plugins {
            let place = "usr/lib/vcpe/plugins/\(plugin.manifest.name)"
            put("\(place)/\(plugin.manifest.name)", .symbolicLink(target: "../../vcpe-box"), mode: 0o777)
            for file in plugin.files { put("\(place)/\(file.name)", .file(Content(file.bytes)), mode: 0o644) }
        }
        let modules = plugins.flatMap(\.modules).map(\.value).filter { !$0.hasSuffix("/") }
        put(
            "usr/lib/vcpe/modules-load",
            .file(Content(Set(modules).sorted().map { $0 + "\n" }.joined())), mode: 0o644)
        put("usr/lib/vcpe/units/engine", .file(Content(Self.engineUnit)), mode: 0o644)
        guard let site = definition.site else { return }
        do {
            let bytes = try FileSystem.read(try resolve(site))
            put("usr/lib/vcpe/site.yaml", .file(Content(bytes)), mode: 0o644)
        } catch let error as SystemError {
            throw InvalidDocument([site.problem("\(error)", hint: "the path is relative to \(folder)")])
        }
    }

    /// As `docs/init.md` has unit files.
    private static let engineUnit = """
        command /usr/lib/vcpe/vcpe-engine
        restart always
        ready notify
        watchdog 120
        essential
        oom-score-adjust -500

        """

    private mutating func addFiles(_ users: Users) throws {
        for (path, rule) in definition.files.sorted(by: { $0.key < $1.key }) {
            let target = canonical(String(path.dropFirst()))
            guard let uid = users.uid(rule.value.owner), let gid = users.gid(rule.value.group) else {
                throw rule.failing("there is no user or group \(rule.value.owner):\(rule.value.group) in the image")
            }
            // A link on the way would put the file elsewhere, or nowhere.
            var above = FileSystem.parent(of: target)
            while let parent = above {
                if let entry = result.tree[parent], entry.kind != .directory {
                    throw rule.failing("/\(parent) is no folder: \(entry.origin) has a file or a link there")
                }
                above = FileSystem.parent(of: parent)
            }
            let kind: TreeEntry.Kind
            var mode: UInt32 = 0o644
            switch rule.value.source {
            case .absent:
                for below in result.tree.entries.keys where below == target || below.hasPrefix(target + "/") {
                    result.tree[below] = nil
                }
                continue
            case .directory: (kind, mode) = (.directory, 0o755)
            case .link(let to): (kind, mode) = (.symbolicLink(target: to), 0o777)
            case .content(let text): kind = .file(Content(text))
            case .path(let source):
                do {
                    kind = .file(Content(try FileSystem.read(try resolve(source))))
                } catch let error as SystemError {
                    throw InvalidDocument([source.problem("\(error)", hint: "the path is relative to \(folder)")])
                }
            }
            var entry = TreeEntry(
                kind, mode: rule.value.mode ?? mode, uid: uid, gid: gid, origin: Self.definitionOrigin)
            if let text = rule.value.capabilities {
                guard let value = FileCapabilities.encode(text) else {
                    throw rule.failing("the capabilities \"\(text)\" are not known")
                }
                entry.attributes[FileCapabilities.attribute] = value
            }
            result.tree.addParents(of: target, origin: Self.definitionOrigin)
            result.tree[target] = entry
        }
    }

    /// A source must lie below the definition's folder: what is built is what was committed.
    private func resolve(_ source: Located<String>) throws -> String {
        let escapes = source.value.hasPrefix("/") || source.value.split(separator: "/").contains("..")
        if escapes {
            throw InvalidDocument([
                source.problem(
                    "\"\(source.value)\" leads out of the definition's folder",
                    hint: "allowed is a path below \(folder), without \"..\"")
            ])
        }
        let path = "\(folder)/\(source.value)"
        // A link on the way may lead out as well.
        if let real = try? FileSystem.realPath(path), !real.hasPrefix(try FileSystem.realPath(folder) + "/") {
            throw InvalidDocument([
                source.problem("\"\(source.value)\" is or crosses a link out of the definition's folder")
            ])
        }
        return path
    }

    /// Unit files, as vcpe-init reads them: a word, a blank, the rest of the line.
    private mutating func addServices(_ users: Users) throws {
        for (name, service) in definition.services.sorted(by: { $0.key < $1.key }) where service.enabled {
            guard let uid = users.uid(service.user),
                let gid = service.group.map({ users.gid($0) })
                    ?? users.users[service.user].map({ UInt32($0.gid) }) ?? uid
            else {
                throw BuildFailure("services.\(name): there is no user \(service.user) or group in the image")
            }
            let program = canonical(String((service.command.first ?? "/").dropFirst()))
            guard result.tree[program] != nil else {
                throw BuildFailure(
                    "services.\(name): there is no \(service.command.first ?? "") in the image",
                    hint: "add the package that brings it to packages:")
            }
            var lines = ["command \(service.command.map(UnitWords.quoted).joined(separator: " "))"]
            lines += ["user \(uid)", "group \(gid)", "restart \(service.restart.rawValue)"]
            lines += service.environment.sorted { $0.key < $1.key }.map { "environment \($0.key)=\($0.value)" }
            lines += service.directories.map { "directory \($0)" }
            put(
                "usr/lib/vcpe/units/\(name)", .file(Content(lines.joined(separator: "\n") + "\n")), mode: 0o644)
        }
    }

    /// ld.so finds Debian's own folders without a cache; others would need one, which is said.
    private mutating func checkLibraryFolders() {
        let usual = [
            "/usr/local/lib", "/usr/local/lib/x86_64-linux-gnu", "/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu",
        ]
        for path in result.tree.sortedPaths where path.hasPrefix("etc/ld.so.conf.d/") {
            guard case .file(let content)? = result.tree[path]?.kind, let bytes = try? content.read() else { continue }
            for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n")
            where line.hasPrefix("/") && !usual.contains(String(line)) {
                result.remarks.append("/\(path) names \(line), which is found only by ldconfig's cache: there is none")
            }
        }
    }
}
