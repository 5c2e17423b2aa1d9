import CSystem
import Files
import Glibc

/// A disk that an image could be written to, as sysfs describes it.
public struct BlockDevice: Sendable {
    public let path: String
    /// The name in /sys/block.
    public let name: String
    public let model: String
    public let serial: String
    /// Bytes.
    public let size: Int
    public let isRemovable: Bool
    /// The device number, as in `st_rdev`.
    let number: Int
    /// The kernel's sequence number of this disk (diskseq). Another disk under the same name has
    /// another number. Empty on old kernels.
    public let sequence: String
    /// Bytes of a logical sector.
    public let sectorSize: Int
    /// The file behind a loop device; nil for every other disk.
    public let backingFile: String?

    /// - Throws: ``DiskFailure`` for anything but a whole disk.
    public init(_ path: String) throws {
        self.path = path
        var status = stat()
        guard stat(path, &status) == 0 else { throw SystemError("stat", path) }
        guard status.st_mode & S_IFMT == S_IFBLK else {
            throw DiskFailure(
                "\(path) is not a block device", reason: .unusable, hint: "lsblk lists the disks of this machine")
        }
        let device = Int(status.st_rdev)
        number = device
        let link = "/sys/dev/block/\(device >> 8 & 0xFFF):\(device & 0xFF | device >> 12 & 0xFFF00)"
        let folder = try FileSystem.realPath(link)
        name = FileSystem.name(of: folder)
        guard !FileSystem.exists("\(folder)/partition") else {
            let whole = FileSystem.name(of: FileSystem.parent(of: folder) ?? "")
            throw DiskFailure(
                "\(path) is a partition", reason: .unusable, hint: "use the whole disk: --to /dev/\(whole)")
        }
        func text(_ name: String) -> String {
            ((try? File("\(folder)/\(name)").read(256, at: 0)).map { String(decoding: $0, as: UTF8.self) } ?? "")
                .trimmed
        }
        model = [text("device/vendor"), text("device/model")].filter { !$0.isEmpty }.joined(separator: " ")
        // NVMe and virtio disks have an attribute. SCSI and SATA disks have page 80h of the vital
        // product data (SPC-4: four bytes, then the number).
        let pages = (try? File("\(folder)/device/vpd_pg80").read(256, at: 0)) ?? []
        let page = String(decoding: pages.dropFirst(4).prefix { $0 != 0 }, as: UTF8.self).trimmed
        serial = [text("device/serial"), text("serial"), page].first { !$0.isEmpty } ?? ""
        isRemovable = text("removable") == "1"
        sequence = text("diskseq")
        sectorSize = Int(text("queue/logical_block_size")) ?? 512
        let backing = text("loop/backing_file")
        backingFile = backing.isEmpty ? nil : backing
        size = (Int(text("size")) ?? 0) * 512
    }

    /// One line for the operator: path, model, serial number and size.
    public var summary: String {
        "\(path): \(model.isEmpty ? "unknown model" : model), serial \(serial.isEmpty ? "unknown" : serial), \(Size.text(size))"
            + (isRemovable ? ", removable" : "")
    }

    /// The reason why the disk must not be written; nil when it may be.
    ///
    /// - Parameter needed: the image's size in bytes.
    public func obstacle(needed: Int) -> String? {
        guard PartitionTable.sectorSizes.contains(sectorSize) else {
            return "it has sectors of \(sectorSize) bytes, allowed are 512 and 4096"
        }
        if size < needed {
            return "it has \(size) bytes (\(Size.text(size))), "
                + "the image needs at least \(needed) (\(Size.text(needed)))"
        }
        for table in ["/proc/self/mounts", "/proc/swaps"] {
            guard let bytes = try? readAll(table) else { continue }
            for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") {
                let words = line.split(separator: " ")
                if let source = words.first, belongs(String(source)) {
                    let use = table.hasSuffix("swaps") ? "swap" : "mounted at \(words.count > 1 ? words[1] : "?")"
                    return "\(source) is in use: \(use)"
                }
            }
        }
        for folder in ["/sys/block/\(name)"] + partitions().map({ "/sys/block/\(name)/\($0)" }) {
            if let holder = (try? FileSystem.list("\(folder)/holders"))?.first {
                return "\(holder) (a volume, an array or an encrypted disk) uses it"
            }
        }
        return nil
    }

    /// What the operator can do about the ``obstacle(needed:)``.
    ///
    /// - Parameter needed: the image's size in bytes.
    func remedy(needed: Int) -> String {
        if !PartitionTable.sectorSizes.contains(sectorSize) { return "use a disk with sectors of 512 or 4096 bytes" }
        if size < needed { return "use a disk of \(needed) bytes (\(Size.text(needed))) or more" }
        return "end its use (umount, swapoff, vgchange -an, mdadm --stop; lsblk \(path) lists it), or use another disk"
    }

    /// True when both ends of the disk, where a partition table would be, are zero. Also true when
    /// an interrupted ``DiskWriter`` has written only the backup of a box's table.
    public var isBlank: Bool {
        guard let file = try? File(path), let first = try? file.read(1 << 20, at: 0),
            let last = try? file.read(1 << 20, at: max(0, size - (1 << 20)))
        else { return false }
        let isEmpty = !first.contains { $0 != 0 } && !last.contains { $0 != 0 }
        return isEmpty
            || (try? PartitionTable.read(file)) == nil
                && (try? PartitionTable.readBackup(file, size: size))?.isBox == true
    }

    /// The partition table on the disk; nil if there is none.
    public var table: PartitionTable? { (try? File(path)).flatMap { try? PartitionTable.read($0) } }

    private func partitions() -> [String] {
        ((try? FileSystem.list("/sys/block/\(name)")) ?? []).filter { $0.hasPrefix(name) }
    }

    private func belongs(_ source: String) -> Bool {
        var status = stat()
        guard source.hasPrefix("/dev/"), stat(source, &status) == 0 else { return false }
        let device = Int(status.st_rdev)
        let numbers = "\(device >> 8 & 0xFFF):\(device & 0xFF | device >> 12 & 0xFFF00)\n"
        return ([""] + partitions().map { "/\($0)" }).contains { part in
            (try? readAll("/sys/block/\(name)\(part)/dev")).map { String(decoding: $0, as: UTF8.self) } == numbers
        }
    }

    /// Files of /proc and /sys report no size.
    private func readAll(_ path: String) throws -> [UInt8] { try File(path).read(1 << 20, at: 0) }
}

extension String {
    fileprivate var trimmed: String {
        let start = drop { $0 == "\n" || $0 == " " }
        return String(
            start[..<(start.lastIndex { $0 != "\n" && $0 != " " }.map(start.index(after:)) ?? start.startIndex)])
    }
}
