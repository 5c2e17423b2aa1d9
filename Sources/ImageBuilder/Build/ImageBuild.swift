import Digests
import Documents
import Files
import Glibc
import Planning
import PluginKit
import Transfers

/// From a definition to its images: the numbered pipeline that `docs/architecture.md` describes.
public struct ImageBuild: Sendable {
    public struct Options: Sendable {
        /// The folder of the definitions.
        public var images = "images"
        /// Where the outputs go: a folder for each image is made here.
        public var output = "out"
        /// The box's own executables.
        public var box = ".build/box"
        /// Replaces the host's mirror.
        public var mirror: String?
        /// A snapshot archive, asked for the time in the lock.
        public var snapshot: String?
        /// Move packages that the mirror has no more.
        public var relockGone = false
        /// Relock when the lock doesn't answer the definition, and move all packages to the newest.
        public var update = false
        /// Leave the outputs out that the definition wants beside the raw disk.
        public var rawOnly = false
        /// Only this hardware profile.
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

    public init(_ name: String, options: Options, cache: Cache = .standard, observe: @escaping BuildObserver) throws {
        let path = "\(options.images)/\(name).yaml"
        guard FileSystem.exists(path) else {
            let known = ((try? FileSystem.list(options.images)) ?? []).filter { $0.hasSuffix(".yaml") }
                .map { String($0.dropLast(5)) }
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
    }

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
    /// - Returns: what changed, one line each.
    @discardableResult
    public func lock(keeping: [LockedPackage] = [], write: Bool = true) async throws -> [String] {
        let old = try Lock.read(lockPath)
        let oldEffects = try Effects.read(effectsPath)
        let mirrors = try Mirrors.find(base: definition.base, mirror: options.mirror, cache: cache)
        let resolution = try resolver.resolve(mirrors: mirrors, old: old, keeping: keeping) { packages, sources in
            try fetch(packages, from: { (sources, mirrors.proxy) })
        }
        var lock = resolution.lock
        let reference = resolver.referencePackages(lock, resolution.graph)
        // The kernel and firmware have no effects; their packages are large, and a build may never need them.
        try fetch(reference, from: { (try resolver.sources(mirrors), mirrors.proxy) })
        let effects = try await record(reference, resolution.graph, old: oldEffects)
        for profile in profiles {
            let names = Set(reference)
            let packages = try await UnpackedPackage.readAll(
                (lock.sections[profile.name] ?? []).filter(names.contains), cache: cache)
            let users = try Composer.users(of: packages, effects: effects, definition: definition, lock: lock)
            lock.users = users.allocatedUsers
            lock.groups = users.allocatedGroups
        }
        let differences = lock.differences(from: old ?? Lock()) + effects.differences(from: oldEffects ?? Effects())
        if write {
            // The effects first: a lock without its effects is refused, effects without their lock are only recorded again.
            if effects != oldEffects { try FileSystem.replace(effectsPath, with: effects.text) }
            if lock != old { try FileSystem.replace(lockPath, with: lock.text) }
        }
        return differences
    }

    /// The effects of packages: those on file where they are of the same packages, else recorded in a reference root.
    private func record(_ packages: [LockedPackage], _ graph: PackageGraph, old: Effects?) async throws -> Effects {
        let drop = DefaultDrop.patterns + definition.drop.map(\.value)
        if let old, old.reference == Effects.identity(packages) { return old }
        observe(.started(step: "effects", reasons: ["\(packages.count) packages are installed in a reference root"]))
        let start = Clock.seconds
        let effects = try await ReferenceRoot(
            packages: packages, graph: graph, cache: cache, program: options.program ?? "/proc/self/exe", drop: drop
        ).record()
        let count = effects.packages.values.map(\.count).reduce(0, +)
        observe(
            .finished(
                step: "effects", note: "\(count) of \(packages.count) packages", seconds: Clock.seconds - start))
        return effects
    }

    private func fetch(
        _ packages: [LockedPackage], from sources: () throws -> (sources: [PackageSource], proxy: String?)
    ) throws {
        try Fetching.fetch(packages, from: sources, folder: options.images, cache: cache) { progress in
            observe(
                .downloading(
                    bytes: progress.bytes, of: progress.totalBytes, files: progress.finishedFiles,
                    ofFiles: progress.files))
        }
    }

    private func usableLock() async throws -> Lock {
        if options.update {
            for line in try await lock() { observe(.remark(line)) }
        }
        return try checkedLock()
    }

    /// The lock, which must answer the definition.
    private func checkedLock() throws -> Lock {
        guard let lock = try Lock.read(lockPath) else {
            throw BuildFailure("there is no lock \(lockPath)", hint: "vcpe lock \(definition.name)")
        }
        let differences = resolver.differences(from: lock)
        guard differences.isEmpty else {
            throw BuildFailure(
                "the lock \(lockPath) doesn't answer the definition:\n  \(differences.joined(separator: "\n  "))",
                hint: "vcpe lock \(definition.name), or vcpe build \(definition.name) --update")
        }
        return lock
    }

    /// The effects of a lock's packages.
    private func effects(_ lock: Lock) throws -> Effects {
        guard let effects = try Effects.read(effectsPath) else {
            throw BuildFailure(
                "there is no \(effectsPath), which the lock needs beside it", hint: "vcpe lock \(definition.name)")
        }
        return effects
    }

    /// Where the packages of a lock are fetched from.
    private func sources(_ lock: Lock) throws -> (sources: [PackageSource], proxy: String?) {
        let mirrors = try mirrors(lock)
        return (try resolver.sources(mirrors), mirrors.proxy)
    }

    private func mirrors(_ lock: Lock) throws -> Mirrors {
        guard let snapshot = options.snapshot else {
            return try Mirrors.find(base: definition.base, mirror: options.mirror, cache: cache)
        }
        guard let time = SnapshotTime.latest(of: Array(lock.dates.values)) else {
            throw BuildFailure("the lock records no time that a snapshot archive could be asked for")
        }
        let archive = snapshot.trimming { $0 == "/" } + "/archive"
        return Mirrors(main: "\(archive)/debian/\(time)", security: "\(archive)/debian-security/\(time)")
    }

    /// Fetches what the cache lacks; with `--relock-gone`, moves what the archive has lost and fetches again.
    private func acquire(_ lock: Lock) async throws -> Lock {
        let wanted = profiles.filter { options.profile == nil || $0.name == options.profile }.flatMap {
            lock.sections[$0.name] ?? []
        }
        let packages = wanted + (lock.sections[Lock.tools] ?? [])
        let missing = Fetching.missing(packages, cache: cache).count
        if missing == 0 { return lock }
        observe(.started(step: "fetch", reasons: ["\(missing) packages are not in the cache"]))
        let start = Clock.seconds
        do {
            try fetch(packages, from: { try sources(lock) })
        } catch let gone as Fetching.Gone {
            guard options.relockGone else { throw gone }
            for line in try await self.lock(keeping: lock.packages) { observe(.remark("relocked: \(line)")) }
            guard let relocked = try Lock.read(lockPath) else { throw gone }
            observe(.finished(step: "fetch", note: "\(missing) packages", seconds: Clock.seconds - start))
            return relocked
        }
        observe(.finished(step: "fetch", note: "\(missing) packages", seconds: Clock.seconds - start))
        return lock
    }

    /// What a box that has this image plans for its factory site.
    func planFactorySite() throws -> [Resource] {
        guard let site = definition.site else {
            throw BuildFailure("\(definition.name) names no site", hint: "site: in its definition")
        }
        return try plan(site: "\(options.images)/\(site.value)").all
    }

    /// What a box that has this image plans for a site document, by the same executable and the image's own libraries.
    ///
    /// - Parameter path: the document's.
    /// - Throws: every problem with file, line and column.
    public func plan(site path: String, explains: Bool = false) throws -> Plan {
        guard !plugins.isEmpty, let profile = profiles.first(where: { options.profile ?? $0.name == $0.name }) else {
            throw BuildFailure("\(definition.name) has no plugins that could plan", hint: "plugins: in its definition")
        }
        let lock = try checkedLock()
        let locked = lock.sections[profile.name] ?? []
        try fetch(locked, from: { try sources(lock) })
        let packages = try locked.map { try UnpackedPackage.read($0, cache: cache) }
        return try FactorySite(
            definition: definition, plugins: plugins, packages: packages, box: options.box, cache: cache
        ).plan(try FileSystem.read(path), name: path, explains: explains)
    }

    // MARK: - Building

    /// Builds the images of all profiles, or of the one that the options name.
    ///
    /// - Returns: the outputs' paths, the raw disks first.
    public func build() async throws -> [String] {
        var lock = try await usableLock()
        try FileSystem.makeDirectory(folder)
        let building = try BuildingLock(folder)
        defer { building.release() }
        for place in [folder, "\(folder)/.steps"] where FileSystem.exists(place) {
            try FileSystem.removeLeftovers(in: place)
        }
        lock = try await acquire(lock)
        let effects = try effects(lock)
        let steps = try Steps(folder: folder, observe: observe)
        var outputs: [String] = []
        for profile in profiles where options.profile == nil || options.profile == profile.name {
            let stem = profile == profiles.first ? definition.name : "\(definition.name)-\(profile.name)"
            outputs += try await ProfileBuild(
                definition: definition, profile: profile, plugins: plugins, lock: lock, effects: effects,
                options: options,
                cache: cache, steps: steps,
                folder: folder, stem: stem
            ).build()
        }
        return outputs.map { "\(folder)/\($0)" }
    }
}

/// One build at a time in an output folder: the second waits and then finds all steps done.
private struct BuildingLock {
    let file: File

    init(_ folder: String) throws {
        file = try File("\(folder)/.lock", O_RDWR | O_CREAT)
        while flock(file.descriptor, LOCK_EX) != 0 {
            guard errno == EINTR else { throw SystemError("flock", file.path) }
        }
    }

    func release() { flock(file.descriptor, LOCK_UN) }
}

/// Times as snapshot archives name them.
public enum SnapshotTime {
    private static let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]

    /// The latest of dates as InRelease has them (`Sat, 14 Nov 2026 10:11:12 UTC`), as `20261114T101112Z`.
    public static func latest(of dates: [String]) -> String? {
        dates.compactMap { date -> String? in
            let words = date.split(separator: " ")
            guard words.count >= 5, let day = Int(words[1]), let month = months.firstIndex(of: String(words[2])),
                let year = Int(words[3])
            else { return nil }
            func two(_ number: Int) -> String { number < 10 ? "0\(number)" : "\(number)" }
            return "\(year)\(two(month + 1))\(two(day))T\(words[4].filter { $0 != ":" })Z"
        }.max()
    }
}
