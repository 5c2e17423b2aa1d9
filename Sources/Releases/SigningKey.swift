import CCrypto
import Digests
import Documents
import Files
import Updates

/// A private Ed25519 key (RFC 8032) that signs metadata. On disk it is a ``SealedKey``.
public final class SigningKey {
    /// Where a key is kept, which sets the cost of guessing its file's passphrase.
    public enum Use: Sendable {
        /// A key of root, targets, a channel or the director that only its owner unseals.
        case offline
        /// A key of snapshot or timestamp, or any key of a lab: the passphrase is on the same
        /// machine.
        case online
    }

    private let key: OpaquePointer
    /// The key as repositories list it (TUF 1.0, section 4.2), with the owner as `x-vcpe-owner`.
    public let publicKey: JSON
    /// SHA-256 of the public key's canonical JSON, in hexadecimal digits (TUF 1.0, section 4.2,
    /// `KEYID`).
    public let identifier: String

    private init(_ key: OpaquePointer, owner: String?) throws(ReleaseFailure) {
        self.key = key
        var raw = [UInt8](repeating: 0, count: 32)
        var count = raw.count
        guard EVP_PKEY_is_a(key, "ED25519") == 1, EVP_PKEY_get_raw_public_key(key, &raw, &count) == 1, count == 32
        else {
            throw ReleaseFailure("the key is not an Ed25519 key", hint: "make one with vcpe release key FILE")
        }
        var json: [String: JSON] = [
            "keytype": "ed25519", "scheme": "ed25519", "keyval": ["public": .text(Hex.text(raw))],
        ]
        if let owner { json[Self.ownerField] = .text(owner) }
        publicKey = .object(json)
        identifier = Self.identifier(of: publicKey)
    }

    deinit { EVP_PKEY_free(key) }

    static let ownerField = "x-vcpe-owner"

    /// The name that the owner gave a public key; nil for a key without one.
    public static func owner(of publicKey: JSON?) -> String? { publicKey?[ownerField]?.text }

    /// The identifier under which a repository lists a public key.
    public static func identifier(of publicKey: JSON) -> String { SHA256.hash(publicKey.canonical).hex }

    /// Makes a key.
    ///
    /// - Parameter owner: the name that reviews and `status` show beside the identifier.
    public static func make(owner: String? = nil) throws(ReleaseFailure) -> SigningKey {
        let context = EVP_PKEY_CTX_new_id(EVP_PKEY_ED25519, nil)
        defer { EVP_PKEY_CTX_free(context) }
        var made: OpaquePointer?
        guard EVP_PKEY_keygen_init(context) == 1, EVP_PKEY_keygen(context, &made) == 1, let made else {
            throw ReleaseFailure("libcrypto cannot generate an Ed25519 key")
        }
        return try SigningKey(made, owner: owner)
    }

    /// Signs bytes.
    ///
    /// - Returns: the signature in hexadecimal digits.
    public func sign(_ bytes: [UInt8]) throws(ReleaseFailure) -> String {
        let context = EVP_MD_CTX_new()
        defer { EVP_MD_CTX_free(context) }
        var signature = [UInt8](repeating: 0, count: 64)
        var count = signature.count
        guard EVP_DigestSignInit(context, nil, nil, nil, key) == 1,
            EVP_DigestSign(context, &signature, &count, bytes, bytes.count) == 1
        else { throw ReleaseFailure("libcrypto cannot sign with the key \(identifier.prefix(12))") }
        return Hex.text(signature[..<count])
    }

    // MARK: - Files

    /// Writes the sealed private key, and `PATH.pub` with the public key for the operator who
    /// creates the repository.
    ///
    /// - Throws: ``ReleaseFailure`` if the file exists, or for a passphrase that ``Passphrase``
    ///   refuses for this use.
    public func write(_ path: String, passphrase: String, use: Use) throws {
        try Passphrase.check(passphrase, for: use)
        guard !FileSystem.exists(path) else {
            throw ReleaseFailure(
                "\(path) exists; a key file is never overwritten, because its key would be lost",
                hint: "give another file name")
        }
        var raw = [UInt8](repeating: 0, count: 32)
        var count = raw.count
        guard EVP_PKEY_get_raw_private_key(key, &raw, &count) == 1, count == 32 else {
            throw ReleaseFailure("libcrypto cannot export the private key")
        }
        defer { raw.withUnsafeMutableBytes { OPENSSL_cleanse($0.baseAddress, $0.count) } }
        let sealed = try SealedKey.seal(raw, publicKey: publicKey, passphrase: passphrase, use: use)
        try FileSystem.replace(path, with: Array(sealed.json.pretty.utf8), mode: 0o600)
        try FileSystem.replace(path + ".pub", with: publicKey.pretty)
    }

    /// Opens a sealed key.
    ///
    /// - Throws: ``ReleaseFailure`` for a wrong passphrase, and for a file that was changed.
    convenience init(_ sealed: SealedKey, passphrase: String) throws(ReleaseFailure) {
        var raw = try sealed.open(passphrase: passphrase)
        defer { raw.withUnsafeMutableBytes { OPENSSL_cleanse($0.baseAddress, $0.count) } }
        guard let key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nil, raw, raw.count) else {
            throw ReleaseFailure("\(sealed.path): the sealed bytes are not an Ed25519 key")
        }
        try self.init(key, owner: Self.owner(of: sealed.publicKey))
        guard publicKey == sealed.publicKey else {
            throw ReleaseFailure("\(sealed.path): the public key in the file is not that of the private key")
        }
    }

    /// Reads a public key from the `.pub` file that ``write(_:passphrase:use:)`` writes.
    public static func readPublic(_ path: String) throws -> JSON {
        let json: JSON
        do { json = try JSON.parse(try FileSystem.read(path)) } catch let error as SystemError { throw error } catch {
            throw ReleaseFailure("\(path): \(error)", hint: "give a .pub file that vcpe release key wrote")
        }
        guard PublicKey(json) != nil else {
            throw ReleaseFailure(
                "\(path): the key's scheme is missing or unknown; allowed are "
                    + PublicKey.Scheme.allCases.map(\.rawValue).joined(separator: ", "),
                hint: "give a .pub file that vcpe release key wrote")
        }
        return json
    }
}
