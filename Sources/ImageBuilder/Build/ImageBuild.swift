import Digests
import Documents
import Files
import Glibc
import Planning
import PluginKit
import Transfers

/// Builds a definition's images: the numbered pipeline of `docs/architecture.md`.
public struct ImageBuild: Sendable {
    public struct Options: Sendable {
        /// The folder of the definitions.
        public var images = "images"
        /// The folder of the outputs, with a subfolder for each image.
        public var output = "out"
        /// The box's own executables.
        public var box = ".build/box"
        /// Replaces the host's mirror of the main archive.
        public var mirror: String?
        /// Replaces the host's mirror of the security archive; nil for the other mirror's address
        /// and `-security`.
        public var securityMirror: String?
        /// URL of a snapshot archive; its first import after the lock's dates is used.
        public var snapshot: String?
        /// Relock the packages that the mirror no longer has.
        public var relockGone = false
        /// Relock first, and move all packages to their newest versions.
        public var update = false
        /// Build a release: all hardware profiles, and the definition's further outputs beside the
        /// raw disk. Otherwise only the raw disk of one profile is built.
        public var release = false
        /// Only this hardware profile; the first one, or all of them for a release, when nil.
        public var profile: String?
        /// The `vcpe` that records effects in a reference root; this program when nil.
        public var program: String?

        public init() {}
    }

    let definition: Definition
    let profiles: [HardwareProfile]
    let plugins: [BuiltPlugin]
    let options: Options
    let cache: Cache
    let observe: BuildObserver
    /// While this value exists, no other command prunes the cache.
    private let use: FileLock

    public init(_ name: String, options: Options, cache: Cache = .standard, observe: @escaping BuildObserver) throws {
        let path = "\(options.images)/\(name).yaml"
        guard FileSystem.exists(path) else {
            // A name with a dot is that of a site document, NAME.site.yaml.
            let known = ((try? FileSystem.list(options.images)) ?? []).filter { $0.hasSuffix(".yaml") }
                .map { String($0.dropLast(5)) }.filter { !$0.contains(".") }
            let meant = didYouMean(name, among: known).map { "vcpe … \($0)" }
            throw BuildFailure(
                "there is no image \"\(name)\": \(path) does not exist; known are \(known.joined(separator: ", "))",
                hint: meant)
        }
        var definition = try Definition.read(path)
        self.options = options
        plugins = try BuiltPlugin.find(definition.plugins, images: options.images, box: options.box)
        definition.add(plugins)
        self.definition = definition
        let modules = definition.modules + plugins.flatMap(\.modules)
        profiles = try definition.profiles.map { name in
            var profile = try HardwareProfile.read(name, folder: options.images)
            profile.modules += modules
            return profile
        }
        if let wanted = options.profile, !profiles.contains(where: { $0.name == wanted }) {
            throw BuildFailure(
                "\(name) has no hardware profile \"\(wanted)\"; it has \(profiles.map(\.name).joined(separator: ", "))")
        }
        self.cache = cache
        self.observe = observe
        use = try cache.use { observe(.remark("waiting for \($0.text), which prunes the cache")) }
    }

    /// The version of the definition.
    public var version: String { definition.version }

    private var lockPath: String { "\(options.images)/\(definition.name).lock" }
    private var effectsPath: String { "\(options.images)/\(definition.name).effects" }
    private var resolver: Resolver {
        Resolver(definition: definition, profiles: profiles, folder: options.images, cache: cache)
    }
    private var folder: String { "\(options.output)/\(definition.name)" }

    // MARK: - Locking

    /// Resolves, records the packages' effects, and writes both files: the lock and the effects.
    ///
    /// - Parameter keeping: packages whose versions stay as long as the archive has them.
    /// - Returns: what changed.
    @discardableResult
    public func lock(keeping: [LockedPackage] = [], write: Bool = true) async throws -> LockChanges {
        let old = try Lock.read(lockPath)
        let oldEffects = try Effects.read(effectsPath)
        let (lock, effects) = try await resolve(old: old, oldEffects, keeping: keeping)
        var changes = lock.changes(from: old ?? Lock())
        changes.effects = effects.changes(from: oldEffects ?? Effects())
        if write {
            // The effects are written first. A lock without its effects is refused; effects without
            // their lock are recorded again.
            if effects != oldEffects { try FileSystem.replace(effectsPath, with: effects.text) }
            if lock != old { try FileSystem.replace(lockPath, with: lock.text) }
        }
        return changes
    }

    private func resolve(
        old: Lock?, _ oldEffects: Effects?, keeping: [LockedPackage]
    ) async throws -> (lock: Lock, effects: Effects) {
        let mirrors = try hostMirrors()
        let resolution = try resolver.resolve(
            mirrors: mirrors, old: old, keeping: keeping,
            waiting: { observe(.remark("waiting for \($0.text), which uses the same package lists")) },
            fetch: { packages, sources in try fetch(packages, from: { (sources, mirrors.apt) }) })
        var lock = resolution.lock
        let reference = resolver.referencePackages(lock, resolution.graph)
        // The kernel and firmware have no effects; their packages are large, and a build may never
        // need them.
        try fetch(reference, from: { (try resolver.sources(mirrors), mirrors.apt) })
        // Effects that were edited by hand are recorded again.
        let isAsLocked = try oldEffects != nil && SHA256.hash(FileSystem.read(effectsPath)).hex == old?.effects
        let effects = try await record(reference, resolution.graph, old: isAsLocked ? oldEffects : nil)
        for profile in profiles {
            let names = Set(reference)
            let packages = try await UnpackedPackage.readAll(
                (lock.sections[profile.name] ?? []).filter(names.contains), cache: cache)
            let users = try Composer.users(
                of: packages, effects: effects, definition: definition, lock: lock, folder: options.images)
            lock.users = users.allocatedUsers
            lock.groups = users.allocatedGroups
        }
        lock.effects = SHA256.hash(Array(effects.text.utf8)).hex
        return (lock, effects)
    }

    /// The effects of packages: the earlier ones if they are of the same packages, otherwise new
    /// ones from a reference root.
    private func record(_ packages: [LockedPackage], _ graph: PackageGraph, old: Effects?) async throws -> Effects {
        let drop = DefaultDrop.patterns + definition.drop.map(\.value)
        let keep = definition.keep.map(\.value)
        let identity = Effects.identity(packages, drop: drop, keep: keep)
        if let old, old.reference == identity { return old }
        observe(.started(step: "effects", reasons: ["\(packages.count) packages are installed in a reference root"]))
        let start = Clock.seconds
        var effects = try await ReferenceRoot(
            packages: packages, graph: graph, cache: cache, program: options.program ?? "/proc/self/exe", drop: drop,
            keep: keep
        ).record()
        effects.reference = identity
        let count = effects.packages.values.map(\.count).reduce(0, +)
        observe(
            .finished(
                step: "effects", note: "\(count) of \(packages.count) packages", seconds: Clock.seconds - start))
        return effects
    }

    private func fetch(
        _ packages: [LockedPackage], from sources: () throws -> (sources: [PackageSource], apt: HostApt)
    ) throws {
        try Fetching.fetch(packages, from: sources, folder: options.images, cache: cache) { progress in
            observe(
                .downloading(
                    bytes: progress.bytes, of: progress.totalBytes, files: progress.finishedFiles,
                    ofFiles: progress.files))
        }
    }

    /// A lock and the effects of its packages, which were recorded together.
    private struct Locked {
        var lock: Lock
        var effects: Effects
    }

    private func usableLock() async throws -> Locked {
        if options.update {
            for line in try await lock().lines { observe(.remark(line)) }
        }
        return try checkedLock()
    }

    /// The lock, which must match the definition, and its effects.
    private func checkedLock() throws -> Locked {
        guard let lock = try Lock.read(lockPath) else {
            throw BuildFailure("there is no lock \(lockPath)", hint: "vcpe lock \(definition.name)")
        }
        let differences = resolver.differences(from: lock)
        guard differences.isEmpty else {
            throw BuildFailure(
                "the lock \(lockPath) doesn't match the definition:\n  \(differences.joined(separator: "\n  "))",
                hint: "vcpe lock \(definition.name), or vcpe build \(definition.name) --update")
        }
        return Locked(lock: lock, effects: try effects(of: lock, at: effectsPath))
    }

    /// The effects that were recorded with a lock.
    private func effects(of lock: Lock, at effectsPath: String) throws -> Effects {
        guard FileSystem.exists(effectsPath) else {
            throw BuildFailure(
                "there is no \(effectsPath), which belongs to the lock \(lockPath)",
                hint: "vcpe lock \(definition.name)")
        }
        let digest = SHA256.hash(try FileSystem.read(effectsPath)).hex
        guard digest == lock.effects, let effects = try Effects.read(effectsPath) else {
            throw BuildFailure(
                "\(effectsPath) has SHA-256 \(digest), the lock \(lockPath) has \(lock.effects)",
                hint: "commit both files together, or vcpe lock \(definition.name)")
        }
        return effects
    }

    // MARK: - Packages that the archive no longer has

    /// The folder of the lock that a build made because the archive no longer had some packages.
    /// The committed lock is not changed.
    private var relockedFolder: String { "\(folder)/relocked" }

    /// The relocked lock, if it was made from the committed one.
    private func relocked() throws -> Locked? {
        let source = try? FileSystem.read("\(relockedFolder)/source")
        guard let source, source == Array(SHA256.hash(try FileSystem.read(lockPath)).hex.utf8) else { return nil }
        guard let lock = try Lock.read("\(relockedFolder)/\(definition.name).lock") else { return nil }
        return Locked(lock: lock, effects: try effects(of: lock, at: "\(relockedFolder)/\(definition.name).effects"))
    }

    /// Relocks the packages that the archive no longer has and those that must change with them,
    /// for this and later builds in this output folder.
    private func relock(_ committed: Locked) async throws -> Locked {
        let (lock, effects) = try await resolve(
            old: committed.lock, committed.effects, keeping: committed.lock.packages)
        try FileSystem.makeDirectory(relockedFolder)
        try FileSystem.remove("\(relockedFolder)/source")
        try FileSystem.replace("\(relockedFolder)/\(definition.name).effects", with: effects.text)
        try FileSystem.replace("\(relockedFolder)/\(definition.name).lock", with: lock.text)
        try FileSystem.replace("\(relockedFolder)/source", with: SHA256.hash(try FileSystem.read(lockPath)).hex)
        for line in lock.changes(from: committed.lock).lines { observe(.remark("relocked: \(line)")) }
        observe(
            .remark(
                "\(lockPath) is unchanged; cp \(relockedFolder)/\(definition.name).* \(options.images) adopts the new one"
            ))
        return Locked(lock: lock, effects: effects)
    }

    /// The sources of a lock's packages.
    private func sources(_ lock: Lock) throws -> (sources: [PackageSource], apt: HostApt) {
        let mirrors = try mirrors(lock)
        return (try resolver.sources(mirrors), mirrors.apt)
    }

    private func hostMirrors() throws -> Mirrors {
        let keyring = try definition.base.signedBy.map { try PackageSource.keyring($0, folder: options.images) }
        return try Mirrors.find(
            base: definition.base, mirror: options.mirror, securityMirror: options.securityMirror,
            keyring: keyring ?? Mirrors.keyring, cache: cache)
    }

    private func mirrors(_ lock: Lock) throws -> Mirrors {
        guard let snapshot = options.snapshot else { return try hostMirrors() }
        try Mirrors.refuseLogin(in: snapshot)
        return try SnapshotArchive(snapshot).mirrors(dates: lock.dates, folder: cache.folder("apt"), apt: .ofHost())
    }

    /// Fetches the packages that are not in the cache. With `--relock-gone`, relocks those that the
    /// archive no longer has and fetches again.
    private func acquire(_ committed: Locked) async throws -> Locked {
        var locked = committed
        if options.relockGone, let relocked = try relocked() { locked = relocked }
        let missing = Fetching.missing(packages(of: locked.lock), cache: cache).count
        if missing == 0 { return locked }
        observe(.started(step: "fetch", reasons: ["\(missing) packages are not in the cache"]))
        let start = Clock.seconds
        do {
            try fetch(packages(of: locked.lock), from: { try sources(locked.lock) })
        } catch let gone as Fetching.Gone {
            guard options.relockGone else { throw gone }
            locked = try await relock(committed)
            try fetch(packages(of: locked.lock), from: { try sources(locked.lock) })
        }
        observe(.finished(step: "fetch", note: "\(missing) packages", seconds: Clock.seconds - start))
        return locked
    }

    /// The packages of a lock that a build with these options needs.
    private func packages(of lock: Lock) -> [LockedPackage] {
        wantedProfiles.flatMap { lock.sections[$0.name] ?? [] } + (lock.sections[Lock.tools] ?? [])
    }

    private var wantedProfiles: [HardwareProfile] {
        if let name = options.profile { return profiles.filter { $0.name == name } }
        return options.release ? profiles : Array(profiles.prefix(1))
    }

    /// The resources that a box with this image plans for the factory site.
    func planFactorySite() throws -> [Resource] {
        guard let site = definition.site else {
            throw BuildFailure("\(definition.name) has no factory site", hint: "site: in its definition")
        }
        return try plan(site: "\(options.images)/\(site.value)").all
    }

    /// Plans a site document as a box with this image does, with the same executable and the
    /// image's own libraries.
    ///
    /// - Parameter path: path of the document.
    /// - Throws: every problem with file, line and column.
    public func plan(site path: String, explains: Bool = false) throws -> Plan {
        guard !plugins.isEmpty, let profile = profiles.first(where: { options.profile ?? $0.name == $0.name }) else {
            throw BuildFailure(
                "\(definition.name) has no plugins, which a plan needs", hint: "plugins: in its definition")
        }
        let lock = try (relocked() ?? checkedLock()).lock
        let locked = lock.sections[profile.name] ?? []
        try fetch(locked, from: { try sources(lock) })
        let packages = try locked.map { try UnpackedPackage.read($0, cache: cache) }
        return try FactorySite(
            definition: definition, plugins: plugins, packages: packages, box: options.box, cache: cache
        ).plan(try FileSystem.read(path), name: path, explains: explains)
    }

    /// Checks a site document against this image: plans it, and checks that the image has every
    /// program of the plan.
    ///
    /// - Parameter path: path of the document.
    /// - Throws: every problem with file, line and column.
    public func check(site path: String, explains: Bool = false) async throws -> Plan {
        let plan = try plan(site: path, explains: explains)
        guard let profile = profiles.first(where: { options.profile ?? $0.name == $0.name }) else { return plan }
        let locked = try relocked() ?? checkedLock()
        let lock = locked.lock
        let packages = try await UnpackedPackage.readAll(lock.sections[profile.name] ?? [], cache: cache)
        var composer = Composer(
            definition: definition, profile: profile, packages: packages, plugins: plugins, lock: lock,
            effects: locked.effects, folder: options.images, cache: cache)
        // Only the paths matter here, not the contents.
        let names = ["vcpe-init", "vcpe-box", "vcpe-updater"].map { ("/usr/lib/vcpe/\($0)", Content("")) }
        let composed = try await composer.compose(box: Dictionary(uniqueKeysWithValues: names))
        try FactorySite(
            definition: definition, plugins: plugins, packages: packages, box: options.box, cache: cache
        ).checkPrograms(of: plan, in: composed.tree, site: YAML.read(FileSystem.read(path), file: path))
        return plan
    }

    // MARK: - Building

    /// Builds the images of all profiles, or of the one that the options select.
    ///
    /// - Returns: the outputs' paths, the raw disks first.
    public func build() async throws -> [String] {
        let committed = try await usableLock()
        try FileSystem.makeDirectory(folder)
        // Only one build runs in an output folder. A second one waits, and then skips the finished
        // steps.
        let building = try FileLock("\(folder)/.lock", .exclusive) { holder in
            observe(.remark("waiting for \(holder.text), which uses \(folder)"))
        }
        defer { withExtendedLifetime(building) {} }
        for folder in [folder, "\(folder)/.steps"] where FileSystem.exists(folder) {
            try FileSystem.removeLeftovers(in: folder)
        }
        let locked = try await acquire(committed)
        let steps = try Steps(folder: folder, observe: observe)
        var outputs: [String] = []
        for profile in wantedProfiles {
            let stem = profile == profiles.first ? definition.name : "\(definition.name)-\(profile.name)"
            let build = ProfileBuild(
                definition: definition, profile: profile, plugins: plugins, lock: locked.lock, effects: locked.effects,
                options: options, cache: cache, steps: steps, folder: folder, stem: stem)
            do {
                outputs += try await build.build()
            } catch let damaged as DamagedContent {
                // The cache is derived from the .debs: the next build makes the file again.
                if damaged.path.hasPrefix(cache.root + "/") { try? FileSystem.remove(damaged.path) }
                throw BuildFailure(
                    "\(damaged)",
                    hint: "build again: the cached file was removed; if the error recurs, check the cache's disk")
            }
        }
        return outputs.map { "\(folder)/\($0)" }
    }
}
