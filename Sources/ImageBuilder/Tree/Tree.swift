import Digests
import Files
import Glibc

/// Where a file's bytes are: a range of a file on disk, or bytes in memory.
public struct Content: Sendable, Hashable {
    public enum Source: Sendable, Hashable {
        case bytes([UInt8])
        /// `offset` in bytes from the start of the file at `path`.
        case range(path: String, offset: Int)
    }

    public var source: Source
    /// Bytes.
    public var count: Int
    /// Of the `count` bytes.
    public var digest: Digest

    public init(path: String, offset: Int, count: Int, digest: Digest) {
        source = .range(path: path, offset: offset)
        self.count = count
        self.digest = digest
    }

    public init(_ bytes: [UInt8]) {
        source = .bytes(bytes)
        count = bytes.count
        digest = SHA256.hash(bytes)
    }

    public init(_ text: String) { self.init(Array(text.utf8)) }

    /// All the bytes, verified by their digest.
    ///
    /// - Throws: ``DamagedContent`` for a file that no longer has them.
    public func read() throws -> [UInt8] {
        switch source {
        case .bytes(let all): return all
        case .range(let path, let offset):
            let bytes = try File(path).read(count, at: offset)
            let found = SHA256.hash(bytes)
            guard bytes.count == count, found == digest else {
                throw DamagedContent(path: path, offset: offset, count: count, expected: digest, found: found)
            }
            return bytes
        }
    }
}

/// A range of a file whose bytes have changed: by a disk fault, or in a cache that others can write
/// to.
public struct DamagedContent: Error, Sendable, Hashable, CustomStringConvertible {
    public var path: String
    /// Bytes from the start of the file.
    public var offset: Int
    /// Bytes.
    public var count: Int
    public var expected: Digest
    public var found: Digest

    public var description: String {
        "\(path): bytes \(offset)..<\(offset + count) have SHA-256 \(found), expected \(expected)"
    }
}

/// One entry of the image's tree.
public struct TreeEntry: Sendable, Hashable {
    public enum Kind: Sendable, Hashable {
        case directory
        case file(Content)
        case symbolicLink(target: String)
        /// A hard link to the file at this path, which has its own entry.
        case hardLink(path: String)
    }

    public var kind: Kind
    /// Permission bits with setuid, setgid and sticky.
    public var mode: UInt32
    public var uid: UInt32
    public var gid: UInt32
    /// Extended attributes by their full names.
    public var attributes: [String: [UInt8]]
    /// Its source: a package's name, or the builder's step in parentheses.
    public var origin: String

    public init(
        _ kind: Kind, mode: UInt32, uid: UInt32 = 0, gid: UInt32 = 0, attributes: [String: [UInt8]] = [:],
        origin: String
    ) {
        self.kind = kind
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.attributes = attributes
        self.origin = origin
    }
}

/// The image's files as values. Nothing is unpacked to disk, so changing a file's owner needs no
/// privilege.
///
/// Paths are relative to the root, without a leading slash. The root itself is implied: mode 0755,
/// owned by root.
public struct Tree: Sendable, Hashable {
    public private(set) var entries: [String: TreeEntry] = [:]
    /// The hard links of a file by its path.
    private var links: [String: Set<String>] = [:]

    public init() {}

    public subscript(path: String) -> TreeEntry? {
        get { entries[path] }
        set {
            if case .hardLink(let target)? = entries[path]?.kind {
                links[target]?.remove(path)
                if links[target]?.isEmpty == true { links[target] = nil }
            }
            if case .hardLink(let target)? = newValue?.kind { links[target, default: []].insert(path) }
            entries[path] = newValue
        }
    }

    /// The hard links to a file, sorted.
    func hardLinks(to path: String) -> [String] { (links[path] ?? []).sorted() }

    /// All paths, parents before children, in the order of their bytes component by component: the
    /// order in which images are written, so that it never depends on a hash table, a locale or the
    /// number of processors.
    public var sortedPaths: [String] { Self.sorted(entries.keys) }

    /// The paths below a directory that end with `suffix`, as ``sortedPaths`` has them.
    ///
    /// - Parameter folder: ends with a slash.
    func paths(below folder: String, suffix: String = "") -> [String] {
        Self.sorted(entries.keys.filter { $0.hasPrefix(folder) && $0.hasSuffix(suffix) })
    }

    private static func sorted(_ paths: some Sequence<String>) -> [String] {
        paths.map { ($0, $0.utf8.map { $0 == UInt8(ascii: "/") ? 0 : $0 }) }
            .sorted { a, b in
                a.1.withUnsafeBytes { a in
                    b.1.withUnsafeBytes { b in
                        guard let first = a.baseAddress, let second = b.baseAddress else { return a.count < b.count }
                        let order = memcmp(first, second, min(a.count, b.count))
                        return order == 0 ? a.count < b.count : order < 0
                    }
                }
            }
            .map(\.0)
    }

    /// Adds the folders that are missing above `path`.
    public mutating func addParents(of path: String, origin: String) {
        var parent = FileSystem.parent(of: path)
        while let folder = parent, entries[folder] == nil {
            entries[folder] = TreeEntry(.directory, mode: 0o755, origin: origin)
            parent = FileSystem.parent(of: folder)
        }
    }
}
