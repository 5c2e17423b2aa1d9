import CSystem
import Digests
import Files
import Glibc
import Synchronization

/// Authenticates the files that this user's builds have written to a cache.
///
/// Unpacked packages and compressed files have no digest in a lock. A mark is an HMAC (RFC 2104)
/// with a key that is kept outside of the cache. It detects damage and changes by other users: a
/// file without a valid mark is derived again from the .debs, whose digests are in the lock.
struct CacheSeal: Sendable {
    private let key: [UInt8]

    /// The key of the user who runs this: `$XDG_STATE_HOME/vcpe/cache.key`, or below
    /// `~/.local/state`. If it can't be stored, a random key of this process: every build then
    /// derives everything again. So it does with a new key, where others could know the old one.
    static let ofUser: CacheSeal = {
        let home = Cache.userFolder("XDG_STATE_HOME", or: ".local/state")
        return CacheSeal(key: (try? keptKey(in: "\(home)/vcpe")) ?? randomKey())
    }()

    /// The mark of content with this digest, kept under this name.
    func mark(_ name: String, _ digest: Digest) -> Digest {
        let message = Array(name.utf8) + [0] + digest.bytes
        let padded = key + [UInt8](repeating: 0, count: 64 - key.count)
        let inner = SHA256.hash(padded.map { $0 ^ 0x36 } + message)
        return SHA256.hash(padded.map { $0 ^ 0x5C } + inner.bytes)
    }

    private static func randomKey() -> [UInt8] {
        var generator = SystemRandomNumberGenerator()
        return (0..<32).map { _ in UInt8.random(in: 0...255, using: &generator) }
    }

    static func keptKey(in folder: String) throws -> [UInt8] {
        let path = "\(folder)/cache.key"
        try FileSystem.makeDirectory(folder)
        if let key = try? secretKey(path, in: folder) { return key }
        let temporary = try FileSystem.makeTemporaryDirectory(in: folder, prefix: FileSystem.temporaryPrefix + "key")
        defer { try? FileSystem.remove(temporary) }
        try FileSystem.replace("\(temporary)/key", with: randomKey(), mode: 0o600)
        if FileSystem.exists(path) {
            try FileSystem.rename("\(temporary)/key", to: path)
        } else {
            // link(2) never replaces a file: of two concurrent builds, the first one creates the
            // key.
            guard link("\(temporary)/key", path) == 0 || errno == EEXIST else { throw SystemError("link", path) }
        }
        return try secretKey(path, in: folder)
    }

    /// The key of a file that no other user could write or read.
    private static func secretKey(_ path: String, in folder: String) throws -> [UInt8] {
        let file = try File(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
        let (status, parent) = (try file.status(), try File(folder, O_RDONLY | O_DIRECTORY).status())
        // Root also builds for the user whose home it was given (sudo(8)).
        let owners = geteuid() == 0 ? [0, parent.st_uid] : [geteuid()]
        guard status.st_mode & S_IFMT == S_IFREG, status.st_mode & 0o077 == 0, owners.contains(status.st_uid),
            status.st_size == 32
        else { throw SystemError("open", path, code: EACCES) }
        return try file.readAll()
    }
}
