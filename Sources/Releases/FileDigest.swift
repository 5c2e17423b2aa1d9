import Digests
import Files

extension File {
    /// The digest of all its bytes, and how many they are.
    func digest() throws(SystemError) -> (digest: Digest, size: Int) {
        var hash = SHA256()
        let size = try readPieces { hash.update($0) }
        return (hash.finish(), size)
    }
}
