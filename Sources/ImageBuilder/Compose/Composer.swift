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
        "usr/share/reportbug/", "usr/share/pam-configs/", "usr/lib32/", "etc/sv/", "usr/share/base-passwd/",
        "usr/lib/systemd/",
        "usr/lib/sysusers.d/", "usr/lib/tmpfiles.d/", "usr/lib/udev/", "usr/lib/dracut/", "usr/lib/valgrind/",
        "usr/lib/debug/", "usr/lib/modules-load.d/", "usr/lib/apt/", "usr/lib/dpkg/", "usr/include/",
        "usr/lib/x86_64-linux-gnu/pkgconfig/", "usr/lib/x86_64-linux-gnu/gconv/", "etc/init.d/", "etc/rc", "etc/cron",
        "etc/logrotate.d/",
        "etc/apparmor.d/", "etc/bash_completion.d/", "etc/kernel/", "etc/initramfs-tools/", "etc/apt/", "etc/dpkg/",
        "etc/default/", "etc/ufw/", "etc/init/", "etc/systemd/", "etc/insserv/", "etc/ppp/ip-", "etc/resolvconf/",
        "etc/network/", "etc/dhcp/", "etc/update-motd.d/", "var/", "boot/", "run/", "tmp/", "dev/", "proc/", "sys/",
    ]

    /// Links of the merged /usr: a package that still writes below one of these means the folder in /usr.
    static let merged = ["bin", "sbin", "lib", "lib64"]

    let definition: Definition
    let profile: HardwareProfile
    let packages: [UnpackedPackage]
    let plugins: [BuiltPlugin]
    let lock: Lock
    let folder: String
    let cache: Cache

    var result = Result()
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

    mutating func put(_ path: String, _ kind: TreeEntry.Kind, mode: UInt32) {
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

    func canonical(_ path: String) -> String {
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
