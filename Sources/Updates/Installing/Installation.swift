import Digests
import Files
import Slots

/// What a release is installed on: the box, or in a test files in its place.
public struct InstallTarget {
    /// The release that runs.
    public var version: String
    public var entry: Int
    public var running: any RandomAccess
    public var layout: VerityLayout
    /// The inactive root partition.
    public var slot: any RandomAccess
    public var slotBytes: Int
    /// The EFI system partition.
    public var boot: any RandomAccess
    /// Has what is read next of the slot come from the disk itself.
    public var forgetBuffers: () -> Void

    public init(
        version: String, entry: Int, running: any RandomAccess, layout: VerityLayout, slot: any RandomAccess,
        slotBytes: Int, boot: any RandomAccess, forgetBuffers: @escaping () -> Void = {}
    ) {
        (self.version, self.entry, self.running, self.layout) = (version, entry, running, layout)
        (self.slot, self.slotBytes, self.boot, self.forgetBuffers) = (slot, slotBytes, boot, forgetBuffers)
    }
}

/// One upgrade: a release's root into the inactive slot, looked at as it lies there, and only then the entry by which the loader tries it.
///
/// The release that runs is touched by none of this. What was interrupted goes on where it was when it is begun again.
public struct Installation {
    public enum Step: String, Sendable, CaseIterable { case entries, root, verify, uki, check, entry }

    /// How the new root and kernel image come.
    public enum Way: String, Sendable, CaseIterable {
        /// By what differs from the release that runs.
        case patch
        /// By the blocks that are nowhere on the box.
        case blocks
        /// All of it, where so many blocks are missing that it costs less: compressed together, they are smaller.
        case full
    }

    public let release: AvailableRelease
    private let target: InstallTarget
    /// Opens a file of the release.
    private let open: (String) -> any DeltaSource
    /// Does what reads files of the release, and does it again where somebody else may have what is right.
    public typealias Attempt = (() throws(UpdateFailure) -> Bool) throws(UpdateFailure) -> Bool
    private let attempt: Attempt
    public private(set) var cost = DeltaCost()
    /// How the root came.
    public private(set) var way = Way.patch

    /// - Throws: ``UpdateFailure`` for a release that can't be on this box.
    public init(
        _ release: AvailableRelease, on target: InstallTarget,
        attempt: @escaping Attempt = { body throws(UpdateFailure) in try body() },
        open: @escaping (String) -> any DeltaSource
    ) throws(UpdateFailure) {
        guard release.rootBytes <= target.slotBytes else {
            throw UpdateFailure(
                .mismatch, release.path,
                "its root has \(release.rootBytes) bytes and the slot has \(target.slotBytes)")
        }
        (self.release, self.target, self.attempt, self.open) = (release, target, attempt, open)
    }

    /// Does all of it.
    ///
    /// - Parameters:
    ///   - begin: called with each step.
    ///   - check: looks at the new root in its slot, and is told the number of the entry to come; what it throws ends the
    ///     installation before there is one.
    /// - Returns: the entry that is tried next.
    public mutating func run(
        begin: (Step) -> Void = { _ in }, check: (Int) throws -> Void = { _ in }
    ) throws -> BootEntry {
        var (boot, room) = try prepare(begin: begin, check: check)
        begin(.entry)
        return try boot.add(boot.nextNumber, from: room)
    }

    /// Brings everything, as ``run(begin:check:)`` does, and ends before there is an entry: nobody starts it, and what has come is not fetched again.
    @discardableResult public mutating func prepare(
        begin: (Step) -> Void = { _ in }, check: (Int) throws -> Void = { _ in }
    ) throws -> (boot: BootPartition, room: FATVolume.Room) {
        begin(.entries)
        var boot = try BootPartition(target.boot)
        try boot.repair()
        guard let own = boot.entry(target.entry) else {
            throw SlotFailure("the release that runs has no entry \(target.entry) on the EFI system partition")
        }
        guard own.isGood else {
            throw SlotFailure("the release that runs is on trial itself", hint: "again, once it was found good")
        }
        // Before its root is overwritten: no entry ever names a root that is not there.
        try boot.keepOnly(own.number)
        let forgetBuffers = target.forgetBuffers
        let root = Part(
            name: "root", place: target.slot, old: target.running, base: .root(target.running, target.layout),
            bytes: release.rootBytes, digest: release.rootDigest, tree: (release.rootBytes, release.rootHash))
        way = try bring(root) {
            begin(.root)
        } written: {
            begin(.verify)
            forgetBuffers()
        }
        begin(.uki)
        let room = try boot.room(for: release.ukiBytes)
        let image = try boot.image(of: own)
        _ = try bring(
            Part(
                name: "uki", place: room, old: image, base: .plain(image, bytes: image.size), bytes: release.ukiBytes,
                digest: release.ukiDigest, tree: (release.ukiTreeBytes, release.ukiTreeHash)))
        guard try room.contains(release.rootHash.hex) else {
            throw UpdateFailure(.mismatch, "\(release.path)/uki.efi", "it starts another root than its own release's")
        }
        begin(.check)
        try check(boot.nextNumber)
        return (boot, room)
    }

    /// The root or the kernel image.
    private struct Part {
        var name: String
        var place: any RandomAccess
        /// The running release's.
        var old: any RandomAccess
        /// `old`, as blocks are looked for in it.
        var base: BlockDelta.Base
        var bytes: Int
        var digest: Digest
        /// Bytes of the part with its tree, and the hash at its top.
        var tree: (bytes: Int, hash: Digest)
    }

    /// Brings a part and looks at what was written: by the way that costs least, and where that makes something else than what is signed, by the next one.
    ///
    /// - Parameters:
    ///   - writing: called each time that it begins to be written.
    ///   - written: called when all of it is on the disk, and not looked at yet.
    private mutating func bring(
        _ part: Part, writing: () -> Void = {}, written: () -> Void = {}
    ) throws(UpdateFailure) -> Way {
        let full = release.files["\(part.name).zst"]?.length
        var ways: [(way: Way, most: Int)] = [(.blocks, full ?? .max)]
        if release.patches(from: target.version) != nil { ways.insert((.patch, .max), at: 0) }
        if full != nil { ways += [(.full, .max), (.blocks, .max)] }
        for (place, next) in ways.enumerated() {
            do {
                if try bring(part, by: next.way, most: next.most, writing, written) { return next.way }
            } catch {
                // A line that is down is down for each of them; what is missing or wrong may be so by this one alone.
                guard place < ways.count - 1, [.mismatch, .malformed, .unknownTarget].contains(error.reason) else {
                    throw error
                }
            }
        }
        throw UpdateFailure(.unknownTarget, release.path, "it has no file by which its \(part.name) comes here")
    }

    /// By one way, from one mirror after the other for as long as that makes something else than what is signed.
    ///
    /// - Returns: false where another way costs less.
    private mutating func bring(
        _ part: Part, by way: Way, most: Int, _ writing: () -> Void, _ written: () -> Void
    ) throws(UpdateFailure) -> Bool {
        let name =
            switch way {
            case .patch: "\(part.name).from-\(target.version).patch"
            case .full: "\(part.name).zst"
            case .blocks: "\(part.name).blocks"
            }
        return try attempt { () throws(UpdateFailure) -> Bool in
            writing()
            guard try write(part, by: way, name, most: most) else { return false }
            written()
            try verify(part)
            return true
        }
    }

    /// - Returns: false where another way costs less.
    private mutating func write(_ part: Part, by way: Way, _ name: String, most: Int) throws(UpdateFailure) -> Bool {
        switch way {
        case .patch, .full: try patch(part, name)
        case .blocks:
            var delta = try BlockDelta(name: name, source: open(name), bytes: part.tree.bytes, rootHash: part.tree.hash)
            defer { cost += delta.cost }
            return try delta.install(into: part.place, from: part.base, most: most)
        }
        return true
    }

    private mutating func patch(_ part: Part, _ name: String) throws(UpdateFailure) {
        guard let index = release.index(of: name) else {
            throw UpdateFailure(.malformed, name, "nothing is signed of its index")
        }
        var delta = try PatchDelta(name: name, source: open(name), bytes: part.bytes, index: index)
        defer { cost += delta.cost }
        try delta.install(into: part.place, from: part.old)
    }

    private func verify(_ part: Part) throws(UpdateFailure) {
        var hash = SHA256()
        do {
            for offset in stride(from: 0, to: part.bytes, by: 1 << 20) {
                hash.update(try part.place.read(min(1 << 20, part.bytes - offset), at: offset))
            }
        } catch {
            throw UpdateFailure(.storage, part.name, "\(error)")
        }
        guard hash.finish() == part.digest else {
            throw UpdateFailure(.mismatch, "\(release.path)/\(part.name)", "what was written is not what is signed")
        }
    }
}

extension DeltaCost {
    static func += (left: inout DeltaCost, right: DeltaCost) {
        left.fetched += right.fetched
        left.requests += right.requests
        left.kept += right.kept
    }
}

extension FATVolume.Room {
    /// Whether a text stands anywhere in it.
    fileprivate func contains(_ text: String) throws -> Bool {
        let wanted = Array(text.utf8)
        for offset in stride(from: 0, to: size, by: 1 << 20) {
            let bytes = try read((1 << 20) + wanted.count, at: offset)
            guard bytes.count >= wanted.count else { continue }
            for start in 0...bytes.count - wanted.count
            where bytes[start] == wanted[0] && bytes[start..<start + wanted.count].elementsEqual(wanted) {
                return true
            }
        }
        return false
    }
}
