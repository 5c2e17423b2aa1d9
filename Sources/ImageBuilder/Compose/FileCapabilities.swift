import CSystem
import Disks

/// Capabilities of executables, as the kernel keeps them in an extended attribute
/// (`linux/capability.h`).
enum FileCapabilities {
    static let attribute = "security.capability"
    /// Stands for a value that ``decode(_:)`` does not understand.
    static let unknown = "unknown"

    /// Reads what setcap(8) takes, such as `cap_net_raw,cap_net_admin+ep`; nil for what is not
    /// understood.
    ///
    /// `=` is the empty set, which setcap(8) leaves when it takes all capabilities away.
    static func encode(_ text: String) -> [UInt8]? {
        if text == "=" { return encoded(permitted: 0, inheritable: 0, isEffective: false) }
        guard let sign = text.firstIndex(where: { $0 == "+" || $0 == "=" }) else { return nil }
        let flags = text[text.index(after: sign)...]
        guard !flags.isEmpty, flags.allSatisfy({ "eip".contains($0) }) else { return nil }
        var mask: UInt64 = 0
        for name in text[..<sign].split(separator: ",") {
            let bit = csystem_capability(String(name.dropFirst(4)))
            guard name.hasPrefix("cap_"), bit >= 0 else { return nil }
            mask |= 1 << UInt64(bit)
        }
        let permitted = flags.contains("p") ? mask : 0
        let inheritable = flags.contains("i") ? mask : 0
        return encoded(permitted: permitted, inheritable: inheritable, isEffective: flags.contains("e"))
    }

    private static func encoded(permitted: UInt64, inheritable: UInt64, isEffective: Bool) -> [UInt8] {
        var bytes = LittleEndian()
        bytes.put(UInt32(0x0200_0000) | (isEffective ? 1 : 0))
        for word in [permitted, inheritable, permitted >> 32, inheritable >> 32] {
            bytes.put(UInt32(truncatingIfNeeded: word))
        }
        return bytes.bytes
    }

    /// The text that setcap(8) takes for an attribute's value, such as `cap_net_raw=ep`; nil for
    /// another format.
    static func decode(_ bytes: [UInt8]) -> String? {
        // Revision 2 (20 bytes) and revision 3, which adds the user namespace's root (24 bytes).
        guard bytes.count == 20 || bytes.count == 24 else { return nil }
        func word(_ i: Int) -> UInt64 {
            (0..<4).reduce(0) { $0 | UInt64(bytes[i * 4 + $1]) << UInt64(8 * $1) }
        }
        let permitted = word(1) | word(3) << 32
        let inheritable = word(2) | word(4) << 32
        guard permitted == 0 || inheritable == 0 || permitted == inheritable else { return nil }
        let mask = permitted | inheritable
        if mask == 0 { return "=" }
        let names = (0..<64).filter { mask & (1 << UInt64($0)) != 0 }.compactMap(name)
        let flags = (word(0) & 1 != 0 ? "e" : "") + (inheritable != 0 ? "i" : "") + (permitted != 0 ? "p" : "")
        // A capability of a newer kernel has no name here: the value must not lose it in silence.
        guard !names.isEmpty, names.count == mask.nonzeroBitCount else { return nil }
        return names.joined(separator: ",") + "=" + flags
    }

    /// Of a capability's number.
    private static func name(_ bit: Int) -> String? {
        names.first { csystem_capability($0) == Int32(bit) }.map { "cap_" + $0 }
    }

    /// linux/capability.h, in order.
    static let names = [
        "chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap",
        "linux_immutable", "net_bind_service", "net_broadcast", "net_admin", "net_raw", "ipc_lock", "ipc_owner",
        "sys_module", "sys_rawio", "sys_chroot", "sys_ptrace", "sys_pacct", "sys_admin", "sys_boot", "sys_nice",
        "sys_resource", "sys_time", "sys_tty_config", "mknod", "lease", "audit_write", "audit_control", "setfcap",
        "mac_override", "mac_admin", "syslog", "wake_alarm", "block_suspend", "audit_read", "perfmon", "bpf",
        "checkpoint_restore",
    ]
}
