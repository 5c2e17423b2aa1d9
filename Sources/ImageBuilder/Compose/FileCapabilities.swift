/// Capabilities of executables, as the kernel keeps them in an extended attribute (`linux/capability.h`).
enum FileCapabilities {
    static let attribute = "security.capability"

    /// By number.
    private static let names = [
        "chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap",
        "linux_immutable", "net_bind_service", "net_broadcast", "net_admin", "net_raw", "ipc_lock", "ipc_owner",
        "sys_module", "sys_rawio", "sys_chroot", "sys_ptrace", "sys_pacct", "sys_admin", "sys_boot", "sys_nice",
        "sys_resource", "sys_time", "sys_tty_config", "mknod", "lease", "audit_write", "audit_control", "setfcap",
        "mac_override", "mac_admin", "syslog", "wake_alarm", "block_suspend", "audit_read", "perfmon", "bpf",
        "checkpoint_restore",
    ]

    /// Reads what setcap(8) takes, such as `cap_net_raw,cap_net_admin+ep`; nil for what is not understood.
    static func encode(_ text: String) -> [UInt8]? {
        guard let sign = text.firstIndex(where: { $0 == "+" || $0 == "=" }) else { return nil }
        let flags = text[text.index(after: sign)...]
        guard !flags.isEmpty, flags.allSatisfy({ "eip".contains($0) }) else { return nil }
        var mask: UInt64 = 0
        for name in text[..<sign].split(separator: ",") {
            guard name.hasPrefix("cap_"), let bit = names.firstIndex(of: String(name.dropFirst(4))) else { return nil }
            mask |= 1 << UInt64(bit)
        }
        let permitted = flags.contains("p") ? mask : 0
        let inheritable = flags.contains("i") ? mask : 0
        var bytes = LittleEndian()
        bytes.put(UInt32(0x0200_0000) | (flags.contains("e") ? 1 : 0))
        for word in [permitted, inheritable, permitted >> 32, inheritable >> 32] {
            bytes.put(UInt32(truncatingIfNeeded: word))
        }
        return bytes.bytes
    }
}
