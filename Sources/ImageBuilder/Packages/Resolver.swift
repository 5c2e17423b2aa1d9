import Digests
import Documents
import Files

/// Turns a definition into a lock.
public struct Resolver {
    let definition: Definition
    let profiles: [HardwareProfile]
    let cache: Cache

    public init(definition: Definition, profiles: [HardwareProfile], cache: Cache) {
        self.definition = definition
        self.profiles = profiles
        self.cache = cache
    }

    /// Packages that are taken as there, since what they do is done by the builder, by vcpe-init or by nobody: others
    /// depend on them for their maintainer scripts, for an initramfs or for an init system. One that a definition lists
    /// is installed like any other.
    static let assumed = [
        "adduser", "debconf", "debconf-2.0", "dpkg", "init-system-helpers", "initramfs-tools", "initramfs-tools-core",
        "kmod", "linux-base", "linux-initramfs-tool", "linux-sysctl-defaults", "logsave", "openssl-provider-legacy",
        "passwd", "perl-base", "perl",
        "perl:any", "runit-helper", "sensible-utils", "systemd", "systemd-sysusers", "sysvinit-utils", "tzdata",
        "tzdata-legacy", "ucf", "udev", "ca-certificates-java", "install-info", "man-db",
    ]

    /// What shapes bytes on the host; run from the cache.
    static let tools = ["dosfstools", "mtools", "sbsigntool", "systemd-boot-efi", "zstd"]

    /// What the lock of this definition must have been asked for.
    public var requests: [String: [String]] {
        var requests = [Lock.tools: Self.tools]
        requests["base"] = ["\(definition.base.suite)/\(definition.base.architecture)"] + components
        for profile in profiles { requests[profile.name] = wanted(profile).map(\.value).sorted() }
        return requests
    }

    private var components: [String] {
        let firmware = definition.firmware && profiles.contains { !$0.firmware.isEmpty || !$0.microcode.isEmpty }
        return (definition.base.components + (firmware ? ["non-free-firmware"] : [])).reduce(into: []) {
            if !$0.contains($1) { $0.append($1) }
        }
    }

    private func wanted(_ profile: HardwareProfile) -> [Located<String>] {
        definition.packages + [profile.kernel] + (definition.firmware ? profile.firmware + profile.microcode : [])
    }

    /// Why `lock` doesn't answer the definition, one line a difference; empty when it does.
    public func differences(from lock: Lock) -> [String] {
        var lines: [String] = []
        for section in Set(requests.keys).union(lock.requests.keys).sorted() {
            let now = requests[section] ?? []
            let then = lock.requests[section] ?? []
            let asked = profiles.first { $0.name == section }.map(wanted) ?? []
            for name in now where !then.contains(name) {
                let place = asked.first { $0.value == name }.map { " (\($0.position))" } ?? ""
                lines.append("\(section): \(name) is wanted and not in the lock\(place)")
            }
            for name in then where !now.contains(name) {
                lines.append("\(section): \(name) is in the lock and no longer wanted")
            }
        }
        return lines
    }

    /// Asks apt.
    ///
    /// - Parameters:
    ///   - old: its user ids are kept.
    ///   - keeping: packages whose versions stay as long as the archive has them.
    public func resolve(mirrors: Mirrors, old: Lock?, keeping: [LockedPackage] = []) throws -> Lock {
        let apt = try Apt(base: definition.base, mirrors: mirrors, components: components, cache: cache)
        var lock = Lock()
        lock.dates = try apt.update()
        lock.requests = requests
        lock.users = old?.users ?? [:]
        lock.groups = old?.groups ?? [:]
        lock.sections[Lock.tools] = try resolve(
            Self.tools.map { Located(value: $0, position: .init(file: "vcpe", line: 0, column: 0), path: "") }, apt,
            keeping)
        for profile in profiles { lock.sections[profile.name] = try resolve(wanted(profile), apt, keeping) }
        return lock
    }

    private func resolve(_ names: [Located<String>], _ apt: Apt, _ keeping: [LockedPackage]) throws -> [LockedPackage] {
        var pins = Dictionary(keeping.map { ($0.name, $0.version) }) { $1 }
        while true {
            do {
                return try apt.resolve(names.map(\.value), assumed: Self.assumed, pins: pins)
            } catch let failure as Apt.Unresolvable {
                // A pinned package may stand in the way of one that had to move: let those go that apt names.
                let blamed = pins.keys.filter { name in
                    failure.reason.split(whereSeparator: { " \n:,()".contains($0) }).contains { $0 == name }
                }
                if blamed.isEmpty { throw explain(failure, names) }
                for name in blamed { pins[name] = nil }
            }
        }
    }

    /// apt's reason, with the lines of the definition that asked.
    private func explain(_ failure: Apt.Unresolvable, _ names: [Located<String>]) -> any Error {
        let words = Set(
            failure.reason.split(whereSeparator: { " \n:,()'".contains($0) }).map(String.init))
        let asked = names.filter { words.contains($0.value) }
        if asked.isEmpty { return BuildFailure("apt can't resolve the packages:\n  \(failure.reason)") }
        return InvalidDocument(
            asked.map { $0.problem("apt can't install \($0.value)", hint: "apt says:\n  \(failure.reason)") })
    }
}
