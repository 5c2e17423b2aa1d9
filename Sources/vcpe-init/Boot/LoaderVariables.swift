import Glibc

/// What systemd-boot says and is told by the firmware's variables (systemd: the boot loader interface).
struct LoaderVariables {
    private static let folder = "/sys/firmware/efi/efivars"
    private static let vendor = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
    /// EFI_GLOBAL_VARIABLE (UEFI 2.10, section 3.3).
    private static let global = "8be4df61-93ca-11d2-aa0d-00e098032b8c"

    /// The partition that the loader was started from.
    let devicePartition: String?
    /// The entry's file below `\EFI\Linux\` when its starts are counted: its new name.
    let countedPath: String?
    /// The firmware verifies signatures: its variable SecureBoot is 1 (UEFI 2.10, section 3.3).
    let isSecureBoot: Bool
    private let selected: String?
    private let entries: [String]

    /// Reads them; all nil on a box without UEFI.
    init() {
        mount("efivarfs", Self.folder, "efivarfs", UInt(MS_NOSUID | MS_NODEV | MS_NOEXEC), nil)
        defer { umount2(Self.folder, 0) }
        devicePartition = Self.read("LoaderDevicePartUUID").first
        countedPath = Self.read("LoaderBootCountPath").first
        // Four bytes of attributes, then the value.
        isSecureBoot = Self.secureBoot == 1
        selected = Self.read("LoaderEntrySelected").first
        entries = Self.read("LoaderEntries")
    }

    /// Four bytes of attributes, then the value; nil where there is no such variable.
    private static var secureBoot: UInt8? { Text.bytes("\(folder)/SecureBoot-\(global)").dropFirst(4).first }

    /// The same without the rest. Firmware whose variables can't be read is taken for one that
    /// verifies signatures.
    static let verifiesSignatures: Bool = {
        guard access("/sys/firmware/efi", F_OK) == 0 else { return false }
        mount("efivarfs", folder, "efivarfs", UInt(MS_NOSUID | MS_NODEV | MS_NOEXEC), nil)
        defer { umount2(folder, 0) }
        guard Text.hasEntries(folder) else { return true }
        // Firmware without the variable has no Secure Boot.
        return secureBoot ?? 0 == 1
    }()

    /// The file name of the entry that was started.
    var entry: String? { countedPath?.split(separator: "\\").last.map(String.init) ?? selected }

    /// The number of the release that was started.
    var number: Int? { entry.flatMap(Self.number) }

    /// Another release that the loader could start.
    var other: String? {
        guard let own = number else { return nil }
        return entries.first { Self.number($0).map { $0 != own } ?? false }
    }

    /// Of `vcpe-NUMBER….efi`; the way to the factory's document, `vcpe-NUMBER.efi@factory-reset`, is none.
    private static func number(_ name: String) -> Int? {
        guard name.hasPrefix("vcpe-"), name.hasSuffix(".efi") else { return nil }
        return Int(name.dropFirst(5).prefix { $0.isASCII && $0.isNumber })
    }

    /// Has the loader start an entry next time, and only then.
    ///
    /// - Returns: false where the firmware keeps no such variable.
    static func startOnce(_ entry: String) -> Bool {
        mount("efivarfs", folder, "efivarfs", UInt(MS_NOSUID | MS_NODEV | MS_NOEXEC), nil)
        defer { umount2(folder, 0) }
        let path = "\(folder)/LoaderEntryOneShot-\(vendor)"
        let file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        guard file >= 0 else { return false }
        defer { close(file) }
        // Kept without power, seen by the loader and by us; then the text, which must come in one write.
        let units = Array(entry.utf16) + [0]
        let bytes: [UInt8] = [7, 0, 0, 0] + units.flatMap { [UInt8(truncatingIfNeeded: $0), UInt8($0 >> 8)] }
        return write(file, bytes, bytes.count) == bytes.count
    }

    private static func read(_ name: String) -> [String] {
        let bytes = Text.bytes("\(folder)/\(name)-\(vendor)").dropFirst(4)
        let units = stride(from: bytes.startIndex, to: bytes.endIndex - 1, by: 2).map {
            UInt16(bytes[$0]) | UInt16(bytes[$0 + 1]) << 8
        }
        return units.split(separator: 0).map { String(decoding: $0, as: UTF16.self) }
    }
}
