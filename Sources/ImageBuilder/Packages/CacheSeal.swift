import CSystem
import Digests
import Files
import Glibc
import Synchronization

/// Marks what this user's own builds have put into a cache.
///
/// Unpacked packages and compressed files have no digest in a lock. A mark is an HMAC (RFC 2104) by
/// a key that is kept outside of the cache, so that a cache which others can write, or which was
/// damaged, is not believed: what has no valid mark is derived again from the .debs, whose digests
/// are in the lock.
struct CacheSeal: Sendable {
    private let key: [UInt8]

    /// The key of the user who runs this: `$XDG_STATE_HOME/vcpe/cache.key`, or below
    /// `~/.local/state`. Where that can't be kept, a key of this process alone: every build then
    /// derives everything anew.
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

    private static func keptKey(in folder: String) throws -> [UInt8] {
        let path = "\(folder)/cache.key"
        try FileSystem.makeDirectory(folder)
        if !FileSystem.exists(path) {
            // The first of two builds that start at once makes it; a link never replaces.
            let temporary = try FileSystem.makeTemporaryDirectory(
                in: folder, prefix: FileSystem.temporaryPrefix + "key")
            defer { try? FileSystem.remove(temporary) }
            try FileSystem.replace("\(temporary)/key", with: randomKey(), mode: 0o600)
            guard link("\(temporary)/key", path) == 0 || errno == EEXIST else { throw SystemError("link", path) }
        }
        let key = try FileSystem.read(path)
        guard key.count == 32 else {
            throw BuildFailure("\(path): found \(key.count) bytes, allowed are 32", hint: "remove it")
        }
        return key
    }
}
