import CCrypto
import Digests
import Documents
import Files
import Updates

/// A private key under a passphrase: scrypt (RFC 7914) derives an AES-256-GCM key (NIST SP 800-38D)
/// that seals it.
///
/// The file is JSON. All other fields are authenticated with the sealed bytes, so an attacker can
/// neither swap the public key nor weaken the parameters undetected. PKCS #8 is not used, because
/// libcrypto opens such files with at most 32 MiB of scrypt memory.
struct SealedKey {
    /// Cost of one guess (RFC 7914, section 2): 128 · n · r bytes of memory, and p such passes.
    struct Cost: Hashable {
        var n: Int
        var r: Int
        var p: Int

        /// 128 MiB and two passes per guess, about 0.7 s on a current core.
        static let offline = Cost(n: 1 << 17, r: 8, p: 2)
        /// 32 MiB per guess: a job opens an online key, and its passphrase is on the same machine.
        static let online = Cost(n: 1 << 15, r: 8, p: 1)

        /// Bytes of memory that libcrypto may use: twice what the parameters need.
        var memory: UInt64 { 2 * 128 * UInt64(n) * UInt64(r) + (1 << 20) }

        /// A key file is untrusted input, so at most 1 GiB and 16 passes are allowed.
        var isAllowed: Bool {
            (1 << 14...1 << 20).contains(n) && n & (n - 1) == 0 && r == 8 && (1...16).contains(p)
        }
    }

    private static let format = "vcpe-signing-key-1"
    private static let (saltBytes, nonceBytes, tagBytes) = (32, 12, 16)

    /// The path of the file, for errors.
    var path = ""
    let publicKey: JSON
    let cost: Cost
    private let salt: [UInt8]
    private let nonce: [UInt8]
    /// The encrypted key, followed by the GCM tag.
    private let sealed: [UInt8]

    /// All public fields, which are the additional authenticated data.
    private var head: [String: JSON] {
        [
            "format": .text(Self.format), "public": publicKey,
            "kdf": [
                "name": "scrypt", "n": .integer(cost.n), "r": .integer(cost.r), "p": .integer(cost.p),
                "salt": .text(Hex.text(salt)),
            ],
            "cipher": ["name": "aes-256-gcm", "nonce": .text(Hex.text(nonce))],
        ]
    }

    var json: JSON { .object(head.merging(["sealed": .text(Hex.text(sealed))]) { $1 }) }

    /// Reads a file; the passphrase is not needed for that.
    ///
    /// - Throws: ``ReleaseFailure`` for anything but a key file of this format.
    init(_ path: String) throws {
        func refused(_ what: String) -> ReleaseFailure {
            ReleaseFailure("\(path): \(what)", hint: "give a .key file that vcpe release key made")
        }
        let bytes = try FileSystem.read(path)
        let json: JSON
        do { json = try JSON.parse(bytes) } catch { throw refused("not a key file: \(error)") }
        guard json["format"]?.text == Self.format else {
            throw refused("the format is \(json["format"]?.text ?? "missing"), allowed is \(Self.format)")
        }
        guard let publicKey = json["public"], let kdf = json["kdf"], let cipher = json["cipher"],
            kdf["name"]?.text == "scrypt", cipher["name"]?.text == "aes-256-gcm",
            let n = kdf["n"]?.integer, let r = kdf["r"]?.integer, let p = kdf["p"]?.integer,
            let salt = kdf["salt"]?.text.flatMap({ Hex.bytes($0) }),
            let nonce = cipher["nonce"]?.text.flatMap({ Hex.bytes($0) }),
            let sealed = json["sealed"]?.text.flatMap({ Hex.bytes($0) })
        else { throw refused("a field is missing or of the wrong type") }
        let cost = Cost(n: n, r: r, p: p)
        guard cost.isAllowed else { throw refused("scrypt with n \(n), r \(r), p \(p) is not allowed") }
        guard salt.count == Self.saltBytes, nonce.count == Self.nonceBytes, sealed.count == 32 + Self.tagBytes else {
            throw refused("salt, nonce or sealed key have the wrong length")
        }
        self.init(path: path, publicKey: publicKey, cost: cost, salt: salt, nonce: nonce, sealed: sealed)
    }

    private init(path: String, publicKey: JSON, cost: Cost, salt: [UInt8], nonce: [UInt8], sealed: [UInt8]) {
        (self.path, self.publicKey, self.cost) = (path, publicKey, cost)
        (self.salt, self.nonce, self.sealed) = (salt, nonce, sealed)
    }

    static func seal(
        _ key: [UInt8], publicKey: JSON, passphrase: String, use: SigningKey.Use
    ) throws(ReleaseFailure) -> SealedKey {
        let cost = use == .offline ? Cost.offline : Cost.online
        let (salt, nonce) = (random(saltBytes), random(nonceBytes))
        let empty = SealedKey(path: "", publicKey: publicKey, cost: cost, salt: salt, nonce: nonce, sealed: [])
        var secret = try empty.derive(passphrase)
        defer { secret.withUnsafeMutableBytes { OPENSSL_cleanse($0.baseAddress, $0.count) } }
        let context = EVP_CIPHER_CTX_new()
        defer { EVP_CIPHER_CTX_free(context) }
        let authenticated = JSON.object(empty.head).canonical
        var (sealed, tag) = ([UInt8](repeating: 0, count: key.count), [UInt8](repeating: 0, count: tagBytes))
        var (count, rest) = (Int32(0), Int32(0))
        guard EVP_EncryptInit_ex(context, EVP_aes_256_gcm(), nil, secret, nonce) == 1,
            EVP_EncryptUpdate(context, nil, &count, authenticated, Int32(authenticated.count)) == 1,
            EVP_EncryptUpdate(context, &sealed, &count, key, Int32(key.count)) == 1, Int(count) == key.count,
            EVP_EncryptFinal_ex(context, nil, &rest) == 1,
            EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, Int32(tagBytes), &tag) == 1
        else { throw ReleaseFailure("libcrypto cannot seal the key with AES-256-GCM") }
        return SealedKey(
            path: "", publicKey: publicKey, cost: cost, salt: salt, nonce: nonce, sealed: sealed + tag)
    }

    /// The private key.
    func open(passphrase: String) throws(ReleaseFailure) -> [UInt8] {
        var secret = try derive(passphrase)
        defer { secret.withUnsafeMutableBytes { OPENSSL_cleanse($0.baseAddress, $0.count) } }
        let context = EVP_CIPHER_CTX_new()
        defer { EVP_CIPHER_CTX_free(context) }
        let authenticated = JSON.object(head).canonical
        let body = Array(sealed.dropLast(Self.tagBytes))
        var (key, tag) = ([UInt8](repeating: 0, count: body.count), Array(sealed.suffix(Self.tagBytes)))
        var (count, rest) = (Int32(0), Int32(0))
        guard EVP_DecryptInit_ex(context, EVP_aes_256_gcm(), nil, secret, nonce) == 1,
            EVP_DecryptUpdate(context, nil, &count, authenticated, Int32(authenticated.count)) == 1,
            EVP_DecryptUpdate(context, &key, &count, body, Int32(body.count)) == 1, Int(count) == body.count,
            EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, Int32(Self.tagBytes), &tag) == 1,
            EVP_DecryptFinal_ex(context, nil, &rest) == 1
        else {
            throw ReleaseFailure(
                "\(path): the passphrase does not open the key, or the file was changed",
                hint: "give the passphrase of this file")
        }
        return key
    }

    private func derive(_ passphrase: String) throws(ReleaseFailure) -> [UInt8] {
        var secret = [UInt8](repeating: 0, count: 32)
        let words = Array(passphrase.utf8)
        let isDone = words.withUnsafeBytes { bytes in
            EVP_PBE_scrypt(
                bytes.baseAddress?.assumingMemoryBound(to: CChar.self), bytes.count, salt, salt.count, UInt64(cost.n),
                UInt64(cost.r), UInt64(cost.p), cost.memory, &secret, secret.count)
        }
        guard isDone == 1 else {
            throw ReleaseFailure(
                "libcrypto cannot run scrypt with n \(cost.n), r \(cost.r), p \(cost.p)",
                hint: "free \(cost.memory >> 20) MiB of memory")
        }
        return secret
    }

    /// From `getrandom(2)`.
    private static func random(_ count: Int) -> [UInt8] {
        var generator = SystemRandomNumberGenerator()
        return (0..<count).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
    }
}

/// Requirements for a passphrase that seals a key.
public enum Passphrase {
    /// The minimum length in bytes. NIST SP 800-63B-4, section 3.1.1.2, requires 15 characters for
    /// a password without a second factor. An attacker with the file can guess offline, so this
    /// requires one more.
    public static func minimum(for use: SigningKey.Use) -> Int { use == .offline ? 16 : 8 }

    /// The minimum number of different bytes for an offline key, because `aaaaaaaaaaaaaaaa` is long
    /// but weak.
    public static let minimumDifferent = 8

    /// - Throws: ``ReleaseFailure`` for a passphrase that is too short or too uniform for this use.
    public static func check(_ text: String, for use: SigningKey.Use) throws(ReleaseFailure) {
        let count = text.utf8.count
        guard count >= minimum(for: use) else {
            throw ReleaseFailure(
                "the passphrase has \(count) bytes, the minimum for \(use == .offline ? "offline" : "online") keys is "
                    + "\(minimum(for: use))",
                hint: "six random words, for example")
        }
        guard use == .online || Set(text.utf8).count >= minimumDifferent else {
            throw ReleaseFailure(
                "the passphrase has \(Set(text.utf8).count) different bytes, the minimum is \(minimumDifferent)",
                hint: "six random words, for example")
        }
    }
}
