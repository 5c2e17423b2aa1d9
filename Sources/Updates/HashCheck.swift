import CCrypto
import Digests

/// Computes several hashes of a stream at once.
struct HashCheck: ~Copyable {
    private var running: [(algorithm: String, context: OpaquePointer)] = []

    deinit { for item in running { EVP_MD_CTX_free(item.context) } }

    mutating func begin(_ algorithm: String, name: String) throws(UpdateFailure) {
        let kind: OpaquePointer? =
            switch algorithm {
            case "sha256": EVP_sha256()
            case "sha384": EVP_sha384()
            case "sha512": EVP_sha512()
            default: nil
            }
        guard let kind, let context = EVP_MD_CTX_new() else {
            throw UpdateFailure(
                .mismatch, name, "the hash algorithm is \(algorithm), allowed are sha256, sha384 and sha512"
            )
        }
        EVP_DigestInit_ex(context, kind, nil)
        running.append((algorithm, context))
    }

    mutating func update(_ bytes: [UInt8]) {
        for item in running { EVP_DigestUpdate(item.context, bytes, bytes.count) }
    }

    /// - Throws: ``UpdateFailure`` unless all hashes are the expected ones.
    mutating func finish(_ expected: [String: String], name: String) throws(UpdateFailure) {
        for item in running {
            var (digest, count) = ([UInt8](repeating: 0, count: Int(EVP_MAX_MD_SIZE)), UInt32(0))
            EVP_DigestFinal_ex(item.context, &digest, &count)
            guard Array(digest[..<Int(count)]) == expected[item.algorithm].flatMap({ Hex.bytes($0) }) else {
                throw UpdateFailure(.mismatch, name, "the \(item.algorithm) hash is not the signed one")
            }
        }
    }
}
