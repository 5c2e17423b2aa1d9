import Disks

/// Extended attributes as people read them.
enum AttributeText {
    /// By number (linux/capability.h).
    private static let capabilities = [
        "chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap",
        "linux_immutable", "net_bind_service", "net_broadcast", "net_admin", "net_raw", "ipc_lock", "ipc_owner",
        "sys_module", "sys_rawio", "sys_chroot", "sys_ptrace", "sys_pacct", "sys_admin", "sys_boot", "sys_nice",
        "sys_resource", "sys_time", "sys_tty_config", "mknod", "lease", "audit_write", "audit_control", "setfcap",
        "mac_override", "mac_admin", "syslog", "wake_alarm", "block_suspend", "audit_read", "perfmon", "bpf",
        "checkpoint_restore",
    ]

    /// `security.capability` as getcap(8) prints it, such as `cap_net_raw+ep`; everything else as
    /// name and hexadecimal digits.
    static func text(_ name: String, _ value: [UInt8]) -> String {
        if name == "security.capability", let text = capabilityText(value) { return text }
        return "\(name)=\(hex(value))"
    }

    /// struct vfs_cap_data, revision 2.
    private static func capabilityText(_ value: [UInt8]) -> String? {
        guard value.count == 20, let head = value.integer(at: 0, UInt32.self), head & 0xFF00_0000 == 0x0200_0000,
            let permittedLow = value.integer(at: 4, UInt32.self),
            let inheritableLow = value.integer(at: 8, UInt32.self),
            let permittedHigh = value.integer(at: 12, UInt32.self),
            let inheritableHigh = value.integer(at: 16, UInt32.self)
        else { return nil }
        let permitted = UInt64(permittedHigh) << 32 | UInt64(permittedLow)
        let inheritable = UInt64(inheritableHigh) << 32 | UInt64(inheritableLow)
        guard permitted | inheritable != 0, inheritable == 0 || permitted == 0 || inheritable == permitted else {
            return nil
        }
        let names = (0..<64).filter { (permitted | inheritable) >> UInt64($0) & 1 == 1 }.map { bit in
            bit < capabilities.count ? "cap_" + capabilities[bit] : "\(bit)"
        }
        let flags = (head & 1 == 1 ? "e" : "") + (inheritable != 0 ? "i" : "") + (permitted != 0 ? "p" : "")
        return "\(names.joined(separator: ","))+\(flags)"
    }
}
