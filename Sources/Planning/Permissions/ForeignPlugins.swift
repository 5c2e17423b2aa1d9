import Documents
import Files
import PluginKit
import Units

/// What no plugin of a third party may have, whatever its manifest says: each of it would be the
/// box itself.
public enum ForeignPlugins {
    /// A file in the folder of an image's plugins: the names of the project's own. The builder
    /// writes it, under the root's hash tree. Without it, all plugins are third parties'.
    public static let ownFile = "own.json"

    /// The project's own plugins of a folder.
    static func own(in folder: String) throws -> Set<String> {
        let file = "\(folder)/\(ownFile)"
        guard FileSystem.exists(file) else { return [] }
        guard let names = try JSON.parse(try FileSystem.read(file)).list else {
            throw PluginFailure("\(file) is not a list of names: build the image anew")
        }
        return Set(names.compactMap(\.text))
    }

    /// The content of ``ownFile``.
    public static func file(_ own: [String]) -> String { JSON.texts(own.sorted()).pretty }

    /// Capabilities that a third party's services may have. The others change files, processes, the
    /// kernel or the box's boot past all other bounds; `docs/plugins.md` says what each of these is
    /// for.
    public static let capabilities: Set<String> = [
        "net_bind_service", "net_broadcast", "net_admin", "net_raw", "ipc_lock", "sys_nice", "sys_time", "sys_chroot",
        "wake_alarm",
    ]

    /// Sets of system calls that reach beyond the service.
    private static let calls: Set<Unit.SystemCalls> = [.mount, .modules, .debug, .all]
    private static let permissions: Set<Unit.Permission> = [.namespaces, .kernelSettings]
    private static let rights: Set<String> = ["init", "engine", "login"]

    /// Devices that hold the kernel's memory or log, and what names of disks and watchdogs begin
    /// with.
    private static let devices = ["*", "mem", "kmem", "port", "kmsg"]
    private static let deviceFamilies = [
        "block/", "bsg/", "disk/", "dm-", "loop", "mapper/", "md", "mmcblk", "nbd", "nvme", "sd", "sg", "sr", "vd",
        "watchdog",
    ]

    /// Below these, a sysctl is the network's own. `kernel`, `fs`, `vm` and others have values that
    /// run programs or take protections away (`kernel/core_pattern`, `kernel/modprobe`,
    /// `fs/suid_dumpable`).
    private static let sysctlRoots = ["net/", "fs/inotify/"]
    private static let sysctls = ["net/core/bpf_jit_enable", "net/core/bpf_jit_harden", "net/core/bpf_jit_kallsyms"]

    /// Names of what the engine, PID 1 and the updater have in /run/vcpe and /data, and of their
    /// programs.
    public static let reservedNames: Set<String> = [
        "vcpe", "engine", "init", "updater", "audit", "api", "units", "report", "notify", "boot", "verdict", "next",
        "hosts", "hostname", "machine-id", "vcpectl", "root", "packet-path", "resolve-names",
    ]

    /// Names of the project's own plugins, which a third party's can't have either.
    public static let ownNames: Set<String> = ["network", "firewall", "nat", "lan", "system", "upgrade"]

    /// What is wrong with a plugin's name.
    public static func objection(toName name: String, isOwn: Bool) -> PermissionViolation? {
        if reservedNames.contains(name) {
            return PermissionViolation(
                name, "manifest", "the name \(name)",
                .forbidden("it is reserved for the box itself; give the plugin another name"))
        }
        guard !isOwn, ownNames.contains(name) else { return nil }
        return PermissionViolation(
            name, "manifest", "the name \(name)",
            .forbidden("it is that of one of the project's own plugins; give the plugin another name"))
    }

    /// What a manifest grants and must not, for a plugin that is not the project's own.
    public static func objections(to manifest: PluginManifest) -> [PermissionViolation] {
        let granted = manifest.granted
        var found: [PermissionViolation] = []
        func refuse(_ resource: String, _ asked: String, _ why: String) {
            found.append(PermissionViolation(manifest.name, resource, asked, .forbidden(why)))
        }
        for (name, service) in granted.services.sorted(by: { $0.key < $1.key }) {
            let resource = "service \(name)"
            for user in service.users where isRoot(user) {
                refuse(resource, "the user \(user)", "services of third parties never run as root")
            }
            for capability in service.capabilities where !capabilities.contains(capability) {
                refuse(resource, "the capability \(capability)", "allowed are \(list(capabilities))")
            }
            for call in service.systemCalls where calls.contains(call) {
                refuse(resource, "the system calls \(call.rawValue)", "they reach beyond a service")
            }
            for permission in service.allows where permissions.contains(permission) {
                refuse(resource, "\"allow\": \(permission.rawValue)", "it reaches beyond a service")
            }
            for device in service.devices where isGuarded(device: device) {
                refuse(resource, "the device \(device)", "disks, the kernel's memory and watchdogs are the box's own")
            }
            for path in service.visible where isGuarded(path: path) {
                refuse(resource, "to see \(path)", "it holds what is the box's own")
            }
            for path in service.writable where !PluginFolders.isOwn(path, of: manifest.name) {
                refuse(resource, "to write to \(path)", writableRule(manifest.name))
            }
            if service.isLogin {
                refuse(resource, "the class login", "only services that log users in outlive all others")
            }
        }
        for pattern in granted.sysctls where isGuarded(sysctl: pattern) {
            refuse("sysctl \(pattern)", "its value", sysctlRule)
        }
        for right in granted.access.keys.sorted() where rights.contains(right) {
            refuse("access.\(right)", "this right", "it is for the box's own services")
        }
        let users = Set(manifest.features.flatMap { $0.users.keys })
        for command in manifest.commands {
            for case .program(let words, let user?) in command.inputs where !users.contains(user) {
                refuse(
                    "command \(command.name)", "\(words.first ?? "") as the user \(user)",
                    "it runs as one of the users of the manifest's features, or as none")
            }
        }
        return found
    }

    /// What of a plan a third party must not have, although its manifest grants it.
    static func objection(to resource: Resource, of plugin: String) -> PermissionViolation? {
        func refuse(_ asked: String, _ why: String) -> PermissionViolation {
            PermissionViolation(plugin, "\(resource.key)", asked, .forbidden(why))
        }
        switch resource.value {
        case let service as ServiceResource:
            if isRoot(service.user) {
                return refuse("the user \(service.user)", "services of third parties never run as root")
            }
            let paths = service.unit.directories + (service.unit.profile?.writable ?? [])
            if let path = paths.first(where: { !PluginFolders.isOwn($0, of: plugin) }) {
                return refuse("to write to \(path)", writableRule(plugin))
            }
        case let sysctl as SysctlResource:
            if isGuarded(sysctl: sysctl.key) { return refuse("its value", sysctlRule) }
        case let file as FileResource:
            if file.mode & 0o6000 != 0 {
                return refuse("set-user-ID or set-group-ID", "such a program runs as its owner")
            }
        case let directory as DirectoryResource:
            if directory.mode & 0o6000 != 0 { return refuse("set-user-ID or set-group-ID", "it passes an owner on") }
        default: break
        }
        return nil
    }

    private static func list(_ words: Set<String>) -> String { words.sorted().joined(separator: ", ") }

    private static func writableRule(_ plugin: String) -> String {
        "services of third parties write below \(PluginFolders.of(plugin).joined(separator: " and ")) alone"
    }

    private static let sysctlRule =
        "third parties set sysctls below \(sysctlRoots.joined(separator: " and ")) alone, without "
        + sysctls.joined(separator: ", ")

    private static func isRoot(_ user: String) -> Bool { user == "root" || UInt32(user) != nil }

    private static func isGuarded(sysctl: String) -> Bool {
        !sysctlRoots.contains(where: sysctl.hasPrefix) || sysctls.contains(sysctl)
    }

    private static func isGuarded(device: String) -> Bool {
        devices.contains(device) || deviceFamilies.contains(where: device.hasPrefix)
            || device.hasSuffix("*") && (devices + deviceFamilies).contains { $0.hasPrefix(device.dropLast()) }
    }

    /// The box's own folders, and those above.
    private static func isGuarded(path: String) -> Bool {
        ["/data/vcpe", "/run/vcpe/engine", "/run/vcpe/units", "/run/vcpe/init.sock", "/run/vcpe/api", "/dev", "/boot"]
            .contains { guarded in
                path == guarded || path.hasPrefix(guarded + "/") || path == "/" || guarded.hasPrefix(path + "/")
            }
    }
}
