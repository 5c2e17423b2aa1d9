import Files
import Glibc
import Processes

/// Makes the EFI system partition: FAT32 with systemd-boot and one blessed entry.
struct EFISystemPartition {
    /// The files by path; folders are made as they are needed.
    var files: [(path: String, bytes: [UInt8])]
    /// Bytes.
    var size: Int
    /// The volume's serial number.
    var serial: UInt32

    /// Writes the file system as `path`, a sparse file, with a scratch folder beside it.
    func write(to path: String, tools: Tools) throws {
        let scratch = try FileSystem.makeTemporaryDirectory(
            in: FileSystem.parent(of: path) ?? ".", prefix: FileSystem.temporaryPrefix + "esp")
        defer { try? FileSystem.remove(scratch) }
        let file = try File(path, O_RDWR | O_CREAT | O_TRUNC)
        try file.resize(to: size)
        try tools.command(
            "usr/sbin/mkfs.vfat",
            ["--invariant", "-F", "32", "-i", String(serial, radix: 16), "-n", "ESP", "-s", "8", path]
        ).check()
        var folders: [String] = []
        for (name, _) in files {
            var above: [String] = []
            var folder = FileSystem.parent(of: name)
            while let parent = folder {
                above.append(parent)
                folder = FileSystem.parent(of: parent)
            }
            for parent in above.reversed() where !folders.contains(parent) { folders.append(parent) }
        }
        try tools.command("usr/bin/mmd", ["-i", path] + folders.map { "::\($0)" }).check()
        for (i, (name, bytes)) in files.enumerated() {
            let source = "\(scratch)/\(i)"
            try File(source, O_WRONLY | O_CREAT).write(bytes, at: 0)
            let time = timespec(tv_sec: Int(BuildTime.epoch), tv_nsec: 0)
            guard utimensat(AT_FDCWD, source, [time, time], 0) == 0 else { throw SystemError("utimensat", source) }
            try tools.command("usr/bin/mcopy", ["-m", "-i", path, source, "::\(name)"]).check()
        }
    }
}
