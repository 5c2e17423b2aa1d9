import Documents
import Files
import Planning
import PluginKit

/// Lays packages, their recorded effects, kernel, users, files and services together into one tree.
public struct Composer {
    /// The origin of what the builder itself puts into a tree.
    static let origin = "(vcpe)"
    /// The origin of what the definition puts into a tree.
    static let definitionOrigin = "(definition)"

    /// What was left out of one package.
    public struct LeftOut: Sendable, Hashable {
        public var files = 0
        /// Bytes.
        public var size = 0
        /// Bytes by the pattern, or the reason, that removed them.
        public var byReason: [String: Int] = [:]
    }

    /// The composed root and what a person should know of it.
    public struct Result: Sendable {
        public var tree = Tree()
        /// By package.
        public var leftOut: [String: LeftOut] = [:]
        public var kernel = Kernel()
        /// Further remarks, one line each.
        public var remarks: [String] = []
        /// The numbers that the plugins share.
        public var allocation = Allocation()
    }

    let definition: Definition
    let profile: HardwareProfile
    let packages: [UnpackedPackage]
    let plugins: [BuiltPlugin]
    let lock: Lock
    let effects: Effects
    /// Packages that the image hasn't, for the errors of the closure: what would bring a missing
    /// file.
    let further: [UnpackedPackage]
    let folder: String
    let cache: Cache

    var result = Result()

    /// - Parameters:
    ///   - effects: recorded when the lock was made.
    ///   - further: packages of the reference root that are not in the image.
    ///   - folder: the definition's.
    public init(
        definition: Definition, profile: HardwareProfile, packages: [UnpackedPackage], plugins: [BuiltPlugin] = [],
        lock: Lock, effects: Effects = Effects(), further: [UnpackedPackage] = [], folder: String, cache: Cache
    ) {
        self.definition = definition
        self.profile = profile
        self.packages = packages.sorted { $0.package.name < $1.package.name }
        self.plugins = plugins
        self.lock = lock
        self.effects = effects
        self.further = further
        self.folder = folder
        self.cache = cache
    }

    /// Composes the root.
    ///
    /// - Parameter box: the box's own executables by absolute path.
    public mutating func compose(box: [String: Content]) async throws -> Result {
        let names = Set(packages.map(\.package.name))
        let diversions = effects.diversions.filter { $0.package.map(names.contains) ?? true }
        let packaged = try PackageTree(packages, diversions: diversions).tree
        var users = Users(lock: lock)
        try users.collect(
            from: packaged.adding(try definition.declarations(in: folder)), effects: recorded, definition: definition)
        guard users.fresh.isEmpty else {
            throw BuildFailure(
                "the lock has no number for the system user \(users.fresh.joined(separator: ", "))",
                hint: "vcpe lock \(definition.name), or vcpe build --update")
        }
        var whole = try AppliedEffects(packaged, effects, packages: names, users: users).tree
        let declared = whole.adding(try definition.declarations(in: folder))
        let units = SystemdUnits(declared)
        let unitServices = try Self.unitServices(of: definition, in: units, further: further)
        let temporary = try TemporaryFiles(
            declared, users: users,
            units: units, services: unitServices.sorted { $0.key < $1.key }.map(\.value))
        whole = temporary.result
        result.remarks += temporary.remarks
        for (path, target) in AlternativeLinks(
            effects.alternatives, isThere: { whole[PackageTree.canonical($0)] != nil }
        ).links
        where whole[path] == nil {
            whole.addParents(of: path, origin: Self.origin)
            whole[path] = TreeEntry(.symbolicLink(target: target), mode: 0o777, origin: Self.origin)
        }
        try leaveOut(whole)
        result.kernel = try await Kernel(profile: profile, packages: packages, cache: cache, tree: &result.tree)
        let missing = result.kernel.missingFirmware
        if !missing.isEmpty {
            result.remarks.append(
                "\(missing.count) firmware files that chosen modules may ask for are in none of the profile's packages: "
                    + missing.prefix(8).joined(separator: ", ") + (missing.count > 8 ? ", …" : ""))
        }
        addSkeleton()
        users.write(to: &result.tree)
        for (path, content) in box {
            put(String(path.dropFirst()), .file(content), mode: 0o755)
        }
        try addPlugins()
        try addTrees(users)
        try addFiles(users)
        try addWritable()
        try addServices(users, unitServices)
        try prune()
        try checkClosure()
        checkVolatile()
        return result
    }

    /// The effects of the image's packages, in the packages' order.
    private var recorded: [PackageEffect] { packages.flatMap { effects.packages[$0.package.name] ?? [] } }

    /// The system users that the packages and the definition declare, for the lock.
    ///
    /// - Parameter folder: the definition's.
    static func users(
        of packages: [UnpackedPackage], effects: Effects, definition: Definition, lock: Lock, folder: String
    ) throws -> Users {
        let packages = packages.sorted { $0.package.name < $1.package.name }
        let tree = try PackageTree(packages, diversions: effects.diversions).tree
            .adding(try definition.declarations(in: folder))
        var users = Users(lock: lock)
        try users.collect(
            from: tree, effects: packages.flatMap { effects.packages[$0.package.name] ?? [] }, definition: definition)
        return users
    }

    private func put(_ tree: inout Tree, _ path: String, _ kind: TreeEntry.Kind, mode: UInt32) {
        tree.addParents(of: path, origin: Self.origin)
        tree[path] = TreeEntry(kind, mode: mode, origin: Self.origin)
    }

    mutating func put(_ path: String, _ kind: TreeEntry.Kind, mode: UInt32) {
        put(&result.tree, path, kind, mode: mode)
    }

    func canonical(_ path: String) -> String { PackageTree.canonical(path) }

    // MARK: - What is left out

    /// Keeps what no drop pattern names.
    private mutating func leaveOut(_ whole: Tree) throws {
        result.tree = whole
        let keep = definition.keep.map(\.value)
        let drop = DefaultDrop.patterns + definition.drop.map(\.value)
        var used: Set<String> = []
        var dropped: Set<String> = []
        for path in whole.sortedPaths {
            // The profile chooses modules and firmware.
            let chosen = ["usr/lib/modules/", "usr/lib/firmware/"].first { path.hasPrefix($0) }
            var reason = chosen.map { "/" + $0 }
            if reason == nil, let pattern = drop.first(where: { $0.matches(path) }) {
                used.insert(pattern.text)
                if !keep.contains(where: { $0.matches(path) }) { reason = pattern.text }
            }
            guard let reason, let entry = whole[path] else { continue }
            leaveOut(path, entry, reason)
            dropped.insert(path)
        }
        for pattern in definition.drop where !used.contains(pattern.value.text) {
            result.remarks.append("\(pattern.position): drop: \(pattern.value.text) matches nothing")
        }
        removeEmptied(above: dropped)
    }

    /// Takes a path out of the result and notes it; a hard link's other names keep the file.
    mutating func leaveOut(_ path: String, _ entry: TreeEntry, _ reason: String) {
        result.tree.remove(path)
        var left = result.leftOut[entry.origin] ?? LeftOut()
        if case .file(let content) = entry.kind {
            left.files += 1
            left.size += content.count
            left.byReason[reason, default: 0] += content.count
            result.leftOut[entry.origin] = left
        }
    }

    /// Removes directories below /usr that only held what was left out; those of /var and /etc
    /// remain for daemons.
    mutating func removeEmptied(above dropped: Set<String>) {
        var candidates = Set(dropped.compactMap { FileSystem.parent(of: $0) })
        let filled = { (tree: Tree) -> Set<String> in Set(tree.entries.keys.compactMap { FileSystem.parent(of: $0) }) }
        while !candidates.isEmpty {
            let parents = filled(result.tree)
            let empty = candidates.filter {
                $0.hasPrefix("usr/") && result.tree[$0]?.kind == .directory && !parents.contains($0)
            }
            for path in empty { result.tree[path] = nil }
            candidates = Set(empty.compactMap { FileSystem.parent(of: $0) })
        }
    }

    /// PID 1 copies what the image has below /var, /run and /tmp into memory at each boot.
    private mutating func checkVolatile() {
        var size = 0
        var largest = (path: "", size: 0)
        for (path, entry) in result.tree.entries
        where ["var/", "run/", "tmp/"].contains(where: { path.hasPrefix($0) }) {
            guard case .file(let content) = entry.kind else { continue }
            size += content.count
            if content.count > largest.size { largest = (path, content.count) }
        }
        if size > 16 << 20 {
            result.remarks.append(
                "/var, /run and /tmp have \(Size.text(size)), which PID 1 copies into memory at each boot; "
                    + "the largest file is /\(largest.path) with \(Size.text(largest.size)): drop: leaves it out")
        }
    }
}
