import Digests
import Documents
import Files

/// Makes a root from exactly one other root: frames of new data, each compressed with similar
/// ranges of the old root as its dictionary. A patch whose frames refer to no range contains the
/// whole root.
///
/// Frames are independent: each fits into memory by itself, and an interrupted run continues with
/// the first frame that the slot lacks.
public struct PatchDelta {
    /// The magic number of a skippable frame (RFC 8878, section 3.1.2). The length of the index (4
    /// bytes), the index as JSON and the frames follow, so `zstd -d` decompresses a whole root,
    /// too.
    public static let magic: [UInt8] = [0x50, 0x2A, 0x4D, 0x18]
    private static let headBytes = magic.count + 4
    /// Limits for a frame's new data, its old ranges and its compressed data, in bytes. A box holds
    /// all of them in memory.
    public static let (mostNew, mostOld, mostCompressed) = (8 << 20, 16 << 20, 1 << 20)
    /// The largest index that a box accepts, in bytes.
    public static let mostIndex = 1 << 20

    public struct Frame: Sendable, Hashable {
        /// The range of the new root, in bytes.
        public var new: Range<Int>
        /// Ranges of the old root, in bytes.
        public var old: [Range<Int>]
        public var compressed: Int
        public var digest: Digest

        public init(new: Range<Int>, old: [Range<Int>], compressed: Int, digest: Digest) {
            self.new = new
            self.old = old
            self.compressed = compressed
            self.digest = digest
        }

        public var json: JSON {
            [
                "bytes": .integer(new.count), "compressed": .integer(compressed), "sha256": .text(digest.hex),
                "old": .list(old.map { [.integer($0.lowerBound), .integer($0.count)] }),
            ]
        }

        fileprivate init?(_ json: JSON, from start: Int) {
            guard let bytes = json["bytes"]?.integer, (1...mostNew).contains(bytes),
                let compressed = json["compressed"]?.integer, (1...mostCompressed).contains(compressed),
                let digest = (json["sha256"]?.text).flatMap({ Digest(hex: $0) }), let list = json["old"]?.list
            else { return nil }
            var (old, sum): ([Range<Int>], Int) = ([], 0)
            for item in list {
                guard let pair = item.list, pair.count == 2, let offset = pair[0].integer, let count = pair[1].integer,
                    offset >= 0, offset <= 1 << 40, (1...mostOld).contains(count)
                else { return nil }
                sum += count
                old.append(offset..<offset + count)
            }
            guard sum <= mostOld else { return nil }
            self.init(new: start..<start + bytes, old: old, compressed: compressed, digest: digest)
        }
    }

    private let name: String
    private let source: any DeltaSource
    public let frames: [Frame]
    /// The offset of the first frame.
    private let start: Int
    public private(set) var cost = DeltaCost()

    /// - Parameters:
    ///   - name: the file's name, for errors.
    ///   - bytes: the signed size of the new root.
    ///   - index: the signed digest of ``index(of:)``, so that each frame is verified before it is
    ///     written; nil if the whole file was checked before.
    public init(name: String, source: any DeltaSource, bytes: Int, index: Digest?) throws(UpdateFailure) {
        self.name = name
        self.source = source
        let head = try source.read(0..<Self.headBytes)
        let length = head[Self.magic.count...].reversed().reduce(0) { $0 << 8 | Int($1) }
        guard head.starts(with: Self.magic), length <= Self.mostIndex else {
            throw UpdateFailure(.malformed, name, "not a patch")
        }
        let body = try source.read(Self.headBytes..<Self.headBytes + length)
        guard index == nil || index == SHA256.hash(head + body) else {
            throw UpdateFailure(.mismatch, name, "its index does not have the signed hash")
        }
        guard let list = (try? JSON.parse(body))?["frames"]?.list else {
            throw UpdateFailure(.malformed, name, "its index is not JSON with frames")
        }
        var frames: [Frame] = []
        for (i, json) in list.enumerated() {
            guard let frame = Frame(json, from: frames.last?.new.upperBound ?? 0) else {
                throw UpdateFailure(.malformed, name, "frame \(i) is invalid, or larger than allowed")
            }
            frames.append(frame)
        }
        guard frames.last?.new.upperBound == bytes else {
            throw UpdateFailure(.malformed, name, "it does not make a root of \(bytes) bytes")
        }
        self.frames = frames
        start = Self.headBytes + length
        cost.fetched = start
        cost.requests = 2
    }

    /// The digest of a patch's bytes before its first frame; nil for any other file.
    public static func index(of file: File) throws(SystemError) -> Digest? {
        let head = try file.read(headBytes, at: 0)
        let length = head.dropFirst(magic.count).reversed().reduce(0) { $0 << 8 | Int($1) }
        guard head.count == headBytes, head.starts(with: magic), length <= mostIndex else { return nil }
        return SHA256.hash(try file.read(headBytes + length, at: 0))
    }

    /// Writes the new root into a slot.
    ///
    /// - Parameters:
    ///   - slot: the inactive slot; frames that it already has are not fetched.
    ///   - old: the root that the patch was made from.
    public mutating func install(into slot: any RandomAccess, from old: any RandomAccess) throws(UpdateFailure) {
        var offset = start
        for (i, frame) in frames.enumerated() {
            defer { offset += frame.compressed }
            do {
                if SHA256.hash(try slot.read(frame.new.count, at: frame.new.lowerBound)) == frame.digest {
                    cost.kept += frame.new.count
                    continue
                }
                let bytes = try source.read(offset..<offset + frame.compressed)
                cost.fetched += bytes.count
                cost.requests += 1
                var before: [UInt8] = []
                for range in frame.old { before += try old.read(range.count, at: range.lowerBound) }
                guard let new = Zstandard.decompress(bytes, after: before, size: frame.new.count),
                    SHA256.hash(new) == frame.digest
                else {
                    throw UpdateFailure(
                        .mismatch, name, "frame \(i) does not make the signed data from this root")
                }
                try slot.write(new, at: frame.new.lowerBound)
            } catch let failure as UpdateFailure {
                throw failure
            } catch {
                throw UpdateFailure(.storage, name, "\(error)")
            }
        }
        do { try slot.sync() } catch { throw UpdateFailure(.storage, name, "\(error)") }
    }
}
