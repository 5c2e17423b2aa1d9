import Glibc

/// Owner, group and permission bits of a file or a folder (inode(7)).
public struct FileAttributes: Sendable, Hashable {
    public var user: uid_t
    public var group: gid_t
    /// `0o7777` at most: permission bits, set-user-ID, set-group-ID and sticky.
    public var mode: mode_t

    /// - Parameters:
    ///   - user, group: numeric; those of this process without them.
    ///   - mode: `0o7777` at most.
    public init(user: uid_t = geteuid(), group: gid_t = getegid(), mode: mode_t) {
        (self.user, self.group, self.mode) = (user, group, mode)
    }

    public init(_ status: stat) {
        self.init(user: status.st_uid, group: status.st_gid, mode: status.st_mode & 0o7777)
    }
}

extension File {
    /// Sets owner, group and permission bits, whatever the umask; nothing when they are so already.
    ///
    /// - Throws: ``SystemError`` of fchown(2) or fchmod(2).
    public func set(_ attributes: FileAttributes) throws(SystemError) {
        if FileAttributes(try status()) == attributes { return }
        guard fchown(descriptor, attributes.user, attributes.group) == 0 else { throw SystemError("fchown", path) }
        // Second, because chown(2) clears set-user-ID and set-group-ID.
        guard fchmod(descriptor, attributes.mode) == 0 else { throw SystemError("fchmod", path) }
    }
}
