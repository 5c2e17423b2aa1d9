/// One entry of a tar archive, as a package carries it.
public struct ArchiveEntry: Sendable, Hashable {
    public enum Kind: Sendable, Hashable {
        /// A regular file of this many bytes.
        case file(size: Int)
        case directory
        case symbolicLink(target: String)
        /// Another name of an earlier entry, whose path this is.
        case hardLink(path: String)
        case characterDevice(major: UInt32, minor: UInt32)
        case blockDevice(major: UInt32, minor: UInt32)
        case fifo
    }

    /// Relative to the root, without a leading `./` or `/`; empty for the root itself. Never holds `..`.
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

/// An archive that can't be read, or holds what no package may.
public struct ArchiveError: Error, Sendable, Hashable, CustomStringConvertible {
    public var file: String
    public var message: String

    public init(file: String, message: String) {
        self.file = file
        self.message = message
    }

    public var description: String { "\(file): \(message)" }
}
