import Units

/// What a plugin may have on the box at most: the manifest's key `permissions`, and what other keys
/// of the manifest grant. The engine refuses a plan beyond it. An image's definition repeats it for
/// the plugin of a third party (`allow`).
public struct Permissions: Sendable, Hashable {
    /// What a service may have beyond a strict one's.
    public struct Service: Sendable, Hashable {
        /// Absolute paths.
        public var programs: [String]
        /// Names of users.
        public var users: [String]
        public var capabilities: [String]
        public var systemCalls: [Unit.SystemCalls]
        public var families: [Unit.AddressFamily]
        /// Names below /dev; the last character may be a `*`.
        public var devices: [String]
        /// Paths that it sees, beside the plugin's own folders.
        public var visible: [String]
        /// Paths that it may change, beside the plugin's own folders.
        public var writable: [String]
        public var allows: [Unit.Permission]
        /// Whether it may have the class `login`.
        public var isLogin: Bool

        public init(
            _ programs: [String], users: [String] = [], capabilities: [String] = [],
            systemCalls: [Unit.SystemCalls] = [], families: [Unit.AddressFamily] = [], devices: [String] = [],
            visible: [String] = [], writable: [String] = [], allows: [Unit.Permission] = [], isLogin: Bool = false
        ) {
            (self.programs, self.users, self.capabilities) = (programs, users, capabilities)
            (self.systemCalls, self.families, self.devices) = (systemCalls, families, devices)
            (self.visible, self.writable, self.allows, self.isLogin) = (visible, writable, allows, isLogin)
        }
    }

    /// Programs of the image that the engine may run, confined: a path, and the first argument
    /// where there is one; `*` for any arguments.
    public var programs: [String] = []
    /// By name, of which the last character may be a `*`.
    public var services: [String: Service] = [:]
    /// Paths below /proc/sys; `*` is one name, and at the end the rest.
    public var sysctls: [String] = []
    /// Where its chains may be called, and whether they may accept there.
    public var stages: [Stage: Bool] = [:]
    /// Ports that it may publish as openings: `tcp 53`, `udp 5000-5010`.
    public var openings: [String] = []
    /// Connection tracking helpers, by the kernel's names.
    public var helpers: [String] = []
    /// Whether established connections may pass by later rules.
    public var hasFastPath = false

    /// Of the manifest's `resources`: kinds that nothing above limits.
    public var resources: [String] = []
    /// Of the manifest's `publishes`: collections that other plugins act on.
    public var publishes: [String] = []
    /// Of the manifest's features.
    public var modules: [String] = []
    /// Of the manifest's `allocates`: fields of marks that plugins share.
    public var marks: [String] = []
    /// Of the manifest's `drivers`: kinds that programs drive as root.
    public var drivers: [String] = []
    /// Of the manifest's `access`.
    public var access: [String: [String]] = [:]
    /// Of the manifest's `reports`.
    public var reports: [String: [String]] = [:]

    public init(
        programs: [String] = [], services: [String: Service] = [:], sysctls: [String] = [],
        stages: [Stage: Bool] = [:], openings: [String] = [], helpers: [String] = [], hasFastPath: Bool = false
    ) {
        (self.programs, self.services, self.sysctls) = (programs, services, sysctls)
        (self.stages, self.openings, self.helpers, self.hasFastPath) = (stages, openings, helpers, hasFastPath)
    }

    public var isEmpty: Bool { self == Permissions() }

    /// The kinds of resources that permissions limit, or that touch nothing but the plugin's own.
    private static let limitedKinds: Set<String> = [
        FileResource.kind, DirectoryResource.kind, ServiceResource.kind, SecretResource.kind, SysctlResource.kind,
        NftablesResource.kind, KernelModuleResource.kind,
    ]
    /// Collections of other plugins' inputs. Openings have permissions of their own.
    public static let sharedCollections: Set<String> = ["zones", "interfaces", "resolvers", "names"]

    /// One of ``sysctls`` has a key.
    public static func matches(sysctl pattern: String, _ key: String) -> Bool {
        let names = key.split(separator: "/", omittingEmptySubsequences: false)
        let parts = pattern.split(separator: "/", omittingEmptySubsequences: false)
        for (i, part) in parts.enumerated() {
            // Behind it, and below.
            if i == parts.count - 1, part.hasSuffix("*") {
                return i < names.count && names[i].hasPrefix(part.dropLast())
            }
            guard i < names.count, part == "*" || part == names[i] else { return false }
        }
        return names.count == parts.count
    }

    /// A name, or the beginning of one with a `*` behind it.
    public static func matches(name pattern: String, _ name: String) -> Bool {
        pattern.hasSuffix("*") ? name.hasPrefix(pattern.dropLast()) : pattern == name
    }

    /// The permissions of a service: by its own name before a pattern, and a long pattern before a
    /// short one.
    public func service(_ name: String) -> Service? {
        let found = services.keys.filter { Self.matches(name: $0, name) }.max { one, other in
            (one.hasSuffix("*") ? 0 : 1, one.utf8.count) < (other.hasSuffix("*") ? 0 : 1, other.utf8.count)
        }
        return found.flatMap { services[$0] }
    }

    /// A program with its arguments, as a permission for it is written.
    public static func program(of words: [String]) -> String { words.prefix(2).joined(separator: " ") }

    public func mayRun(_ words: [String]) -> Bool {
        programs.contains(Self.program(of: words)) || words.first.map { programs.contains("\($0) *") } ?? false
    }
}

extension PluginManifest {
    /// All that the plugin may have: ``permissions``, and what other keys grant.
    public var granted: Permissions {
        var granted = permissions
        granted.resources = resources.filter(Permissions.isUnlimited)
        granted.publishes = (publishes ?? []).filter { Permissions.sharedCollections.contains($0) }
        granted.modules = Set(features.flatMap(\.modules)).sorted()
        granted.marks = allocates.marks.filter { $0.value == .shared }.keys.sorted()
        granted.drivers = drivers.map(\.kind)
        granted.access = Dictionary(uniqueKeysWithValues: access.map { ($0.key.rawValue, $0.value) })
        granted.reports = reports
        return granted
    }
}

extension Permissions {
    fileprivate static func isUnlimited(_ kind: String) -> Bool { !limitedKinds.contains(kind) }
}
