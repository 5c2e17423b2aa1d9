import Checksums
import Digests
import Disks
import Documents
@testable import Engine
import Files
import Glibc
import ImageBuilder
import Processes
@testable import Slots
import TestSupport

/// A box's disk in a whole upgrade, as QEMU has written down what reached it, and what a cut of power leaves of it: looked at without a start.
final class RecordedUpgrade {
    /// What was written at once, in the order in which it reached the disk.
    let writes: [(log: LoggedWrites, entry: LoggedWrites.Entry)]
    /// Some of what is not surely on the disk: bytes of a write.
    typealias Piece = (write: Int, bytes: Range<Int>)

    /// All that is surely there, as far as ``cut(at:_:_:)`` has come.
    private let disk: File
    private let table: PartitionTable
    private let folder: String
    /// What was found of a part of the disk to which nothing was written since.
    private var known: [String: Finding] = [:]
    private var flushed = 0
    /// Versions by the digests of their kernel images, and what their roots are.
    private var kernels: [Digest: String] = [:]
    private var roots: [String: (size: Int, digest: Digest)] = [:]
    /// What stands on the box.
    private let document: String
    /// What of ``disk`` holds something; nil when it has changed since.
    private var extents: [Range<Int>]?
    /// Other files of the boot partition, which no upgrade changes.
    private var others: [String: [UInt8]] = [:]

    private struct Finding {
        var complaint: String?
        /// The releases that are there; of the boot partition, those that the loader may start.
        var versions: Set<String> = []
        /// What counts up on the disk, and never back.
        var counts: [String: Int] = [:]
    }

    /// - Parameters:
    ///   - logs: of its starts, in their order.
    ///   - disk: as it was before; it is changed.
    ///   - releases: by their versions, all that were ever on it.
    ///   - folder: in memory, for parts of the disk.
    ///   - document: words of the box's document.
    init(
        _ logs: [String], on disk: String, releases: [String: BuiltImage], in folder: String, document: String
    ) throws {
        writes = try logs.map { try LoggedWrites($0) }.flatMap { log in log.entries.map { (log, $0) } }
        self.disk = try File(disk, O_RDWR)
        table = try PartitionTable.read(self.disk)
        (self.folder, self.document) = (folder, document)
        for (version, image) in releases {
            kernels[SHA256.hash(try FileSystem.read(image.uki))] = version
            let root = try FileSystem.read(image.root)
            roots[version] = (root.count, SHA256.hash(root))
        }
    }

    /// Where something of a partition is written.
    func writes(to partition: String) -> [Int] {
        guard let part = table[partition] else { return [] }
        return writes.indices.filter { writes[$0].entry.range.overlaps(part.offset..<part.offset + part.size) }
    }

    // MARK: - Cuts

    enum Loss {
        /// Power fails right behind a write.
        case none
        /// Of the writes since the last flush, some are not there.
        case writes
        /// Of their sectors, some are not there.
        case sectors
    }

    /// What came since the last flush when power fails at a place, which is never before the last one's.
    func cut(at place: Int, _ loss: Loss, _ random: inout Random) throws -> [Piece] {
        let last = writes[..<place].lastIndex { $0.entry.isFlush }.map { $0 + 1 } ?? 0
        while flushed < last {
            let (log, entry) = writes[flushed]
            try log.apply(entry, to: disk)
            for (name, part) in parts where part.overlaps(entry.range) { known[name] = nil }
            extents = nil
            flushed += 1
        }
        var pieces: [Piece] = []
        for write in flushed..<place {
            let count = writes[write].entry.count
            switch loss {
            case .none: pieces.append((write, 0..<count))
            case .writes: if random.next(2) == 0 { pieces.append((write, 0..<count)) }
            case .sectors:
                for start in stride(from: 0, to: count, by: 512) where random.next(2) == 0 {
                    pieces.append((write, start..<min(start + 512, count)))
                }
            }
        }
        return pieces
    }

    /// Makes a disk that holds what a cut of power leaves.
    func make(_ path: String, _ pieces: [Piece]) throws {
        try FileSystem.remove(path)
        try Command("cp", ["--sparse=always", disk.path, path]).check()
        try write(pieces, to: File(path, O_RDWR), from: 0)
    }

    private func write(_ pieces: [Piece], to file: File, from start: Int) throws {
        for piece in pieces {
            let (log, entry) = writes[piece.write]
            try file.write(try log.read(entry, piece.bytes), at: entry.offset + piece.bytes.lowerBound - start)
        }
    }

    private func range(of piece: Piece) -> Range<Int> {
        let start = writes[piece.write].entry.offset
        return start + piece.bytes.lowerBound..<start + piece.bytes.upperBound
    }

    // MARK: - Looking

    /// Of a root, as much as any release has.
    private var parts: [(name: String, range: Range<Int>)] {
        [("table", 0..<34 * 512)]
            + table.partitions.map { part in
                let size = part.name.hasPrefix("root") ? roots.values.map(\.size).max() ?? 0 : part.size
                return (part.name, part.offset..<part.offset + size)
            }
    }

    /// What is wrong with what a cut of power leaves: nothing, if the disk has its partitions, each kernel image is whole, those that the loader may start have their
    /// roots, one of them was found good, and the partitions for state and data hold what they held.
    func complaint(_ pieces: [Piece]) throws -> String? {
        var startable: Set<String> = []
        for (name, look) in [
            ("table", lookAtTable), ("esp", lookAtBoot), ("state", lookAtState), ("data", lookAtData),
        ] {
            let sure = try find(name, [], look).counts
            let finding = try find(name, pieces, look)
            if let complaint = finding.complaint { return "\(name): \(complaint)" }
            for (what, count) in sure where finding.counts[what] ?? -1 < count {
                return "\(name): \(what) is \(finding.counts[what] ?? -1), and was \(count)"
            }
            if name == "esp" { startable = finding.versions }
        }
        for slot in ["root-a", "root-b"] where !startable.isEmpty {
            startable.subtract(try find(slot, pieces, lookAtRoot).versions)
        }
        return startable.isEmpty ? nil : "no slot has the root of \(startable.sorted().joined(separator: ", "))"
    }

    private func find(_ name: String, _ pieces: [Piece], _ look: (File) throws -> Finding) throws -> Finding {
        guard let part = parts.first(where: { $0.name == name })?.range else {
            return Finding(complaint: "there is no such partition")
        }
        let own = pieces.filter { part.overlaps(range(of: $0)) }
        if own.isEmpty, let finding = known[name] { return finding }
        let file = try File("\(folder)/\(name)", O_RDWR | O_CREAT | O_TRUNC)
        try file.resize(to: part.count)
        for extent in try extents(in: part) {
            try file.copy(
                from: disk, at: extent.lowerBound, count: extent.count, to: extent.lowerBound - part.lowerBound)
        }
        try write(own, to: file, from: part.lowerBound)
        let finding = try look(file)
        if own.isEmpty { known[name] = finding }
        return finding
    }

    /// Most of a partition is empty.
    private func extents(in part: Range<Int>) throws -> [Range<Int>] {
        let all = try extents ?? Sparse.extents(of: disk, unit: 1 << 18).map { $0.offset..<$0.offset + $0.count }
        extents = all
        return all.filter { $0.overlaps(part) }.map { $0.clamped(to: part) }
    }

    private func lookAtTable(_ file: File) throws -> Finding {
        do { return Finding(complaint: try PartitionTable.read(file).isBox ? nil : "not a box's") } catch {
            return Finding(complaint: "\(error)")
        }
    }

    /// As the loader finds it, and as the next upgrade repairs it.
    private func lookAtBoot(_ file: File) throws -> Finding {
        var finding = Finding()
        do {
            var partition = try BootPartition(file)
            for isRepaired in [false, true] {
                if isRepaired { try partition.repair() }
                let state = isRepaired ? "repaired" : "as it is"
                guard partition.entries.contains(where: \.isGood) else {
                    return Finding(complaint: "\(state): no good entry")
                }
                for entry in partition.entries {
                    let image = try partition.image(of: entry)
                    guard let version = kernels[SHA256.hash(try image.read(image.size, at: 0))] else {
                        return Finding(complaint: "\(state): \(entry.fileName) is not whole")
                    }
                    if !entry.isBad { finding.versions.insert(version) }
                }
            }
            let good = partition.entries.filter(\.isGood).map { "efi /EFI/Linux/\($0.fileName)" }
            let reset = String(decoding: try read(file, "loader/entries/factory-reset.conf"), as: UTF8.self)
            guard reset.split(separator: "\n").contains(where: { good.contains(String($0)) }) else {
                return Finding(complaint: "the entry for a factory reset names no good release")
            }
            for name in ["EFI/BOOT/BOOTX64.EFI", "EFI/systemd/systemd-bootx64.efi", "loader/loader.conf"] {
                let bytes = try read(file, name)
                guard others[name, default: bytes] == bytes else { return Finding(complaint: "\(name) is another") }
                others[name] = bytes
            }
        } catch { return Finding(complaint: "\(error)") }
        let check = try Command("fsck.vfat", ["-n", file.path]).run()
        return check.status == 0 ? finding : Finding(complaint: check.text)
    }

    private func read(_ partition: File, _ path: String) throws -> [UInt8] {
        let room = try FATVolume(partition).contents(of: path)
        return try room.read(room.size, at: 0)
    }

    private func lookAtRoot(_ file: File) throws -> Finding {
        var finding = Finding()
        for (version, root) in roots {
            var hash = SHA256()
            var left = root.size
            while left > 0 {
                let bytes = try file.read(min(left, 1 << 20), at: root.size - left)
                guard !bytes.isEmpty else { break }
                hash.update(bytes)
                left -= bytes.count
            }
            if hash.finish() == root.digest { finding.versions.insert(version) }
        }
        return finding
    }

    /// One of its two records is whole: they are written in turn.
    private func lookAtState(_ file: File) throws -> Finding {
        let sequences = try [0, 4096].compactMap { place -> Int? in
            let record = try file.read(4096, at: place)
            guard record.starts(with: Array("vcpestat".utf8)),
                CRC32.iso(record[..<4092]) == record.integer(at: 4092, UInt32.self)
            else { return nil }
            return record.integer(at: 8, UInt64.self).map { Int(clamping: $0) }
        }
        guard let newest = sequences.max() else { return Finding(complaint: "no whole record") }
        return Finding(counts: ["record": newest])
    }

    /// As the box does at its start, by e2fsck; then its commits, and what else it remembers.
    private func lookAtData(_ file: File) throws -> Finding {
        var check = try Command("e2fsck", ["-p", file.path]).run()
        if check.status == 8 { check = try Command("e2fsck", ["-p", "-b", "8193", "-B", "1024", file.path]).run() }
        guard check.status <= 1 else { return Finding(complaint: check.text) }
        let copy = "\(folder)/files"
        try FileSystem.remove(copy)
        try FileSystem.makeDirectory(copy)
        try Command("debugfs", ["-R", "rdump /vcpe \(copy)", file.path]).check()
        do {
            let store = CommitStore(folder: "\(copy)/vcpe/commits", release: nil)
            guard let number = try store.head().commit, try store.commit(number).site.contains(document) else {
                return Finding(complaint: "the box's document does not stand")
            }
            for number in store.numbers { _ = try store.commit(number) }
            var counts = ["commit": number]
            func content(_ name: String) throws -> [UInt8]? {
                let path = "\(copy)/vcpe/upgrade/\(name)"
                return FileSystem.exists(path) ? try FileSystem.read(path) : nil
            }
            for name in ["tuf/root.json", "tuf/timestamp.json", "tuf/snapshot.json"] {
                guard let bytes = try content(name) else { continue }
                counts[name] = try JSON.parse(bytes)["signed"]?["version"]?.integer ?? 0
            }
            if let bytes = try content("known") {
                let known = try JSON.parse(bytes)
                counts["ran"] = known["ran"]?.integer ?? 0
                counts["floor"] = known["floor"]?["released"]?.integer ?? 0
            }
            // An upgrade that has come to its end is noted no more.
            if let bytes = try content("installed") { _ = try JSON.parse(bytes) }
            if let bytes = try content("history") {
                let lines = String(decoding: bytes, as: UTF8.self).split(separator: "\n")
                counts["history"] = lines.count
                for line in lines { _ = try JSON.parse(Array(line.utf8)) }
            }
            if let bytes = try content("time") { counts["time"] = Int(String(decoding: bytes, as: UTF8.self)) ?? -1 }
            return Finding(counts: counts)
        } catch { return Finding(complaint: "\(error)") }
    }
}
