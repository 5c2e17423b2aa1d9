import Digests
import Files
import Glibc
import ImageBuilder
import Releases
import TestSupport
import Testing
import Updates

/// Roots that are fetched in part: what is present is kept, what is wrong is refused, what was
/// interrupted continues.
@Suite(.serialized) final class DeltaTests {
    private let folder: String
    private static let block = VerityLayout.blockSize

    init() throws { folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-deltas") }

    deinit { try? FileSystem.remove(folder) }

    /// A root of 2 to 3 MB with its tree: blocks that compress to half, some of them in both roots
    /// or moved.
    private func root(_ name: String, blocks: Int, _ content: (Int) -> UInt64) async throws -> (
        file: File, hash: Digest
    ) {
        let file = try File("\(folder)/\(name)", O_RDWR | O_CREAT | O_TRUNC)
        for block in 0..<blocks {
            var random = Random(seed: content(block))
            var bytes: [UInt8] = []
            for _ in 0..<Self.block / 16 {
                var word = random.next()
                withUnsafeBytes(of: &word) { bytes += $0 }
                bytes += [0, 0, 0, 0, 0, 0, 0, 0]
            }
            try file.write(bytes, at: block * Self.block)
        }
        let verity = try await Verity.append(
            to: file, at: 0, size: blocks * Self.block, salt: [UInt8](repeating: 7, count: 32))
        return (file, verity.rootHash)
    }

    private func pair() async throws -> (old: File, new: File, hash: Digest) {
        let old = try await root("old", blocks: 600) { UInt64($0) }
        // Three blocks are new, forty have moved back, the others are unchanged.
        let new = try await root("new", blocks: 640) { block in
            (100...102).contains(block)
                ? UInt64(10_000 + block) : block < 300 ? UInt64(block) : block < 340 ? 5 : UInt64(block - 40)
        }
        return (old.file, new.file, new.hash)
    }

    /// A connection that counts bytes and breaks.
    private final class Line: DeltaSource {
        var bytes: [UInt8]
        var fetched = 0
        /// Bytes after which it breaks.
        var cut = Int.max

        init(_ path: String) throws { bytes = try FileSystem.read(path) }

        func read(_ range: Range<Int>) throws(UpdateFailure) -> [UInt8] {
            guard range.upperBound <= bytes.count else { throw UpdateFailure(.unavailable, "line", "too short") }
            guard fetched + range.count <= cut else { throw UpdateFailure(.unavailable, "line", "cut") }
            fetched += range.count
            return Array(bytes[range])
        }
    }

    private func slot(_ name: String = "slot") throws -> File {
        try File("\(folder)/\(name)", O_RDWR | O_CREAT | O_TRUNC)
    }

    private func blocks(_ line: Line, _ new: File, _ hash: Digest, into slot: File, from base: BlockDelta.Base) throws
        -> DeltaCost
    {
        var delta = try BlockDelta(name: "blocks", source: line, bytes: Int(try new.status().st_size), rootHash: hash)
        try delta.install(into: slot, from: base)
        return delta.cost
    }

    private func patch(_ line: Line, _ new: File, into slot: File, from old: File) throws -> DeltaCost {
        var delta = try PatchDelta(name: "patch", source: line, bytes: Int(try new.status().st_size), index: nil)
        try delta.install(into: slot, from: old)
        return delta.cost
    }

    @Test func aSmallChangeCostsLittleAndAnyBaseWillDo() async throws {
        let (old, new, hash) = try await pair()
        let wanted = try new.readAll()
        try BlockDelta.make(of: new, to: "\(folder)/blocks")
        try PatchDelta.make(from: old, to: new, path: "\(folder)/patch")
        var slot = try slot()
        let byPatch = try patch(Line("\(folder)/patch"), new, into: slot, from: old)
        #expect(try slot.readAll() == wanted && byPatch.fetched < 40_000, "\(byPatch)")
        slot = try self.slot()
        let line = try Line("\(folder)/blocks")
        let byBlocks = try blocks(line, new, hash, into: slot, from: .root(old, VerityLayout(file: old)))
        // The table, the tree and three blocks.
        #expect(
            try slot.readAll() == wanted && byBlocks.fetched < 50_000 && byBlocks.fetched == line.fetched, "\(byBlocks)"
        )
        // Without the tree of the old root, over garbage, and from nothing.
        try slot.write([UInt8](repeating: 9, count: 1_000_000), at: 500_000)
        let plain = try blocks(
            Line("\(folder)/blocks"), new, hash, into: slot, from: .plain(old, bytes: try old.size()))
        #expect(try slot.readAll() == wanted && plain.fetched < 50_000)
        slot = try self.slot()
        let all = try blocks(Line("\(folder)/blocks"), new, hash, into: slot, from: .none)
        #expect(try slot.readAll() == wanted && all.fetched == FileSystem.read("\(folder)/blocks").count)
        // If all is present, only the table is fetched.
        let again = try blocks(Line("\(folder)/blocks"), new, hash, into: slot, from: .none)
        #expect(again.fetched < 6000)
    }

    @Test func anInterruptedDeltaContinues() async throws {
        let (old, new, hash) = try await pair()
        let wanted = try new.readAll()
        try BlockDelta.make(of: new, to: "\(folder)/blocks")
        let whole = try FileSystem.read("\(folder)/blocks").count
        let slot = try slot()
        var (fetched, tries) = (0, 0)
        while tries < 50 {
            let line = try Line("\(folder)/blocks")
            line.cut = 1_300_000
            tries += 1
            let done = try? blocks(line, new, hash, into: slot, from: .none)
            fetched += line.fetched
            if done != nil { break }
        }
        // Each try reads the table and the superblock anew, and no block twice.
        #expect(
            try slot.readAll() == wanted && tries > 1 && fetched <= whole + tries * 6000,
            "\(fetched) of \(whole), \(tries)")
        // A patch begins with the first frame that is missing.
        let other = try await root("other", blocks: 1500) { UInt64($0 + 50_000) }
        try PatchDelta.make(from: old, to: other.file, path: "\(folder)/patch")
        let line = try Line("\(folder)/patch")
        let size = line.bytes.count
        line.cut = size / 2
        let second = try self.slot("second")
        #expect(throws: UpdateFailure.self) { _ = try self.patch(line, other.file, into: second, from: old) }
        let rest = try Line("\(folder)/patch")
        let cost = try patch(rest, other.file, into: second, from: old)
        #expect(try second.readAll() == other.file.readAll())
        #expect(
            cost.kept > 0 && line.fetched + rest.fetched <= size + 20_000,
            "\(line.fetched) + \(rest.fetched) of \(size)")
    }

    @Test func nothingWrongIsInstalled() async throws {
        let (old, new, hash) = try await pair()
        let wanted = try new.readAll()
        try BlockDelta.make(of: new, to: "\(folder)/blocks")
        try PatchDelta.make(from: old, to: new, path: "\(folder)/patch")
        // Another base than that of the patch.
        #expect {
            _ = try self.patch(Line("\(self.folder)/patch"), new, into: self.slot(), from: new)
        } throws: {
            ($0 as? UpdateFailure)?.reason == .mismatch
        }
        // Another root hash, and a file of another image.
        #expect(throws: UpdateFailure.self) {
            _ = try self.blocks(Line("\(self.folder)/blocks"), new, SHA256.hash([1]), into: self.slot(), from: .none)
        }
        #expect(throws: UpdateFailure.self) {
            _ = try self.blocks(Line("\(self.folder)/blocks"), old, hash, into: self.slot(), from: .none)
        }
        // Damaged: refused, or the damaged part was not needed.
        var random = Random(seed: 5)
        var refused = 0
        let goodBlocks = try Line("\(folder)/blocks").bytes
        let goodPatch = try Line("\(folder)/patch").bytes
        let layout = try VerityLayout(file: old)
        for round in 0..<120 {
            let line = try Line(round % 2 == 0 ? "\(folder)/blocks" : "\(folder)/patch")
            line.bytes = round % 2 == 0 ? goodBlocks : goodPatch
            let place = random.next(round % 3 == 0 ? 200 : line.bytes.count)
            if round % 5 == 0 {
                line.bytes = Array(line.bytes[..<place])
            } else {
                line.bytes[place] ^= UInt8(1 + random.next(255))
            }
            let slot = try slot()
            do {
                if round % 2 == 0 {
                    _ = try blocks(line, new, hash, into: slot, from: .root(old, layout))
                } else {
                    _ = try patch(line, new, into: slot, from: old)
                }
                let made = try slot.readAll()
                // The superblock is no part of the tree: the installer checks the whole root's
                // hash, too.
                let isSame =
                    made == wanted || made.count == wanted.count && layoutless(made, new) == layoutless(wanted, new)
                #expect(isSame, "round \(round), byte \(place)")
            } catch is UpdateFailure {
                refused += 1
            }
        }
        #expect(refused > 40)
    }

    private func layoutless(_ bytes: [UInt8], _ file: File) -> [UInt8] {
        guard let layout = try? VerityLayout(file: file) else { return bytes }
        var bytes = bytes
        for i in 0..<Self.block { bytes[layout.superblock * Self.block + i] = 0 }
        return bytes
    }
}
