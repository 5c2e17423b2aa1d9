/// One entry of a tar archive, as a package carries it.
public struct ArchiveEntry: Sendable, Hashable {
    public enum Kind: Sendable, Hashable {
        /// A regular file of this many bytes.
        case file(size: Int)
        case directory
        case symbolicLink(target: String)
        /// A hard link to the earlier entry with this path.
        case hardLink(path: String)
        case characterDevice(major: UInt32, minor: UInt32)
        case blockDevice(major: UInt32, minor: UInt32)
        case fifo
    }

    /// Relative to the root, without a leading `./` or `/`; empty for the root itself. Never
    /// contains `..`; any other character is possible, also a line feed.
    public var path: String
    public var kind: Kind
    /// Permission bits with setuid, setgid and sticky: the low 12 bits of `st_mode`.
    public var mode: UInt32
    public var uid: UInt32
    public var gid: UInt32
    /// Seconds since 1970.
    public var modified: Int64
    /// Extended attributes by their full names, such as `security.capability`.
    public var attributes: [String: [UInt8]]
}

/// An archive that is unreadable, or has contents that a package must not have.
public struct ArchiveError: Error, Sendable, Hashable, CustomStringConvertible {
    /// The cause, for callers and tests; ``ArchiveError/message`` is for the operator.
    public enum Reason: Sendable, Hashable {
        /// libarchive can't read it.
        case unreadable
        /// A member of the .deb is missing, or its version is not supported.
        case notADebianPackage
        /// An absolute path, or one with `..`.
        case pathOutside
        /// A name that is not UTF-8.
        case name
        /// An entry type that packages do not use.
        case entryType
        /// More than ``ArchiveLimits`` allows.
        case tooLarge
        /// An entry's data does not match the size in its header.
        case size
    }

    public var file: String
    public var reason: Reason
    public var message: String

    public init(file: String, reason: Reason, message: String) {
        self.file = file
        self.reason = reason
        self.message = message
    }

    public var description: String { "\(file): \(message)" }
}

/// Bounds on what an archive may unpack to: a few bytes of xz or a sparse header can expand to
/// exabytes.
public struct ArchiveLimits: Sendable, Hashable {
    /// Bytes of one file.
    public var file = 4 << 30
    /// Bytes of all files of a package together.
    public var package = 8 << 30
    /// Bytes of one control file, or of one decompressed kernel module.
    public var small = 256 << 20
    /// Entries of one package.
    public var entries = 1 << 20
    /// Bytes of a path or of a link's target (PATH_MAX of linux/limits.h, without its final zero).
    public var path = 4095

    public init() {}

    public static let standard = ArchiveLimits()
}
