import Documents
import PluginKit
import Units

extension Permissions {
    /// Of a plugin of a test: whatever programs and values tests have. Only the project's own may
    /// have all of it.
    public static func wide(_ plugin: String) -> Permissions {
        let names = [
            "sh", "cat", "sleep", "true", "false", "test", "grep", "echo", "touch", "python3", "jq", "head", "yes",
        ]
        let programs = names.flatMap { ["/bin/\($0)", "/usr/bin/\($0)"] }
        let service = Service(
            programs + ["/usr/lib/test/attacker", "/usr/bin/none", "/usr/sbin/none", "/usr/sbin/nothing"],
            users: ["root", "nobody", "daemon"],
            capabilities: Capabilities.names, systemCalls: Unit.SystemCalls.allCases,
            families: Unit.AddressFamily.allCases, devices: ["*"], visible: ["/run", "/data", "/var", "/tmp"],
            writable: ["/run", "/data", "/var", "/tmp"], allows: Unit.Permission.allCases, isLogin: true)
        return Permissions(
            programs: (programs + ["/usr/sbin/nothing", "/usr/sbin/dnsmasq"]).map { "\($0) *" },
            services: ["\(plugin)-*": service],
            sysctls: ["*"],
            stages: Dictionary(uniqueKeysWithValues: Stage.allCases.map { ($0, true) }),
            openings: ["tcp 1-65535", "udp 1-65535"], helpers: ["ftp", "pptp", "sip", "tftp"], hasFastPath: true)
    }
}
