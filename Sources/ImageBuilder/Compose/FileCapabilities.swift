import CSystem
import Disks

/// Capabilities of executables, as the kernel keeps them in an extended attribute (`linux/capability.h`).
enum FileCapabilities {
    static let attribute = "security.capability"

    /// Reads what setcap(8) takes, such as `cap_net_raw,cap_net_admin+ep`; nil for what is not understood.
    static func encode(_ text: String) -> [UInt8]? {
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
        var bytes = LittleEndian()
        bytes.put(UInt32(0x0200_0000) | (flags.contains("e") ? 1 : 0))
        for word in [permitted, inheritable, permitted >> 32, inheritable >> 32] {
            bytes.put(UInt32(truncatingIfNeeded: word))
        }
        return bytes.bytes
    }
}
