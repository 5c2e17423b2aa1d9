import CCrypto
import Digests
import Documents

/// A key that signs metadata, as its delegator lists it (TUF 1.0, section 4.2).
public struct PublicKey: Sendable, Hashable {
    /// The signature scheme.
    public enum Scheme: String, Sendable, CaseIterable {
        case ed25519
        case ecdsaP256 = "ecdsa-sha2-nistp256"
        case ecdsaP384 = "ecdsa-sha2-nistp384"
        case rsaPSS256 = "rsassa-pss-sha256"
        case rsaPSS384 = "rsassa-pss-sha384"
        case rsaPSS512 = "rsassa-pss-sha512"

        fileprivate var keyTypes: [String] {
            switch self {
            case .ed25519: ["ed25519"]
            case .ecdsaP256, .ecdsaP384: ["ecdsa", rawValue]
            case .rsaPSS256, .rsaPSS384, .rsaPSS512: ["rsa"]
            }
        }

        fileprivate var digest: OpaquePointer? {
            switch self {
            // Ed25519 has its hash built in.
            case .ed25519: nil
            case .ecdsaP256, .rsaPSS256: EVP_sha256()
            case .ecdsaP384, .rsaPSS384: EVP_sha384()
            case .rsaPSS512: EVP_sha512()
            }
        }

        fileprivate var isRSA: Bool { keyTypes == ["rsa"] }

        fileprivate func accepts(_ key: OpaquePointer) -> Bool {
            switch self {
            case .ed25519: EVP_PKEY_is_a(key, "ED25519") == 1
            case .ecdsaP256: EVP_PKEY_is_a(key, "EC") == 1 && EVP_PKEY_get_bits(key) == 256
            case .ecdsaP384: EVP_PKEY_is_a(key, "EC") == 1 && EVP_PKEY_get_bits(key) == 384
            // NIST SP 800-57 part 1, section 5.6.1: shorter keys have less than 112 bits of
            // security.
            case .rsaPSS256, .rsaPSS384, .rsaPSS512: EVP_PKEY_is_a(key, "RSA") == 1 && EVP_PKEY_get_bits(key) >= 2048
            }
        }
    }

    public let scheme: Scheme
    /// The key in one encoding for all schemes: SubjectPublicKeyInfo in DER (RFC 5280, section
    /// 4.1.2.7).
    public let encoded: [UInt8]

    /// Nil for a key of an unknown scheme, whose signatures do not count.
    public init?(_ json: JSON) {
        guard let scheme = json["scheme"]?.text.flatMap(Scheme.init), let type = json["keytype"]?.text,
            scheme.keyTypes.contains(type), let value = json["keyval"]?["public"]?.text,
            let key = scheme == .ed25519 ? Self.read(hex: value) : Self.read(pem: value)
        else { return nil }
        defer { EVP_PKEY_free(key) }
        guard scheme.accepts(key) else { return nil }
        var der: UnsafeMutablePointer<UInt8>?
        let count = i2d_PUBKEY(key, &der)
        guard count > 0, let der else { return nil }
        defer { CRYPTO_free(der, #file, #line) }
        self.scheme = scheme
        encoded = Array(UnsafeBufferPointer(start: der, count: Int(count)))
    }

    private static func read(hex: String) -> OpaquePointer? {
        guard let bytes = Hex.bytes(hex) else { return nil }
        return EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nil, bytes, bytes.count)
    }

    private static func read(pem: String) -> OpaquePointer? {
        let bytes = Array(pem.utf8)
        guard bytes.count < 16_384, let memory = BIO_new_mem_buf(bytes, Int32(bytes.count)) else { return nil }
        defer { BIO_free(memory) }
        return PEM_read_bio_PUBKEY(memory, nil, nil, nil)
    }

    /// Whether a signature, in hexadecimal digits, is valid for this key and `bytes`.
    public func verifies(_ signature: String, over bytes: [UInt8]) -> Bool {
        guard let signature = Hex.bytes(signature) else { return false }
        let opened = encoded.withUnsafeBufferPointer { buffer in
            var start = buffer.baseAddress
            return d2i_PUBKEY(nil, &start, buffer.count)
        }
        guard let key = opened else { return false }
        defer { EVP_PKEY_free(key) }
        guard let context = EVP_MD_CTX_new() else { return false }
        defer { EVP_MD_CTX_free(context) }
        var parameters: OpaquePointer?
        guard EVP_DigestVerifyInit(context, &parameters, scheme.digest, nil, key) == 1 else { return false }
        if scheme.isRSA {
            guard EVP_PKEY_CTX_set_rsa_padding(parameters, RSA_PKCS1_PSS_PADDING) > 0,
                EVP_PKEY_CTX_set_rsa_pss_saltlen(parameters, RSA_PSS_SALTLEN_AUTO) > 0
            else { return false }
        }
        return EVP_DigestVerify(context, signature, signature.count, bytes, bytes.count) == 1
    }
}
