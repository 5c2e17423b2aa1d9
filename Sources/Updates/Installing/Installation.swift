import Digests
import Files
import Slots

/// The storage that a release is installed on: a box's partitions, or files in a test.
public struct InstallTarget {
    /// The running release.
    public var version: String
    public var entry: Int
    public var running: any RandomAccess
    public var layout: VerityLayout
    /// The inactive root partition.
    public var slot: any RandomAccess
    public var slotBytes: Int
    /// The EFI system partition.
    public var boot: any RandomAccess
    /// Drops the kernel's buffers, so that the next read of the slot comes from the disk.
    public var forgetBuffers: () -> Void

    public init(
        version: String, entry: Int, running: any RandomAccess, layout: VerityLayout, slot: any RandomAccess,
        slotBytes: Int, boot: any RandomAccess, forgetBuffers: @escaping () -> Void = {}
    ) {
        (self.version, self.entry, self.running, self.layout) = (version, entry, running, layout)
        (self.slot, self.slotBytes, self.boot, self.forgetBuffers) = (slot, slotBytes, boot, forgetBuffers)
    }
}

/// One upgrade: writes a release's root into the inactive slot, verifies it there, and only then
/// adds the boot entry with which the loader tries it.
///
/// The running release is not touched. If an interrupted installation is run again, it continues
/// where it stopped.
public struct Installation {
    public enum Step: String, Sendable, CaseIterable { case entries, root, verify, uki, check, entry }

    /// How the new root and kernel image are made.
    public enum Method: String, Sendable, CaseIterable {
        /// From the running release and the difference between it and the new one.
        case patch
        /// From blocks on the box, and fetched blocks that it lacks.
        case blocks
        /// The whole root in one stream, if that is smaller than the missing blocks, which are
        /// compressed separately.
        case full
    }

    public let release: AvailableRelease
    private let target: InstallTarget
    /// Opens a file of the release.
    private let open: (String) -> any DeltaSource
    /// Runs a closure that reads files of the release, and repeats it with another mirror if the
    /// contents were wrong.
    public typealias Attempt = (() throws(UpdateFailure) -> Bool) throws(UpdateFailure) -> Bool
    private let attempting: Attempt
    public private(set) var cost = DeltaCost()
    /// How the root was made.
    public private(set) var method = Method.patch

    /// - Throws: ``UpdateFailure`` for a release whose root is larger than the slot.
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
        (self.release, self.target, attempting, self.open) = (release, target, attempt, open)
    }

    /// Installs the release.
    ///
    /// - Parameters:
    ///   - begin: called at the start of each step.
    ///   - check: checks the new root in its slot; its argument is the number of the new entry. If
    ///     it throws, no entry is made.
    /// - Returns: the entry that the loader tries next.
    public mutating func run(
        begin: (Step) -> Void = { _ in }, check: (Int) throws -> Void = { _ in }
    ) throws -> BootEntry {
        var (boot, room) = try prepare(begin: begin, check: check)
        begin(.entry)
        return try boot.add(boot.nextNumber, from: room)
    }

    /// Does all steps of ``run(begin:check:)`` except the entry, so that the release does not boot.
    /// A later run fetches nothing again.
    @discardableResult public mutating func prepare(
        begin: (Step) -> Void = { _ in }, check: (Int) throws -> Void = { _ in }
    ) throws -> (boot: BootPartition, room: FATVolume.Room) {
        begin(.entries)
        var boot = try BootPartition(target.boot)
        try boot.repair()
        guard let own = boot.entry(target.entry) else {
            throw SlotFailure(
                "the EFI system partition has no entry \(target.entry), which booted the running release")
        }
        guard own.isGood else {
            throw SlotFailure(
                "the running release is still on trial", hint: "run it again when the release is confirmed healthy")
        }
        // Remove the entry before its root is overwritten: no entry may refer to a missing root.
        try boot.keepOnly(own.number)
        let forgetBuffers = target.forgetBuffers
        let root = Part(
            name: "root", destination: target.slot, old: target.running, base: .root(target.running, target.layout),
            bytes: release.rootBytes, digest: release.rootDigest, tree: (release.rootBytes, release.rootHash))
        method = try write(root) {
            begin(.root)
        } written: {
            begin(.verify)
            forgetBuffers()
        }
        begin(.uki)
        let room = try boot.room(for: release.ukiBytes)
        let image = try boot.image(of: own)
        _ = try write(
            Part(
                name: "uki", destination: room, old: image, base: .plain(image, bytes: image.size),
                bytes: release.ukiBytes, digest: release.ukiDigest, tree: (release.ukiTreeBytes, release.ukiTreeHash)))
        guard try room.contains(release.rootHash.hex) else {
            throw UpdateFailure(.mismatch, "\(release.path)/uki.efi", "it boots another root than that of its release")
        }
        begin(.check)
        try check(boot.nextNumber)
        return (boot, room)
    }

    /// The root or the kernel image.
    private struct Part {
        var name: String
        var destination: any RandomAccess
        /// The part of the running release.
        var old: any RandomAccess
        /// `old` in the form in which a block delta searches it.
        var base: BlockDelta.Base
        var bytes: Int
        var digest: Digest
        /// The size of the part with its tree, and the root hash of the tree.
        var tree: (bytes: Int, hash: Digest)
    }

    /// Writes and verifies a part by the cheapest method, and by the next one if the result does
    /// not have the signed hash.
    ///
    /// - Parameters:
    ///   - writing: called before each attempt to write.
    ///   - written: called when the part is on the disk and not yet verified.
    private mutating func write(
        _ part: Part, writing: () -> Void = {}, written: () -> Void = {}
    ) throws(UpdateFailure) -> Method {
        let full = release.files["\(part.name).zst"]?.length
        var methods: [(method: Method, most: Int)] = [(.blocks, full ?? .max)]
        if release.patches(from: target.version) != nil { methods.insert((.patch, .max), at: 0) }
        if full != nil { methods += [(.full, .max), (.blocks, .max)] }
        for (index, next) in methods.enumerated() {
            do {
                if try attempt(part, by: next.method, most: next.most, writing, written) { return next.method }
            } catch {
                // A network that is down fails every method; a missing or wrong file fails this one
                // alone.
                guard index < methods.count - 1, [.mismatch, .malformed, .unknownTarget].contains(error.reason) else {
                    throw error
                }
            }
        }
        throw UpdateFailure(.unknownTarget, release.path, "it has no file from which its \(part.name) can be made")
    }

    /// Writes and verifies a part by one method, from one mirror after the other.
    ///
    /// - Returns: false if another method costs less.
    private mutating func attempt(
        _ part: Part, by method: Method, most: Int, _ writing: () -> Void, _ written: () -> Void
    ) throws(UpdateFailure) -> Bool {
        let name =
            switch method {
            case .patch: "\(part.name).from-\(target.version).patch"
            case .full: "\(part.name).zst"
            case .blocks: "\(part.name).blocks"
            }
        return try attempting { () throws(UpdateFailure) -> Bool in
            writing()
            guard try write(part, by: method, name, most: most) else { return false }
            written()
            try verify(part)
            return true
        }
    }

    /// - Returns: false if another method costs less.
    private mutating func write(_ part: Part, by method: Method, _ name: String, most: Int) throws(UpdateFailure)
        -> Bool
    {
        switch method {
        case .patch, .full: try patch(part, name)
        case .blocks:
            var delta = try BlockDelta(name: name, source: open(name), bytes: part.tree.bytes, rootHash: part.tree.hash)
            defer { cost += delta.cost }
            return try delta.install(into: part.destination, from: part.base, most: most)
        }
        return true
    }

    private mutating func patch(_ part: Part, _ name: String) throws(UpdateFailure) {
        guard let index = release.index(of: name) else {
            throw UpdateFailure(.malformed, name, "the hash of its index is not signed")
        }
        var delta = try PatchDelta(name: name, source: open(name), bytes: part.bytes, index: index)
        defer { cost += delta.cost }
        try delta.install(into: part.destination, from: part.old)
    }

    private func verify(_ part: Part) throws(UpdateFailure) {
        var hash = SHA256()
        do {
            for offset in stride(from: 0, to: part.bytes, by: 1 << 20) {
                hash.update(try part.destination.read(min(1 << 20, part.bytes - offset), at: offset))
            }
        } catch {
            throw UpdateFailure(.storage, part.name, "\(error)")
        }
        guard hash.finish() == part.digest else {
            throw UpdateFailure(
                .mismatch, "\(release.path)/\(part.name)", "what was written does not have the signed hash")
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
    /// Whether the clusters contain a text.
    fileprivate func contains(_ text: String) throws -> Bool {
        let pattern = Array(text.utf8)
        for offset in stride(from: 0, to: size, by: 1 << 20) {
            let bytes = try read((1 << 20) + pattern.count, at: offset)
            guard bytes.count >= pattern.count else { continue }
            for start in 0...bytes.count - pattern.count
            where bytes[start] == pattern[0] && bytes[start..<start + pattern.count].elementsEqual(pattern) {
                return true
            }
        }
        return false
    }
}
