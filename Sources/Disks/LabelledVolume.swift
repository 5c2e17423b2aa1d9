import Files
import Glibc

/// A file system on a removable medium, whose label assigns it to the box.
public enum LabelledVolume {
    public enum FileSystemType: Sendable {
        case fat
        /// None that the box reads: its driver in the kernel believes too much of what is on a disk.
        case ext4
    }

    /// The type of a device's file system that has the label, upper or lower case: FAT
    /// (Microsoft's specification, BS_VolLab) or ext4 (kernel: `ext4/super.rst`, s_volume_name);
    /// nil for anything else.
    ///
    /// - Throws: for a device that cannot be opened or read. A disk is in /sys before it can be
    ///   opened (kernel: `device_add_disk`), so that may change.
    public static func type(of device: String, label wanted: String) throws(SystemError) -> FileSystemType? {
        let head = try File(device, O_RDONLY | O_NONBLOCK).read(2048, at: 0)
        guard head.count == 2048 else { return nil }
        func text(_ offset: Int, _ count: Int) -> String {
            String(decoding: head[offset..<offset + count].prefix { $0 != 0 }, as: UTF8.self).lowercased()
        }
        func label(_ offset: Int, _ count: Int) -> String { String(text(offset, count).prefix { $0 != " " }) }
        if head[510] == 0x55, head[511] == 0xAA {
            if text(82, 5) == "fat32", label(71, 11) == wanted { return .fat }
            if text(54, 3) == "fat", label(43, 11) == wanted { return .fat }
        }
        if head[1080] == 0x53, head[1081] == 0xEF, label(1144, 16) == wanted { return .ext4 }
        return nil
    }

    /// Mounts one of FAT, read-only. The kernel ignores programs, devices and links on it.
    public static func mount(_ device: String, at folder: String) throws {
        try FileSystem.makeDirectory(folder)
        let flags = UInt(MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOSYMFOLLOW)
        guard Glibc.mount(device, folder, "vfat", flags, nil) == 0 else { throw SystemError("mount", device) }
    }
}
