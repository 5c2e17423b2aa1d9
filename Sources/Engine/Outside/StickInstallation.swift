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
        public var content: Content

        public enum Content: Sendable { case nothing, something, anotherBox, thisRelease }
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
        guard let blocks = try KernelCommandLine().verifiedRoot?.dataBlocks else {
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
    static func isStick(_ places: Places) -> Bool { places.bootWord("stick") == "yes" }

    /// Disks of this machine, the stick aside.
    public var candidates: [Candidate] {
        let names = ((try? FileSystem.list("/sys/block")) ?? []).filter { name in
            name != stick.name && !["loop", "ram", "dm-", "zram", "sr", "fd", "md"].contains { name.hasPrefix($0) }
        }
        return names.compactMap { name in
            guard let device = try? BlockDevice("/dev/\(name)"), device.size > 0 else { return nil }
            let needed = DiskWriter.needed(for: table)
            return Candidate(
                device: device, obstacle: device.isRemovable ? "it is removable" : device.obstacle(needed: needed),
                content: content(of: device))
        }
    }

    /// The table comes last: where it stands, so does the rest.
    private func content(of device: BlockDevice) -> Candidate.Content {
        guard let disk = try? File(device.path), let other = device.table else {
            return device.isBlank ? .nothing : .something
        }
        guard other.isBox else { return .something }
        // What says whose root it is: the superblock of its tree, with the hashes at its top.
        guard let own = table[slot], let its = other[slot],
            let mine = try? File(stick.path).read(3 * 4096, at: own.offset + rootBytes),
            let theirs = try? disk.read(3 * 4096, at: its.offset + rootBytes), mine == theirs
        else { return .anotherBox }
        return .thisRelease
    }

    /// A disk that somebody names who looks at a list of them, by its name or its serial number.
    public func named(_ text: String) throws -> Candidate {
        let all = candidates
        let fitting = all.filter { $0.device.name == text || !text.isEmpty && $0.device.serial == text }
        guard fitting.count == 1, let found = fitting.first else {
            throw EngineError(
                "\(fitting.isEmpty ? "no disk is" : "\(fitting.count) disks are") called \"\(text)\": \(Self.list(all))"
            )
        }
        if let obstacle = found.obstacle {
            throw EngineError("nothing is written to \(found.device.path): \(obstacle)")
        }
        return found
    }

    /// The disk that a document wants, with nobody there to ask: another box's is never taken.
    ///
    /// - Parameter wish: `blank` for the only one on which nothing is, or a serial number.
    public func wanted(_ wish: String) throws -> Candidate {
        let all = candidates
        let done = all.filter { $0.content == .thisRelease && (wish == "blank" || $0.device.serial == wish) }
        if done.count == 1 { return done[0] }
        let fitting = all.filter {
            wish == "blank" ? $0.obstacle == nil && $0.content == .nothing : $0.device.serial == wish
        }
        guard fitting.count == 1, let found = fitting.first else {
            let what = wish == "blank" ? "blank" : "of the serial number \(wish)"
            throw EngineError(
                "\(fitting.isEmpty ? "no disk is" : "\(fitting.count) disks are") \(what): \(Self.list(all))")
        }
        if let obstacle = found.obstacle {
            throw EngineError("nothing is written to \(found.device.path): \(obstacle)")
        }
        guard found.content != .anotherBox else {
            throw EngineError(
                "nothing is written to \(found.device.path): a box runs from it, and somebody must want it: vcpectl install-disk \(found.device.name)"
            )
        }
        return found
    }

    private static func list(_ candidates: [Candidate]) -> String {
        candidates.isEmpty ? "there is none beside the stick" : candidates.map(\.text).joined(separator: "; ")
    }

    /// Writes all of it, and reads it back.
    ///
    /// - Parameter say: what people are told on the way.
    public func install(onto device: BlockDevice, say: (String) -> Void) throws {
        // Whoever upgrades the stick meanwhile would change what is read.
        let lock = try BoxDisk.lock()
        defer { withExtendedLifetime(lock) {} }
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
        // From a service PID 1 takes a request, and no signal.
        do { try InitClient().tell("reboot") } catch { Log.say("\(error)") }
    }
}

extension StickInstallation.Candidate {
    /// A line for people.
    public var text: String { "\(device.summary): \(state)" }

    /// What is on it, or why it can't be taken.
    public var state: String {
        if let obstacle { return "can't be taken, \(obstacle)" }
        return switch content {
        case .nothing: "blank"
        case .something: "holds something"
        case .anotherBox: "a box runs from it"
        case .thisRelease: "holds this release already"
        }
    }

    public var json: JSON {
        [
            "name": .text(device.name), "model": .text(device.model), "serial": .text(device.serial),
            "bytes": .integer(device.size), "state": .text(state), "can-be-taken": .boolean(obstacle == nil),
        ]
    }
}
