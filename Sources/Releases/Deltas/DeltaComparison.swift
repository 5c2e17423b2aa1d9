import Digests
import Files
import Glibc
import ImageBuilder
import Updates

/// Measures the cost of an upgrade from one image to another by each method, installed as on a box,
/// for root and UKI together.
public enum DeltaComparison {
    public struct Cost: Sendable, Hashable {
        /// `patch`, `blocks` or `full`.
        public var method: String
        /// Fetched bytes.
        public var bytes = 0
        /// Fetched bytes of the UKI.
        public var ukiBytes = 0
        public var requests = 0
        /// The time to read, decompress, check and write.
        public var milliseconds = 0
    }

    /// - Throws: ``ReleaseFailure`` if a method does not make the new image.
    public static func measure(from old: BuiltImage, to new: BuiltImage) async throws -> [Cost] {
        let folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-delta")
        defer { try? FileSystem.remove(folder) }
        var costs = ["patch", "blocks", "full"].map { Cost(method: $0) }
        for (part, from, to) in [("root", old.root, new.root), ("uki", old.uki, new.uki)] {
            let (from, to) = (try File(from), try File(to))
            let (digest, bytes) = try to.digest()
            func install(_ index: Int, _ body: (File) throws -> DeltaCost) throws {
                let slot = try File("\(folder)/slot", O_RDWR | O_CREAT | O_TRUNC)
                let begin = Clock.seconds
                let cost = try body(slot)
                let seconds = Clock.seconds - begin
                // The tree of a UKI is not part of the UKI.
                try slot.resize(to: bytes)
                guard try slot.digest().digest == digest else {
                    throw ReleaseFailure(
                        "\(to.path): the \(costs[index].method) delta does not make the new image", path: to.path)
                }
                costs[index].bytes += cost.fetched
                if part == "uki" { costs[index].ukiBytes = cost.fetched }
                costs[index].requests += cost.requests
                costs[index].milliseconds += Int(seconds * 1000)
            }
            let made = Repository(["file://\(folder)"])
            try PatchDelta.make(from: from, to: to, path: "\(folder)/patch")
            try install(0) { slot in
                var delta = try PatchDelta(
                    name: "patch", source: HTTPDeltaSource(made, "patch"), bytes: bytes, index: nil)
                try delta.install(into: slot, from: from)
                return delta.cost
            }
            let tree = part == "root" ? to : try await FileTree.copy(to, "\(folder)/tree", like: try File(new.root))
            try BlockDelta.make(of: tree, to: "\(folder)/blocks")
            let top = try FileTree.top(of: tree)
            try install(1) { slot in
                var delta = try BlockDelta(
                    name: "blocks", source: HTTPDeltaSource(made, "blocks"),
                    bytes: Int(try tree.status().st_size), rootHash: top)
                try delta.install(
                    into: slot,
                    from: part == "root"
                        ? .root(from, try VerityLayout(file: from)) : .plain(from, bytes: try from.size()))
                return delta.cost
            }
            try PatchDelta.make(from: nil, to: to, path: "\(folder)/full")
            try install(2) { slot in
                var delta = try PatchDelta(
                    name: "full", source: HTTPDeltaSource(made, "full"), bytes: bytes, index: nil)
                try delta.install(into: slot, from: from)
                return delta.cost
            }
        }
        return costs
    }
}
