import CSystem
import Checksums
import Glibc

/// /data: made at the first start, checked and mounted at every other.
enum DataPartition {
    /// Mounts it below `root`.
    ///
    /// - Parameters:
    ///   - root: the mounted root file system, whose mke2fs and e2fsck are run.
    /// - Returns: a remark for people when something was not as usual.
    /// - Throws: why the box must run without it.
    static func mount(_ disk: inout Disk, state: inout StateRecord, root: String) throws(Failure) -> String? {
        guard let partition = disk["data"] else { throw Failure("the disk has no data partition") }
        let device = disk.device(partition)
        if disk.isPrimaryBroken { _ = try disk.growData() }
        var remark: String?
        let contents = try look(device)
        if state.isFormatting || contents.isNothing {
            guard !state.isStick(disk) else {
                throw Failure(
                    "\(disk.path) is removable: data is made there only when it was flashed with "
                        + "--removable-data")
            }
            remark = state.isFormatting ? "formatting of data was cut off: again" : "data is formatted: first start"
            // The record goes first: what a power cut leaves half made must be known as such.
            state.isFormatting = true
            try state.save()
            _ = try disk.growData()
            try format(device, root: root)
            state.isFormatting = false
            try state.save()
        } else if case .fileSystem(let superblock) = contents {
            if try check(device, copy(of: superblock), root: root) { remark = "data was repaired by e2fsck" }
        } else {
            throw Failure("\(device) holds something else than a data file system: it is left alone")
        }
        // Programs are the image's alone, under its hash tree.
        let flags = UInt(MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME)
        guard Glibc.mount(device, "\(root)/data", "ext4", flags, nil) == 0 else {
            throw Failure("mount", device)
        }
        return remark
    }

    /// A superblock has two sectors, of which a cut of power may leave one: then by the first of its copies.
    ///
    /// - Returns: something was repaired.
    private static func check(_ device: String, _ copy: [String], root: String) throws(Failure) -> Bool {
        let code = Child.run("/usr/sbin/e2fsck", ["-p"] + copy + [device], root: root)
        guard let code, code & ~3 == 0 else {
            throw Failure("e2fsck of \(device) ended with \(code.map(String.init) ?? "nothing")")
        }
        return code & 1 == 1
    }

    /// The words by which e2fsck finds the first copy of a superblock whose own checksum is wrong (kernel: `Documentation/filesystems/ext4/super.rst`); none where it
    /// is right. A group of blocks has as many as a block has bits, and the copy is the second one's first.
    private static func copy(of superblock: [UInt8]) -> [String] {
        let hasChecksum = (Bytes.integer(superblock, 100, UInt32.self) ?? 0) & 0x400 != 0
        guard hasChecksum, let size = Bytes.integer(superblock, 24, UInt32.self), size <= 6,
            let checksum = Bytes.integer(superblock, 1020, UInt32.self),
            // Without the inversion at the end that CRC-32C has elsewhere.
            CRC32.castagnoliKernel(Array(superblock[..<1020])) != checksum
        else { return [] }
        let bytes = 1024 << Int(size)
        // Blocks of 1 KiB count from behind the boot sector.
        return ["-b", "\(bytes * 8 + (size == 0 ? 1 : 0))", "-B", "\(bytes)"]
    }

    private enum Contents {
        /// Nothing was ever written: the first MiB is zeros.
        case nothing
        /// There is an ext4 superblock, of 1024 bytes.
        case fileSystem(superblock: [UInt8])
        case other

        var isNothing: Bool { if case .nothing = self { true } else { false } }
    }

    private static func look(_ device: String) throws(Failure) -> Contents {
        let file = open(device, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { throw Failure("open", device) }
        defer { close(file) }
        let bytes = Bytes.read(file, 1 << 20, at: 0)
        guard bytes.count == 1 << 20 else { throw Failure("read", device) }
        if Bytes.integer(bytes, 1024 + 56, UInt16.self) == 0xEF53 {
            return .fileSystem(superblock: Array(bytes[1024..<2048]))
        }
        return bytes.contains { $0 != 0 } ? .other : .nothing
    }

    private static func format(_ device: String, root: String) throws(Failure) {
        // The superblock is written last by mke2fs itself; the record above covers the rest.
        let arguments = [
            "-q", "-F", "-t", "ext4", "-L", "data", "-m", "1", "-E", "lazy_itable_init=1,nodiscard", device,
        ]
        let code = Child.run("/usr/sbin/mke2fs", arguments, root: root)
        guard code == 0 else { throw Failure("mke2fs of \(device) ended with \(code.map(String.init) ?? "nothing")") }
        let file = open(device, O_RDONLY | O_CLOEXEC)
        if file >= 0 {
            fsync(file)
            close(file)
        }
    }
}
