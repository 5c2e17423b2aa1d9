import CCrypto
import Digests
import Documents
import Files

/// A private Ed25519 key that signs metadata, kept in a file under a passphrase (PKCS #8, scrypt and AES-256).
public final class SigningKey {
    private let key: OpaquePointer
    /// What repositories list.
    public let publicKey: JSON
    /// SHA-256 of the public key's canonical text.
    public let identifier: String

    private init(_ key: OpaquePointer) throws(ReleaseFailure) {
        self.key = key
        var raw = [UInt8](repeating: 0, count: 32)
        var count = raw.count
        guard EVP_PKEY_is_a(key, "ED25519") == 1, EVP_PKEY_get_raw_public_key(key, &raw, &count) == 1, count == 32
        else {
            throw ReleaseFailure("not an Ed25519 key", hint: "vcpe release key FILE makes one")
        }
        publicKey = [
            "keytype": "ed25519", "scheme": "ed25519", "keyval": ["public": .text(Hex.text(raw))],
        ]
        identifier = Self.identifier(of: publicKey)
    }

    deinit { EVP_PKEY_free(key) }

    public static func identifier(of publicKey: JSON) -> String { SHA256.hash(publicKey.canonical).hex }

    public static func make() throws(ReleaseFailure) -> SigningKey {
        let context = EVP_PKEY_CTX_new_id(EVP_PKEY_ED25519, nil)
        defer { EVP_PKEY_CTX_free(context) }
        var made: OpaquePointer?
        guard EVP_PKEY_keygen_init(context) == 1, EVP_PKEY_keygen(context, &made) == 1, let made else {
            throw ReleaseFailure("no key could be made")
        }
        return try SigningKey(made)
    }

    /// Hexadecimal digits of a signature.
    public func sign(_ bytes: [UInt8]) throws(ReleaseFailure) -> String {
        let context = EVP_MD_CTX_new()
        defer { EVP_MD_CTX_free(context) }
        var signature = [UInt8](repeating: 0, count: 64)
        var count = signature.count
        guard EVP_DigestSignInit(context, nil, nil, nil, key) == 1,
            EVP_DigestSign(context, &signature, &count, bytes, bytes.count) == 1
        else { throw ReleaseFailure("the key \(identifier.prefix(8)) does not sign") }
        return Hex.text(signature[..<count])
    }

    // MARK: - Files

    /// Writes the private key, and beside it `FILE.pub` for whoever makes the repository.
    public func write(_ path: String, passphrase: String) throws {
        guard !FileSystem.exists(path) else {
            throw ReleaseFailure(
                "\(path) is there already", hint: "give another name; a key that is lost signs nothing more")
        }
        guard let plain = EVP_PKEY2PKCS8(key) else { throw ReleaseFailure("the key can't be written") }
        defer { PKCS8_PRIV_KEY_INFO_free(plain) }
        // 16 MiB and a tenth of a second for each guess.
        guard let way = PKCS5_pbe2_set_scrypt(EVP_aes_256_cbc(), nil, 0, nil, 16_384, 8, 1) else {
            throw ReleaseFailure("this OpenSSL has no scrypt")
        }
        guard let sealed = PKCS8_set0_pbe(passphrase, Int32(passphrase.utf8.count), plain, way) else {
            X509_ALGOR_free(way)
            throw ReleaseFailure("the key can't be encrypted")
        }
        defer { X509_SIG_free(sealed) }
        let memory = BIO_new(BIO_s_mem())
        defer { BIO_free(memory) }
        guard PEM_write_bio_PKCS8(memory, sealed) == 1 else { throw ReleaseFailure("the key can't be written") }
        var text = [UInt8](repeating: 0, count: 4096)
        let count = BIO_read(memory, &text, Int32(text.count))
        guard count > 0 else { throw ReleaseFailure("the key can't be written") }
        try FileSystem.replace(path, with: Array(text[..<Int(count)]), mode: 0o600)
        try FileSystem.replace(path + ".pub", with: publicKey.pretty)
    }

    public static func read(_ path: String, passphrase: String) throws -> SigningKey {
        let bytes = try FileSystem.read(path)
        let memory = BIO_new_mem_buf(bytes, Int32(bytes.count))
        defer { BIO_free(memory) }
        let opened = passphrase.withCString {
            PEM_read_bio_PrivateKey(memory, nil, nil, UnsafeMutableRawPointer(mutating: $0))
        }
        guard let opened else {
            throw ReleaseFailure("\(path): not a key in PEM, or another passphrase than its own")
        }
        return try SigningKey(opened)
    }

    /// The public key of a file that ``write(_:passphrase:)`` left.
    public static func readPublic(_ path: String) throws -> JSON {
        let json = try JSON.parse(try FileSystem.read(path))
        guard json["keytype"]?.text != nil, json["scheme"]?.text != nil, json["keyval"]?["public"]?.text != nil else {
            throw ReleaseFailure("\(path) is no public key", hint: "name the .pub file that vcpe release key leaves")
        }
        return json
    }
}
