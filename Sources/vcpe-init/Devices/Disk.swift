import CSystem
import Checksums
import Glibc

/// A disk with the box's partitions on it.
struct Disk {
    struct Partition {
        var name: String
        /// 16 bytes, as on disk.
        var guid: [UInt8]
        /// Counts from 1.
        var number: Int
        /// In the disk's own sectors.
        var first: Int
        var last: Int
    }

    /// As in /sys/class/block.
    let name: String
    let path: String
    var partitions: [Partition] = []
    /// Bytes.
    let size: Int
    /// The table as read, from whichever copy is whole.
    private var header: [UInt8] = []
    private var entries: [UInt8] = []
    /// Bytes of a logical sector, the unit of the table's numbers: 512, or 4096 on a "4Kn" disk.
    private var sectorSize = 512
    /// The first copy of the table is damaged; the backup was read.
    private(set) var isPrimaryBroken = false

    /// The names that every box's disk has.
    static let names = ["esp", "state", "root-a", "root-b", "data"]

    /// Reads the partition table; nil for a disk that isn't a box's.
    init?(_ name: String) {
        self.name = name
        path = "/dev/\(name)"
        let file = open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return nil }
        defer { close(file) }
        size = Int(csystem_device_size(file))
        guard size > 1 << 20 else { return nil }
        // The backup is as good: power may fail while the first is written.
        let sectorSizes = [512, 4096]
        if !sectorSizes.contains(where: { read(file, sectorSize: $0, header: $0) }) {
            isPrimaryBroken = true
            let size = size
            guard sectorSizes.contains(where: { read(file, sectorSize: $0, header: size - $0) }) else { return nil }
        }
        guard Self.names.allSatisfy({ self[$0] != nil }) else { return nil }
    }

    subscript(name: String) -> Partition? { partitions.first { $0.name == name } }

    /// The partition's device node: `vda3`, `nvme0n1p3`.
    func device(_ partition: Partition) -> String {
        let separator = name.last.map(\.isNumber) == true ? "p" : ""
        return "\(path)\(separator)\(partition.number)"
    }

    private mutating func read(_ file: Int32, sectorSize: Int, header offset: Int) -> Bool {
        let header = Bytes.read(file, 512, at: offset)
        guard header.starts(with: Array("EFI PART".utf8)),
            let size = Bytes.integer(header, 12, UInt32.self).map(Int.init),
            size >= 92, size <= 512, let checksum = Bytes.integer(header, 16, UInt32.self)
        else { return false }
        var cleared = Array(header[..<size])
        cleared.replaceSubrange(16..<20, with: [0, 0, 0, 0])
        guard CRC32.iso(cleared) == checksum, let start = Bytes.integer(header, 72, UInt64.self),
            let count = Bytes.integer(header, 80, UInt32.self), let entrySize = Bytes.integer(header, 84, UInt32.self),
            entrySize >= 128, entrySize <= 1024, count <= 1024,
            let entriesChecksum = Bytes.integer(header, 88, UInt32.self)
        else { return false }
        let entries = Bytes.read(file, Int(count * entrySize), at: Int(clamping: start) &* sectorSize)
        guard entries.count == Int(count * entrySize), CRC32.iso(entries) == entriesChecksum else { return false }
        (self.header, self.entries, self.sectorSize) = (header, entries, sectorSize)
        partitions = []
        for i in 0..<Int(count) {
            let entry = Array(entries[(i * Int(entrySize))..<(i * Int(entrySize) + 128)])
            guard entry[..<16].contains(where: { $0 != 0 }), let first = Bytes.integer(entry, 32, UInt64.self),
                let last = Bytes.integer(entry, 40, UInt64.self)
            else { continue }
            let units = stride(from: 56, to: 128, by: 2).map { UInt16(entry[$0]) | UInt16(entry[$0 + 1]) << 8 }
            // Beyond this a sector's number in bytes would not fit.
            guard first <= last, last < 1 << 52 else { continue }
            partitions.append(
                Partition(
                    name: String(decoding: units.prefix { $0 != 0 }, as: UTF16.self), guid: Array(entry[16..<32]),
                    number: i + 1, first: Int(clamping: first), last: Int(clamping: last)))
        }
        return true
    }

    /// All disks of boxes that the kernel knows now.
    static func all() -> [Disk] {
        Text.list("/sys/class/block").filter { name in
            access("/sys/class/block/\(name)/partition", F_OK) != 0
                && !["loop", "ram", "dm-", "zram", "sr"].contains { name.hasPrefix($0) }
        }.compactMap { Disk($0) }
    }

    var isRemovable: Bool { Text.read("/sys/class/block/\(name)/removable").hasPrefix("1") }

    /// Extends the last partition, data, to the disk's end: in the table, backup first, and in the kernel. A first copy
    /// of the table that power failed upon is made anew.
    ///
    /// - Returns: false when there was nothing to do.
    mutating func growData() throws(Failure) -> Bool {
        guard let index = partitions.firstIndex(where: { $0.name == "data" }),
            partitions.allSatisfy({ $0.last <= partitions[index].last })
        else { return false }
        let sectors = size / sectorSize
        let entrySectors = entries.count / sectorSize
        let mebibyte = (1 << 20) / sectorSize
        // A whole MiB, before the table's backup.
        let last = (sectors - entrySectors - 2) / mebibyte * mebibyte - 1
        guard last > partitions[index].last || isPrimaryBroken else { return false }
        guard entries.count == 128 * 128, header.count == 512 else { return false }
        let file = open(path, O_RDWR | O_CLOEXEC)
        guard file >= 0 else { throw Failure("open", path) }
        defer { close(file) }
        var header = header
        var entries = entries
        let entry = (partitions[index].number - 1) * 128
        guard entry >= 0, entry + 128 <= entries.count else { return false }
        Bytes.put(UInt64(max(last, partitions[index].last)), &entries, entry + 40)
        func table(at sector: Int, other: Int, entriesAt: Int) -> [UInt8] {
            Bytes.put(UInt64(sector), &header, 24)
            Bytes.put(UInt64(other), &header, 32)
            Bytes.put(UInt64(sectors - entrySectors - 2), &header, 48)
            Bytes.put(UInt64(entriesAt), &header, 72)
            Bytes.put(CRC32.iso(entries), &header, 88)
            Bytes.put(UInt32(0), &header, 16)
            Bytes.put(CRC32.iso(Array(header[..<92])), &header, 16)
            return header
        }
        let writes: [(Int, [UInt8])] = [
            (sectors - 1 - entrySectors, entries),
            (sectors - 1, table(at: sectors - 1, other: 1, entriesAt: sectors - 1 - entrySectors)),
            (2, entries), (1, table(at: 1, other: sectors - 1, entriesAt: 2)),
        ]
        for (i, (sector, bytes)) in writes.enumerated() {
            guard Bytes.write(file, bytes, at: sector * sectorSize) else { throw Failure("pwrite", path) }
            if i % 2 == 1, fsync(file) != 0 { throw Failure("fsync", path) }
        }
        isPrimaryBroken = false
        partitions[index].last = max(last, partitions[index].last)
        let (first, end, number) = (partitions[index].first, partitions[index].last, partitions[index].number)
        guard
            csystem_resize_partition(
                file, Int32(number), Int64(first) * Int64(sectorSize),
                Int64(end - first + 1) * Int64(sectorSize)) == 0
        else { throw Failure("BLKPG_RESIZE_PARTITION", path) }
        return true
    }
}

/// Reading and writing at places of a device.
enum Bytes {
    static func read(_ file: Int32, _ count: Int, at offset: Int) -> [UInt8] {
        guard count > 0, count <= 64 << 20 else { return [] }
        var bytes = [UInt8](repeating: 0, count: count)
        var done = 0
        while done < count {
            let got = bytes.withUnsafeMutableBytes { buffer in
                pread(file, buffer.baseAddress.map { $0 + done }, count - done, off_t(offset + done))
            }
            if got < 0, errno == EINTR { continue }
            if got <= 0 { break }
            done += got
        }
        return Array(bytes[..<done])
    }

    static func write(_ file: Int32, _ bytes: [UInt8], at offset: Int) -> Bool {
        var done = 0
        while done < bytes.count {
            let count = bytes.withUnsafeBytes { buffer in
                pwrite(file, buffer.baseAddress.map { $0 + done }, bytes.count - done, off_t(offset + done))
            }
            if count < 0, errno == EINTR { continue }
            if count <= 0 { return false }
            done += count
        }
        return true
    }

    static func integer<Value: FixedWidthInteger>(_ bytes: [UInt8], _ offset: Int, _: Value.Type) -> Value? {
        guard offset >= 0, offset + MemoryLayout<Value>.size <= bytes.count else { return nil }
        return (0..<MemoryLayout<Value>.size).reduce(0) {
            $0 | Value(truncatingIfNeeded: bytes[offset + $1]) << Value(8 * $1)
        }
    }

    static func put<Value: FixedWidthInteger>(_ value: Value, _ bytes: inout [UInt8], _ offset: Int) {
        for i in 0..<MemoryLayout<Value>.size where offset + i < bytes.count {
            bytes[offset + i] = UInt8(truncatingIfNeeded: value >> Value(8 * i))
        }
    }
}
