import Digests
import Documents
import Files

/// Turns a definition into a lock.
public struct Resolver {
    let definition: Definition
    let profiles: [HardwareProfile]
    /// The definition's folder.
    let folder: String
    let cache: Cache

    public init(definition: Definition, profiles: [HardwareProfile], folder: String, cache: Cache) {
        self.definition = definition
        self.profiles = profiles
        self.folder = folder
        self.cache = cache
    }

    /// Packages whose work the builder or PID 1 does. Other packages depend on them for their
    /// maintainer scripts, for an initramfs or for an init system. An image has one of them only if
    /// its definition lists it.
    static let replaced: Set<String> = [
        "adduser", "debconf", "dracut", "dracut-core", "initramfs-tools",
        "initramfs-tools-bin", "initramfs-tools-core", "install-info", "kmod", "linux-base", "linux-sysctl-defaults",
        "logsave", "man-db", "runit-helper", "sensible-utils", "systemd", "systemd-cryptsetup", "systemd-dev",
        "systemd-standalone-sysusers", "systemd-standalone-tmpfiles", "systemd-sysv", "ucf", "udev",
    ]

    /// Essential and similar packages that an image with `essential: false` leaves out, although
    /// other packages depend on them.
    static let unessential: Set<String> = [
        "dpkg", "init-system-helpers", "openssl-provider-legacy", "passwd", "perl", "perl-base", "sysvinit-utils",
        "tzdata", "tzdata-legacy",
    ]

    /// The packages of the programs that write the image on the host, and the suite's own apt. They
    /// run from the cache.
    static let tools = ["apt", "dosfstools", "mtools", "systemd-boot-efi", "zstd"]

    /// The requests of a lock that matches this definition.
    public var requests: [String: [String]] {
        var requests = [Lock.tools: Self.tools]
        requests["base"] =
            ["\(definition.base.suite)/\(definition.base.architecture)"] + components
            + (definition.essential ? ["essential"] : [])
        for profile in profiles {
            requests[profile.name] =
                (wanted(profile).map(\.value) + definition.excluded.map { "-" + $0.value }).sorted()
        }
        let archives = definition.archives.map { archive in
            ([archive.name] + archive.uris + archive.suites + archive.components
                + archive.pins.map { "\($0.priority) \($0.packages.joined(separator: " "))" })
                .joined(separator: " ")
        }
        let sources = archives + definition.debs.map(\.value)
        if !sources.isEmpty { requests["archives"] = sources }
        // Paths are part of the requests, because effects on dropped paths are not recorded.
        let paths =
            definition.drop.map(\.value.text).sorted() + definition.keep.map { "keep " + $0.value.text }.sorted()
        if !paths.isEmpty { requests["drop"] = paths }
        return requests
    }

    private var components: [String] {
        let firmware = definition.firmware && profiles.contains { !$0.firmware.isEmpty || !$0.microcode.isEmpty }
        return (definition.base.components + (firmware ? ["non-free-firmware"] : [])).reduce(into: []) {
            if !$0.contains($1) { $0.append($1) }
        }
    }

    /// The sources of a lock's packages.
    func sources(_ mirrors: Mirrors) throws -> [PackageSource] {
        try PackageSource.all(definition, folder: folder, mirrors: mirrors, components: components)
    }

    private func hardware(_ profile: HardwareProfile) -> [Located<String>] {
        [profile.kernel] + (definition.firmware ? profile.firmware + profile.microcode : [])
    }

    private func wanted(_ profile: HardwareProfile) -> [Located<String>] { definition.packages + hardware(profile) }

    /// The packages that the image leaves out.
    private var excluded: Set<String> {
        let listed = Set(definition.packages.map(\.value))
        let without = definition.essential ? Self.replaced : Self.replaced.union(Self.unessential)
        return without.subtracting(listed).union(definition.excluded.map(\.value))
    }

    /// The differences between `lock` and the definition, one line each; empty when they match.
    public func differences(from lock: Lock) -> [String] {
        var lines: [String] = []
        for section in Set(requests.keys).union(lock.requests.keys).sorted() {
            let now = requests[section] ?? []
            let then = lock.requests[section] ?? []
            let requested = profiles.first { $0.name == section }.map(wanted) ?? []
            for name in now where !then.contains(name) {
                let position = requested.first { $0.value == name }.map { " (\($0.position))" } ?? ""
                lines.append("\(section): the definition requires \(name), the lock does not have it\(position)")
            }
            for name in then where !now.contains(name) {
                lines.append("\(section): the lock has \(name), the definition no longer requires it")
            }
        }
        return lines
    }

    /// A resolved lock, and the dependencies of its packages.
    struct Resolution {
        var lock: Lock
        /// The graph of all packages that apt chose.
        var graph: PackageGraph
    }

    /// Resolves the definition with apt.
    ///
    /// - Parameters:
    ///   - old: the earlier lock, whose user ids are kept and whose apt resolves.
    ///   - keeping: packages whose versions stay as long as the archive has them.
    ///   - waiting: called once, when another process resolves with the same package lists, with
    ///     that process.
    ///   - fetch: fetches the .debs of the suite's own apt into the cache.
    func resolve(
        mirrors: Mirrors, old: Lock?, keeping: [LockedPackage] = [], waiting: (FileLock.Holder) -> Void,
        fetch: ([LockedPackage], [PackageSource]) throws -> Void
    ) throws -> Resolution {
        var apt = try Apt(
            definition: definition, folder: folder, mirrors: mirrors, components: components, cache: cache,
            waiting: waiting)
        var lock = Lock()
        lock.dates = try apt.update()
        lock.requests = requests
        lock.users = old?.users ?? [:]
        lock.groups = old?.groups ?? [:]
        apt.tools = try suiteTools(apt, old: old, fetch: fetch)
        lock.sections[Lock.tools] = try resolveTools(apt, keeping)
        var stanzas: [PackageGraph.Stanza] = []
        var reference: [String: LockedPackage] = [:]
        let essential = [Located(value: "?essential", position: .init(file: "vcpe", line: 0, column: 0), path: "")]
        for profile in profiles {
            let chosen = try resolve(wanted(profile) + essential, apt, keeping)
            let graph = try apt.describe(chosen)
            // apt takes NAME- as a removal, NAME+ as NAME, and a name with a dot as a pattern.
            let absent = wanted(profile).filter { graph.satisfying([$0.value]) == nil }
            guard absent.isEmpty else {
                throw InvalidDocument(
                    absent.map {
                        $0.problem("the archives have no package \($0.value)", hint: "apt-cache search finds names")
                    })
            }
            let essentials = graph.stanzas.values.filter(\.isEssential).map(\.name).sorted()
            let image = graph.closure(
                of: wanted(profile).map(\.value) + (definition.essential ? essentials : []), excluding: excluded
            ).subtracting(excluded)
            lock.sections[profile.name] = chosen.filter { image.contains($0.name) }
            // The kernel's scripts create an initramfs and links in /boot, which an image does not
            // have.
            let installed = graph.closure(of: definition.packages.map(\.value) + essentials)
            for package in chosen where installed.contains(package.name) && reference[package.name] == nil {
                reference[package.name] = package
            }
            stanzas += graph.stanzas.values
        }
        let inImages = Set(profiles.flatMap { lock.sections[$0.name] ?? [] })
        lock.sections[Lock.reference] = reference.values.filter { !inImages.contains($0) }.sorted { $0.name < $1.name }
        return Resolution(lock: lock, graph: PackageGraph(stanzas))
    }

    /// The packages of the reference root: the image's packages without kernel and firmware, and
    /// all of their dependencies.
    func referencePackages(_ lock: Lock, _ graph: PackageGraph) -> [LockedPackage] {
        let essentials = graph.stanzas.values.filter(\.isEssential).map(\.name)
        let names = graph.closure(of: definition.packages.map(\.value) + essentials)
        var seen: Set<String> = []
        let sections = profiles.map(\.name) + [Lock.reference]
        return sections.flatMap { lock.sections[$0] ?? [] }
            .filter { names.contains($0.name) && seen.insert($0.name).inserted }
            .sorted { $0.name < $1.name }
    }

    /// The suite's own apt: that of the old lock, or the one that the host's apt finds for a first
    /// lock.
    private func suiteTools(
        _ apt: Apt, old: Lock?, fetch: ([LockedPackage], [PackageSource]) throws -> Void
    ) throws -> Tools {
        var packages = old?.sections[Lock.tools] ?? []
        var isUsable = packages.contains { $0.name == "apt" }
        if isUsable {
            do {
                try fetch(packages, apt.sources)
            } catch is Fetching.Gone {
                isUsable = false
            }
        }
        if !isUsable {
            packages = try resolveTools(apt, [])
            try fetch(packages, apt.sources)
        }
        return try Tools(packages.map { try UnpackedPackage.read($0, cache: cache) }, cache: cache)
    }

    private func resolveTools(_ apt: Apt, _ keeping: [LockedPackage]) throws -> [LockedPackage] {
        let position = SourcePosition(file: "vcpe", line: 0, column: 0)
        let names = Self.tools.map { Located(value: $0, position: position, path: "") }
        let chosen = try resolve(names, apt, keeping)
        let needed = try apt.describe(chosen).closure(
            of: Self.tools, excluding: Self.replaced.union(Self.unessential))
        return chosen.filter { needed.contains($0.name) }
    }

    private func resolve(_ names: [Located<String>], _ apt: Apt, _ keeping: [LockedPackage]) throws -> [LockedPackage] {
        var pins = Dictionary(keeping.map { ($0.name, $0.version) }) { $1 }
        while true {
            do {
                return try apt.resolve(names.map(\.value), pins: pins)
            } catch let failure as Apt.Unresolvable {
                // A pinned package can conflict with one that must change: unpin the packages in
                // apt's message.
                let conflicting = pins.keys.filter { name in
                    failure.reason.split(whereSeparator: { " \n:,()".contains($0) }).contains { $0 == name }
                }
                if conflicting.isEmpty { throw explain(failure, names) }
                for name in conflicting { pins[name] = nil }
            }
        }
    }

    /// Adds the lines of the definition that request the packages in apt's message.
    private func explain(_ failure: Apt.Unresolvable, _ names: [Located<String>]) -> any Error {
        let words = Set(
            failure.reason.split(whereSeparator: { " \n:,()'".contains($0) }).map(String.init))
        let requested = names.filter { words.contains($0.value) }
        if requested.isEmpty {
            return BuildFailure(
                "apt can't resolve the packages:\n  \(failure.reason)",
                hint: "remove one of the packages in apt's message from packages:, or add the archive that has it")
        }
        return InvalidDocument(
            requested.map { $0.problem("apt can't install \($0.value)", hint: "apt printed:\n  \(failure.reason)") })
    }
}
