/// A set of Linux capabilities (capabilities(7)).
public struct Capabilities: Sendable, Hashable {
    /// A bit for each, as the kernel numbers them.
    public var mask: UInt64

    /// Names without `cap_`, each at the place of its number in `linux/capability.h`.
    public static let names = [
        "chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap",
        "linux_immutable", "net_bind_service", "net_broadcast", "net_admin", "net_raw", "ipc_lock", "ipc_owner",
        "sys_module", "sys_rawio", "sys_chroot", "sys_ptrace", "sys_pacct", "sys_admin", "sys_boot", "sys_nice",
        "sys_resource", "sys_time", "sys_tty_config", "mknod", "lease", "audit_write", "audit_control", "setfcap",
        "mac_override", "mac_admin", "syslog", "wake_alarm", "block_suspend", "audit_read", "perfmon", "bpf",
        "checkpoint_restore",
    ]

    public init(mask: UInt64 = 0) { self.mask = mask }

    /// - Throws: for a name that is none of ``names``.
    public init(_ names: [String]) throws(InvalidUnit) {
        mask = 0
        for name in names {
            guard let number = Self.names.firstIndex(of: name) else { throw InvalidUnit("no capability \(name)") }
            mask |= 1 << UInt64(number)
        }
    }

    /// In the order of their numbers.
    public var names: [String] { Self.names.indices.filter { mask & 1 << UInt64($0) != 0 }.map { Self.names[$0] } }
}
