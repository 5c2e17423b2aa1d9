import Digests
import Files

extension File {
    /// The SHA-256 digest of all bytes, and their number.
    func digest() throws(SystemError) -> (digest: Digest, size: Int) {
        var hash = SHA256()
        let size = try readPieces { hash.update($0) }
        return (hash.finish(), size)
    }
}
