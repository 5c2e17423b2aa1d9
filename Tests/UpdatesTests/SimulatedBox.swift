import Digests
import Documents
import Files
import Glibc
import ImageBuilder
import Processes
@testable import Releases
import Slots
import TestSupport
@testable import Updates

/// A release for a ``SimulatedBox``: a small root with its tree, and bytes in place of a kernel
/// image.
struct SimulatedRelease {
    enum Quality: String, CaseIterable { case good, panics, unwell }

    let version: String
    let quality: Quality
    let root: [UInt8]
    let uki: [UInt8]
    let layout: VerityLayout
    let available: AvailableRelease
    /// Custom data that is signed beside length and hash of its files.
    let custom: JSON
    /// Its files in the repository.
    let files: [String: [UInt8]]

    /// Makes releases, each with patches from the one before.
    ///
    /// - Parameter areUnlike: no block is in two releases, but the blocks of one release resemble
    ///   each other.
    static func make(
        _ qualities: [Quality], areUnlike: Bool = false, in folder: String
    ) async throws -> [SimulatedRelease] {
        var made: [SimulatedRelease] = []
        for (number, quality) in qualities.enumerated() {
            let version = "1.0.\(number)"
            let place = "\(folder)/\(version)"
            try FileSystem.makeDirectory(place)
            let root = try File("\(place)/root", O_RDWR | O_CREAT | O_TRUNC)
            for block in 0..<24 {
                // A few blocks are the release's own.
                let isOwn = areUnlike || block % 8 == 3
                var random = Random(seed: UInt64(isOwn ? 1000 * number + block : block))
                var bytes = (0..<VerityLayout.blockSize).map { _ in UInt8(random.next(256)) }
                if areUnlike {
                    random = Random(seed: UInt64(number))
                    for i in 0..<bytes.count / 2 { bytes[i] = UInt8(random.next(256)) }
                }
                try root.write(bytes, at: block * VerityLayout.blockSize)
            }
            let verity = try await Verity.append(
                to: root, at: 0, size: 24 * VerityLayout.blockSize, salt: [UInt8](repeating: 7, count: 32))
            let uki = try File("\(place)/uki", O_RDWR | O_CREAT | O_TRUNC)
            try uki.write((0..<9000).map { UInt8(truncatingIfNeeded: $0 >> 6) }, at: 0)
            try uki.write(Array("root \(verity.rootHash.hex) of \(version)".utf8), at: 9000)
            let tree = try await FileTree.copy(uki, "\(place)/uki.tree", like: root)
            try BlockDelta.make(of: root, to: "\(place)/root.blocks", level: 1)
            try BlockDelta.make(of: tree, to: "\(place)/uki.blocks", level: 1)
            try PatchDelta.make(from: nil, to: root, path: "\(place)/root.zst", level: 1)
            var names = ["root.blocks", "uki.blocks", "root.zst"]
            if let old = made.last {
                for part in ["root", "uki"] {
                    let name = "\(part).from-\(old.version).patch"
                    try PatchDelta.make(
                        from: File("\(folder)/\(old.version)/\(part)"), to: part == "root" ? root : uki,
                        path: "\(place)/\(name)", level: 1)
                    names.append(name)
                }
            }
            let (rootBytes, ukiBytes) = (try root.readAll(), try uki.readAll())
            let custom: JSON = [
                "version": .text(version), "released": .integer(1000 + number), "architecture": "amd64",
                "root-hash": .text(verity.rootHash.hex), "root-sha256": .text(SHA256.hash(rootBytes).hex),
                "root-bytes": .integer(rootBytes.count), "uki-tree-hash": .text(try FileTree.top(of: tree).hex),
                "uki-tree-bytes": .integer(Int(try tree.status().st_size)),
            ]
            let manifest: JSON = ["length": 0, "hashes": ["sha256": ""], "custom": custom]
            var metas = ["manifest": try FileMeta(manifest, name: "manifest", isTarget: true)]
            var files: [String: [UInt8]] = [:]
            func sign(_ name: String, _ bytes: [UInt8], _ index: Digest? = nil) throws {
                let json: JSON = [
                    "length": .integer(bytes.count), "hashes": ["sha256": .text(SHA256.hash(bytes).hex)],
                    "custom": .object(["index-sha256": index.map { .text($0.hex) }]),
                ]
                metas[name] = try FileMeta(json, name: name, isTarget: true)
            }
            try sign("uki.efi", ukiBytes)
            for name in names {
                let bytes = try FileSystem.read("\(place)/\(name)")
                files[name] = bytes
                try sign(name, bytes, try PatchDelta.index(of: File("\(place)/\(name)")))
            }
            guard let available = AvailableRelease(path: "stable/box/virtio/\(version)", files: metas) else {
                throw UpdateFailure(.malformed, version, "no release")
            }
            made.append(
                SimulatedRelease(
                    version: version, quality: quality, root: rootBytes, uki: ukiBytes,
                    layout: try VerityLayout(file: root), available: available, custom: custom, files: files))
        }
        return made
    }
}

/// A box's disk in memory, with what the loader and PID 1 do to it, and power that may fail.
final class SimulatedBox {
    static let espBytes = 34 << 20
    static let slotBytes = 256 << 10

    /// Part of the disk.
    struct Region: RandomAccess {
        let disk: RecordedDisk
        let offset: Int
        let size: Int
        var path: String { disk.path }
        func read(_ count: Int, at place: Int) -> [UInt8] {
            disk.read(min(count, max(0, size - place)), at: offset + place)
        }
        func write(_ bytes: [UInt8], at place: Int) throws(SystemError) {
            guard place + bytes.count <= size else { throw SystemError("pwrite", path, code: ENOSPC) }
            try disk.write(bytes, at: offset + place)
        }
        func sync() { disk.sync() }
    }

    let releases: [SimulatedRelease]
    private(set) var disk: RecordedDisk
    /// The running release (its index in ``releases``), its entry and its slot.
    private(set) var running: (release: Int, entry: Int, slot: Int)
    private(set) var cuts = 0
    /// Its configuration and engines; nil if a test is about disks only.
    var site: SimulatedSite?

    var esp: Region { Region(disk: disk, offset: 0, size: Self.espBytes) }
    func slot(_ number: Int) -> Region {
        Region(disk: disk, offset: Self.espBytes + number * Self.slotBytes, size: Self.slotBytes)
    }

    /// The first release is on the disk.
    init(_ releases: [SimulatedRelease], in folder: String) throws {
        self.releases = releases
        let path = "\(folder)/esp"
        try File(path, O_RDWR | O_CREAT | O_TRUNC).resize(to: Self.espBytes)
        try Command("mkfs.vfat", ["--invariant", "-F", "32", "-n", "ESP", "-s", "1", path]).check()
        try Command("mmd", ["-i", path, "::EFI", "::EFI/Linux", "::loader", "::loader/entries"]).check()
        for (name, bytes) in [
            ("EFI/Linux/vcpe-1.efi", releases[0].uki),
            ("loader/entries/factory-reset.conf", Array("title reset\nefi /EFI/Linux/vcpe-1.efi\n".utf8)),
        ] {
            try FileSystem.replace("\(path).file", with: bytes)
            try Command("mcopy", ["-i", path, "\(path).file", "::\(name)"]).check()
        }
        let root = releases[0].root + [UInt8](repeating: 0, count: Self.slotBytes - releases[0].root.count)
        disk = RecordedDisk(try FileSystem.read(path) + root + [UInt8](repeating: 0xE5, count: Self.slotBytes))
        running = (0, 1, 0)
    }

    /// Changes the disk; power may fail meanwhile.
    ///
    /// - Returns: false if power failed.
    private func power(_ random: inout Random, failsOneIn: Int, _ body: () throws -> Void) throws -> Bool {
        let before = disk.read(Self.espBytes + 2 * Self.slotBytes, at: 0)
        disk = RecordedDisk(before)
        var (isCut, failure) = (false, nil as (any Error)?)
        do { try body() } catch { failure = error }
        if random.next(failsOneIn) == 0 {
            disk = RecordedDisk.cut(disk.events, random: &random).over(before)
            (isCut, cuts) = (true, cuts + 1)
        } else if let failure {
            throw failure
        }
        return !isCut
    }

    /// A state that must not occur.
    struct Broken: Error, CustomStringConvertible { var description: String }

    /// Boots the box as loader and PID 1 do, until a healthy release runs.
    func start(_ random: inout Random, failsOneIn: Int) throws {
        var (bad, log) = (0, [String]())
        while bad < 2 * BootPartition.tries {
            // The loader: the highest number among the entries that may be tried; it counts before
            // it boots.
            let entries = try BootPartition(esp).entries
            let preferred = entries.filter { !$0.isBad }.last ?? entries.last
            guard var entry = preferred else { throw Broken(description: "no entry is left: \(log)") }
            if let left = entry.triesLeft, left > 0 {
                let counted = BootEntry(number: entry.number, triesLeft: left - 1, triesDone: entry.triesDone + 1)
                // The firmware's rename counts as one write: the old name or the new one. With both
                // names the loader cannot count (docs/upgrades.md).
                let (isDone, isWritten) = (random.next(failsOneIn) != 0, random.next(2) == 0)
                if isDone || isWritten {
                    var volume = try FATVolume(esp)
                    try volume.rename("EFI/Linux/\(entry.fileName)", to: counted.fileName)
                }
                if !isDone { cuts += 1 }
                log.append("\(counted.fileName)\(isDone ? "" : " cut")")
                guard isDone else { continue }
                entry = counted
            }
            // The kernel image must be whole, and PID 1 finds the slot with its root.
            let image = try BootPartition(esp).image(of: entry).read(1 << 20, at: 0)
            let release = releases.firstIndex { $0.uki == image }
            let slot = release.flatMap { release in
                (0...1).first { self.slot($0).read(releases[release].root.count, at: 0) == releases[release].root }
            }
            guard let release, let slot else {
                guard !entry.isGood else { throw Broken(description: "\(entry.fileName) is good and does not start") }
                log.append("\(entry.fileName) has no root")
                bad += 1
                continue
            }
            // An unhealthy release has the configuration, too, before it is marked failed.
            if releases[release].quality != .panics { try site?.comesUp(releases[release].version, &random) }
            if releases[release].quality != .good {
                guard !entry.isGood else { throw Broken(description: "\(releases[release].quality) was found good") }
                log.append("\(entry.fileName) is \(releases[release].quality)")
                bad += 1
                continue
            }
            if !entry.isGood {
                let isDone = try power(&random, failsOneIn: failsOneIn) {
                    var partition = try BootPartition(esp)
                    try partition.bless(entry.number)
                }
                guard isDone else { continue }
            }
            running = (release, entry.number, slot)
            return
        }
        throw Broken(description: "nothing runs: \(log)")
    }

    /// A connection that may break, with files that may be damaged on the way.
    struct Line: DeltaSource {
        var bytes: [UInt8]
        func read(_ range: Range<Int>) throws(UpdateFailure) -> [UInt8] {
            guard range.upperBound <= bytes.count else { throw UpdateFailure(.unavailable, "line", "cut") }
            return Array(bytes[range])
        }
    }

    /// What may go wrong with an installation, apart from power.
    enum Mishap: CaseIterable { case none, cutLine, spoiledPatch, refused }

    /// Installs a release into the other slot.
    ///
    /// - Returns: whether it is installed and is tried at the next boot; nil if power failed.
    func install(_ number: Int, _ mishap: Mishap, _ random: inout Random, failsOneIn: Int) throws -> Bool? {
        let wanted = releases[number]
        let place = random.next(1 << 16)
        var isInstalled = false
        let isDone = try power(&random, failsOneIn: failsOneIn) {
            do {
                var installation = try installation(of: wanted) { name, bytes in
                    if mishap == .cutLine { bytes = Array(bytes[..<(place % bytes.count)]) }
                    if mishap == .spoiledPatch, name.hasSuffix(".patch") { bytes[place % bytes.count] ^= 0x40 }
                }
                _ = try installation.run(check: { _ in
                    if mishap == .refused {
                        throw UpdateFailure(.malformed, wanted.version, "its engine refuses the site")
                    }
                    try site?.check(wanted.version)
                    try site?.handOver(to: wanted.available)
                })
                isInstalled = true
            } catch is UpdateFailure {
                isInstalled = false
            }
        }
        return isDone ? isInstalled : nil
    }

    /// - Parameter spoil: changes a file of the release while it is fetched.
    func installation(
        of release: SimulatedRelease, spoil: @escaping (String, inout [UInt8]) -> Void = { _, _ in }
    ) throws -> Installation {
        let own = releases[running.release]
        let target = InstallTarget(
            version: own.version, entry: running.entry, running: slot(running.slot), layout: own.layout,
            slot: slot(1 - running.slot), slotBytes: Self.slotBytes, boot: esp)
        return try Installation(release.available, on: target) { name in
            var bytes = release.files[name] ?? []
            spoil(name, &bytes)
            return Line(bytes: bytes)
        }
    }

    /// The operator cancels what was installed.
    func cancel() throws {
        var partition = try BootPartition(esp)
        try partition.keepOnly(running.entry)
    }

    /// The names that the loader sees, and what fsck.vfat reports.
    func examine(in folder: String) throws -> (names: [String], complaint: String?) {
        let path = "\(folder)/examined"
        var partition = try BootPartition(esp)
        try partition.repair()
        try FileSystem.replace(path, with: esp.read(Self.espBytes, at: 0))
        let result = try Command("fsck.vfat", ["-n", path]).run()
        return (partition.entries.map(\.fileName), result.status == 0 ? nil : result.text)
    }

    /// One whole upgrade, recorded: a release is installed, the loader counts its boot, PID 1
    /// confirms it; then another one is installed over the first and marked failed.
    ///
    /// - Returns: the disk before it, and all writes.
    func recordedUpgrade() throws -> (before: [UInt8], events: [RecordedDisk.Event]) {
        let before = disk.read(Self.espBytes + 2 * Self.slotBytes, at: 0)
        disk = RecordedDisk(before)
        func install(_ number: Int, from own: Int, entry: Int, into slot: Int) throws {
            let wanted = releases[number]
            let target = InstallTarget(
                version: releases[own].version, entry: entry, running: self.slot(1 - slot),
                layout: releases[own].layout,
                slot: self.slot(slot), slotBytes: Self.slotBytes, boot: esp)
            var installation = try Installation(wanted.available, on: target) { Line(bytes: wanted.files[$0] ?? []) }
            _ = try installation.run()
            var volume = try FATVolume(esp)
            try volume.rename("EFI/Linux/vcpe-\(entry + 1)+3.efi", to: "vcpe-\(entry + 1)+2-1.efi")
        }
        try install(1, from: 0, entry: 1, into: 1)
        var partition = try BootPartition(esp)
        try partition.bless(2)
        try install(2, from: 1, entry: 2, into: 0)
        partition = try BootPartition(esp)
        try partition.condemn(3)
        return (before, disk.events)
    }

    /// What is wrong with a disk; nil if a release that was confirmed healthy has its root, and no
    /// entry that the loader may boot lacks its image or root.
    static func complaint(_ disk: RecordedDisk, _ releases: [SimulatedRelease]) throws -> String? {
        let roots = (0...1).map { disk.read(slotBytes, at: espBytes + $0 * slotBytes) }
        var partition = try BootPartition(Region(disk: disk, offset: 0, size: espBytes))
        for pass in ["as it is", "repaired"] {
            guard partition.entries.contains(where: \.isGood) else { return "\(pass): no good entry" }
            for entry in partition.entries {
                let image = try partition.image(of: entry).read(1 << 20, at: 0)
                guard let release = releases.first(where: { $0.uki == image }) else {
                    return "\(pass): \(entry.fileName) is not whole"
                }
                guard entry.isBad || roots.contains(where: { $0.starts(with: release.root) }) else {
                    return "\(pass): \(entry.fileName) has no root"
                }
            }
            if pass == "as it is" { try partition.repair() }
        }
        return nil
    }
}
