import CSystem
import Disks
import Documents
import Files
import Glibc
import Slots

/// A box that was started from a stick, and the disks that it could install itself onto: the same bytes as on the stick, under identifiers of
/// their own, with the site document that lies on it.
public struct StickInstallation {
    /// A disk of the machine.
    public struct Candidate: Sendable {
        public var device: BlockDevice
        /// Why nothing may be written there; nil when something may.
        public var obstacle: String?
        /// What the stick holds is there already.
        public var isInstalled = false
    }

    private let stick: BlockDevice
    private let table: PartitionTable
    private let slot: String
    private let entry: BootEntry?
    /// Bytes of the root, and of it with its tree.
    private let rootBytes, slotBytes: Int

    /// - Throws: on a box that runs from its own disk.
    public init(places: Places = Places()) throws {
        guard Self.isStick(places), let disk = places.bootWord("disk"), let slot = places.bootWord("slot") else {
            throw EngineError(
                "this box runs from a disk of its own: only one that was started from a stick installs itself")
        }
        stick = try BlockDevice(disk)
        table = try PartitionTable.read(try File(disk))
        self.slot = slot
        entry = places.bootWord("entry").flatMap { BootEntry($0) }
        let line = String(decoding: try File("/proc/cmdline").read(4096, at: 0), as: UTF8.self)
        let word = line.split(whereSeparator: \.isWhitespace).first { $0.hasPrefix("vcpe.verity=") }
        guard let blocks = word?.dropFirst("vcpe.verity=".count).split(separator: ",").first.flatMap({ Int($0) }) else {
            throw EngineError("the kernel's command line names no verified root")
        }
        // Data, the superblock, and levels of hashes, 128 in a block, up to a single one.
        var (below, all) = (blocks, blocks + 1)
        repeat {
            below = (below + 127) / 128
            all += below
        } while below > 1
        (rootBytes, slotBytes) = (blocks * 4096, all * 4096)
    }

    /// PID 1 has left the data partition alone, since it is on something that is pulled out again.
    static func isStick(_ places: Places) -> Bool {
        places.bootWord("removable") == "yes" && places.bootWord("data") != "mounted"
    }

    /// Disks of this machine, the stick aside.
    public var candidates: [Candidate] {
        let names = ((try? FileSystem.list("/sys/block")) ?? []).filter { name in
            name != stick.name && !["loop", "ram", "dm-", "zram", "sr", "fd", "md"].contains { name.hasPrefix($0) }
        }
        return names.compactMap { name in
            guard let device = try? BlockDevice("/dev/\(name)"), device.size > 0 else { return nil }
            let obstacle = device.isRemovable ? "it is removable" : device.obstacle(needed: table.diskSize)
            return Candidate(device: device, obstacle: obstacle, isInstalled: isInstalled(on: device))
        }
    }

    /// The table comes last: where it stands, so does the rest.
    private func isInstalled(on device: BlockDevice) -> Bool {
        guard let disk = try? File(device.path), let other = try? PartitionTable.read(disk),
            other.partitions.map(\.name) == table.partitions.map(\.name), let own = table[slot], let its = other[slot],
            // What says whose root it is: the superblock of its tree, with the hashes at its top.
            let mine = try? File(stick.path).read(3 * 4096, at: own.offset + rootBytes),
            let theirs = try? disk.read(3 * 4096, at: its.offset + rootBytes)
        else { return false }
        return mine == theirs
    }

    /// The disk that is meant.
    ///
    /// - Parameter wish: `blank` for the only one on which nothing is, a name such as `sda`, or a serial number.
    public func choose(_ wish: String) throws -> Candidate {
        let all = candidates
        let shown = all.isEmpty ? "there is none beside the stick" : all.map(\.text).joined(separator: "; ")
        let fitting =
            wish == "blank"
            ? all.filter { $0.obstacle == nil && $0.device.isBlank }
            : all.filter { $0.device.name == wish || !wish.isEmpty && $0.device.serial == wish }
        guard fitting.count == 1, let found = fitting.first else {
            let done = all.filter(\.isInstalled)
            if wish == "blank", fitting.isEmpty, done.count == 1, let there = done.first { return there }
            throw EngineError(
                fitting.isEmpty
                    ? "no disk is \(wish == "blank" ? "blank" : "called \"\(wish)\" or has that serial number"): \(shown)"
                    : "\(fitting.count) disks are \(wish): \(shown)")
        }
        if let obstacle = found.obstacle {
            throw EngineError("nothing is written to \(found.device.path): \(obstacle)")
        }
        return found
    }

    /// Writes all of it, and reads it back.
    ///
    /// - Parameter say: what people are told on the way.
    public func install(onto device: BlockDevice, say: (String) -> Void) throws {
        guard let esp = table["esp"], let root = table[slot] else {
            throw EngineError("the stick's table lacks \(slot)")
        }
        let source = try File(stick.path)
        let end = try FATUsage.end(of: source, at: esp.offset)
        let tree = root.offset + rootBytes
        var writer = try DiskWriter(
            [
                .init(source, from: esp.offset, to: esp.offset..<esp.offset + min(end, esp.size)),
                // As verity gives it: a block that the stick has lost ends this here, and is written nowhere.
                .init(try File("/dev/dm-0"), from: 0, to: root.offset..<tree),
                .init(source, from: tree, to: tree..<root.offset + slotBytes),
            ], table: table, to: device)
        var last = ""
        let entry = entry
        try writer.run(
            finish: { partition in
                var boot = try BootPartition(partition)
                // Of other releases only this one's root is there.
                if let entry, boot.entries.count > 1 { try boot.keepOnly(entry.number) }
            },
            progress: { phase, done, total in
                let text = "\(device.path): \(phase.rawValue), \(done * 10 / max(total, 1) * 10) %"
                if text != last { say(text) }
                last = text
            })
    }

    /// Waits until the stick is gone, and has the box restart: from the disk then.
    public func restartWithoutStick() {
        while FileSystem.exists("/sys/block/\(stick.name)") { usleep(500_000) }
        kill(1, SIGTERM)
    }
}

extension StickInstallation.Candidate {
    /// A line for people.
    public var text: String {
        device.summary + (isInstalled ? ", holds this release already" : "")
            + (obstacle.map { ": can't be taken, \($0)" } ?? "")
    }

    public var json: JSON {
        [
            "name": .text(device.name), "model": .text(device.model), "serial": .text(device.serial),
            "bytes": .integer(device.size), "obstacle": obstacle.map { .text($0) } ?? .null,
            "installed": .boolean(isInstalled),
        ]
    }
}
