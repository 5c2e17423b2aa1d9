import Files
import Glibc
import Processes

/// Makes the EFI system partition: FAT32 with systemd-boot and one entry that is marked good.
struct EFISystemPartition {
    /// The files by path; missing parent folders are created.
    var files: [(path: String, bytes: [UInt8])]
    /// Bytes.
    var size: Int
    /// The volume's serial number.
    var serial: UInt32

    /// Bytes of a cluster: `-s 8` sectors of 512 bytes; a disk with sectors of 4096 bytes can use
    /// the same clusters.
    private static let clusterSize = 4096

    /// Throws when the partition is too small for a box's files: an upgrade writes the next kernel
    /// image beside the running one, and a new loader beside the old ones (`docs/upgrades.md`).
    ///
    /// - Parameters:
    ///   - size: of the partition, in bytes.
    ///   - kernelImage: bytes of the UKI.
    ///   - loader: bytes of the boot loader.
    static func checkSize(_ size: Int, kernelImage: Int, loader: Int, upgrades: Bool) throws {
        func onDisk(_ bytes: Int) -> Int { bytes.rounded(upTo: clusterSize) }
        let (images, loaders) = upgrades ? (2, 3) : (1, 2)
        // Folders, settings and a site document.
        let files = images * onDisk(kernelImage) + loaders * onDisk(loader) + (1 << 20)
        // Reserved sectors, and two tables of four bytes for each cluster.
        let needed = files + (32 << 10) + 2 * 4 * (files / clusterSize + 2)
        if needed <= size { return }
        let mebibytes = needed.rounded(upTo: 1 << 20) >> 20
        throw BuildFailure(
            "partitions.esp has \(Size.text(size)), needed are at least \(Size.text(needed)): "
                + "\(images) kernel \(images == 1 ? "image" : "images") of \(Size.text(kernelImage)) and \(loaders) boot "
                + "loaders of \(Size.text(loader))",
            hint: "partitions: {esp: \(mebibytes) MiB} or more, or a smaller initramfs")
    }

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
