import Digests
import Documents
import Files
import Glibc
import Processes
import Updates

/// Signs metadata with one key.
protocol MetadataSigner {
    /// The identifier under which repositories list the key.
    var identifier: String { get }
    /// - Returns: the signature over these bytes, in hexadecimal digits.
    func sign(_ bytes: [UInt8]) throws(ReleaseFailure) -> String
}

extension SigningKey: MetadataSigner {}

/// A program that signs in place of a key file: the key is in a token, an HSM or a key service.
///
/// `NAME.signer` gets the bytes to sign on standard input and prints the signature: DER for ECDSA,
/// the raw bytes for Ed25519 and RSA-PSS. It may ask for a PIN at `/dev/tty`. `NAME.signer.pub` is
/// its public key.
struct SignerProgram: MetadataSigner {
    let path: String
    let publicKey: JSON
    var identifier: String { SigningKey.identifier(of: publicKey) }

    init(_ path: String) throws {
        self.path = path
        publicKey = try SigningKey.readPublic(path + ".pub")
    }

    func sign(_ bytes: [UInt8]) throws(ReleaseFailure) -> String {
        var environment: [String: String] = [:]
        for name in ["HOME", "PATH", "TERM"] { environment[name] = getenv(name).map { String(cString: $0) } }
        let result: Command.Result
        do {
            result = try Command(path, [], environment: environment).run(input: File.temporary(holding: bytes))
        } catch {
            throw ReleaseFailure("\(path): \(error)", hint: "make it executable", reason: .noKey, path: path)
        }
        guard result.status == 0 else {
            throw ReleaseFailure(
                "\(path): exit code \(result.status): \(result.errorText.suffix(500))",
                hint: "run the program by hand", reason: .noKey, path: path)
        }
        // Without this check, a signature of another key would be published, and boxes refuse it.
        let signature = Hex.text(result.output)
        guard let key = PublicKey(publicKey), key.verifies(signature, over: bytes) else {
            throw ReleaseFailure(
                "\(path): its \(result.output.count) bytes are not a signature of the key \(identifier.prefix(12))",
                hint: "compare \(path).pub with the key in the token", reason: .noKey, path: path)
        }
        return signature
    }
}

extension SigningKey {
    /// The public key of a PEM file, as repositories list it, for a ``SignerProgram``.
    ///
    /// - Throws: ``ReleaseFailure`` for other keys than ECDSA on P-256 or P-384 and RSA of 2048
    ///   bits or more.
    public static func publicKey(pem path: String, owner: String?) throws -> JSON {
        let text = String(decoding: try FileSystem.read(path), as: UTF8.self)
        for (type, scheme) in [("ecdsa", PublicKey.Scheme.ecdsaP256), ("ecdsa", .ecdsaP384), ("rsa", .rsaPSS256)] {
            var json: [String: JSON] = [
                "keytype": .text(type), "scheme": .text(scheme.rawValue), "keyval": ["public": .text(text)],
            ]
            if let owner { json[ownerField] = .text(owner) }
            if PublicKey(.object(json)) != nil { return .object(json) }
        }
        throw ReleaseFailure(
            "\(path): not a public key in PEM of ECDSA on P-256 or P-384, or of RSA with 2048 bits or more",
            hint: "openssl pkey -pubin -in \(path) -text", path: path)
    }
}
