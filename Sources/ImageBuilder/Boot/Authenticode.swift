import CCrypto
import Digests
import Disks
import Documents
import Files

/// Signs PE images for UEFI Secure Boot (UEFI 2.10, section 32.2.4; Microsoft's Authenticode PE
/// format, version 1.0).
///
/// The signature has no signing time and is made by RSA with PKCS #1 v1.5, which uses no random
/// numbers (RFC 8017, section 8.2): the same image, key and certificate give the same bytes.
/// sbsign(1) would write the time into the signed attributes and make every build different.
struct Authenticode {
    private let key: Key
    private let certificate: [UInt8]
    private let issuer: [UInt8]
    private let serial: [UInt8]

    /// The handle of a private key.
    private final class Key {
        let pointer: OpaquePointer
        init(_ pointer: OpaquePointer) { self.pointer = pointer }
        deinit { EVP_PKEY_free(pointer) }
    }

    /// Reads a key and its certificate, both PEM.
    ///
    /// - Throws: ``InvalidDocument`` at the line of the definition that references the file.
    init(key keyFile: Located<String>, certificate certificateFile: Located<String>, folder: String) throws {
        func read(_ file: Located<String>) throws -> (path: String, bytes: [UInt8]) {
            let path = "\(folder)/\(file.value)"
            guard FileSystem.exists(path) else {
                throw InvalidDocument([file.problem("there is no \(path)", hint: "set the path of a PEM file")])
            }
            return (path, try FileSystem.read(path))
        }
        let (keyPath, keyBytes) = try read(keyFile)
        let (certificatePath, certificateBytes) = try read(certificateFile)
        guard let key = Self.parse(keyBytes, { PEM_read_bio_PrivateKey($0, nil, { _, _, _, _ in -1 }, nil) }) else {
            throw InvalidDocument([
                keyFile.problem(
                    "\(keyPath): found no readable private key, allowed is PEM without a passphrase",
                    hint: "openssl rsa -in \(keyPath) -out \(keyPath).plain removes a passphrase")
            ])
        }
        self.key = Key(key)
        // An ECDSA signature uses random numbers, and not all firmware verifies one.
        guard EVP_PKEY_is_a(key, "RSA") == 1 else {
            throw InvalidDocument([
                keyFile.problem(
                    "\(keyPath): found a key of another type, allowed is RSA", hint: "openssl req -newkey rsa:2048 …")
            ])
        }
        guard let parsed = Self.parse(certificateBytes, { PEM_read_bio_X509($0, nil, nil, nil) }) else {
            throw InvalidDocument([
                certificateFile.problem("\(certificatePath): found no certificate, allowed is X.509 as PEM")
            ])
        }
        defer { X509_free(parsed) }
        guard X509_check_private_key(parsed, key) == 1 else {
            throw InvalidDocument([
                certificateFile.problem(
                    "\(certificatePath): the certificate does not match the private key \(keyPath)",
                    hint: "openssl x509 -noout -pubkey -in prints its key")
            ])
        }
        certificate = Self.encoded { i2d_X509(parsed, $0) }
        issuer = Self.encoded { i2d_X509_NAME(X509_get_issuer_name(parsed), $0) }
        serial = Self.encoded { i2d_ASN1_INTEGER(X509_get_serialNumber(parsed), $0) }
    }

    private static func parse(_ bytes: [UInt8], _ body: (OpaquePointer) -> OpaquePointer?) -> OpaquePointer? {
        bytes.withUnsafeBytes { buffer in
            guard let memory = BIO_new_mem_buf(buffer.baseAddress, Int32(buffer.count)) else { return nil }
            defer { BIO_free(memory) }
            return body(memory)
        }
    }

    /// The output of one of OpenSSL's i2d functions.
    private static func encoded(
        _ write: (UnsafeMutablePointer<UnsafeMutablePointer<UInt8>?>?) -> Int32
    ) -> [UInt8] {
        let count = Int(write(nil))
        guard count > 0 else { return [] }
        var bytes = [UInt8](repeating: 0, count: count)
        bytes.withUnsafeMutableBufferPointer { buffer in
            var end = buffer.baseAddress
            _ = write(&end)
        }
        return bytes
    }

    // MARK: - Signing

    private static let sha256 = DER.sequence(DER.identifier(2, 16, 840, 1, 101, 3, 4, 2, 1), DER.null)
    private static let indirectData = DER.identifier(1, 3, 6, 1, 4, 1, 311, 2, 1, 4)

    /// Appends a signature to the image. Throws when the image is already signed.
    func sign(_ image: [UInt8]) throws -> [UInt8] {
        var image = image
        image += [UInt8](repeating: 0, count: image.count.rounded(upTo: 8) - image.count)
        guard let fields = PEFields(image), fields.signature == 0 else {
            throw BuildFailure(
                "can't sign the image: found no PE32+ image or a signed one, allowed is an unsigned PE32+ image")
        }
        let message = try signedData(over: fields.digest(of: image))
        // WIN_CERTIFICATE: length, revision 2.0, PKCS #7.
        var entry = LittleEndian()
        entry.put(UInt32(message.count + 8))
        entry.put(UInt16(0x0200))
        entry.put(UInt16(0x0002))
        entry.put(message)
        entry.pad(to: entry.bytes.count.rounded(upTo: 8))
        image.put(UInt32(image.count), at: fields.directory)
        image.put(UInt32(entry.bytes.count), at: fields.directory + 4)
        return image + entry.bytes
    }

    /// The image without its signature.
    static func unsigned(_ image: [UInt8]) throws -> [UInt8] {
        guard let fields = PEFields(image) else {
            throw BuildFailure("can't remove a signature: found no PE32+ image", hint: "build the image again")
        }
        guard fields.signature > 0 else { return image }
        // The certificate table is the end of the file (Authenticode PE format, 1.0).
        guard let start = image.integer(at: fields.directory, UInt32.self).map(Int.init),
            start + fields.signature == image.count
        else {
            throw BuildFailure(
                "can't remove a signature: the certificate table is not the image's end", hint: "build the image again")
        }
        var bare = Array(image[..<start])
        bare.put(UInt32(0), at: fields.directory)
        bare.put(UInt32(0), at: fields.directory + 4)
        return bare
    }

    /// A PKCS #7 SignedData (RFC 2315) whose contents are the image's digest.
    private func signedData(over digest: Digest) throws -> [UInt8] {
        // SpcPeImageData: no flags, and the fixed file name of Authenticode.
        let obsolete = Array("<<<Obsolete>>>".utf8).flatMap { (byte: UInt8) -> [UInt8] in [0, byte] }
        let file = DER.context(0, DER.context(2, DER.element(0x80, obsolete)))
        let image = DER.sequence(
            DER.identifier(1, 3, 6, 1, 4, 1, 311, 2, 1, 15), DER.sequence([0x03, 0x01, 0x00], file))
        let digestInfo = DER.sequence(Self.sha256, DER.octets(digest.bytes))
        // The digest covers the contents without their tag and length.
        let inner = image + digestInfo
        let content = DER.element(0x30, inner)
        let attributes = [
            DER.sequence(DER.identifier(1, 2, 840, 113_549, 1, 9, 3), DER.set(Self.indirectData)),
            DER.sequence(
                DER.identifier(1, 2, 840, 113_549, 1, 9, 4), DER.set(DER.octets(SHA256.hash(inner).bytes))),
        ].sorted { $0.lexicographicallyPrecedes($1) }.flatMap { $0 }
        let signature = try rsa(DER.element(0x31, attributes))
        let signer = DER.sequence(
            DER.integer(1), DER.sequence(issuer, serial), Self.sha256, DER.context(0, attributes),
            DER.sequence(DER.identifier(1, 2, 840, 113_549, 1, 1, 1), DER.null), DER.octets(signature))
        let data = DER.sequence(
            DER.integer(1), DER.set(Self.sha256), DER.sequence(Self.indirectData, DER.context(0, content)),
            DER.context(0, certificate), DER.set(signer))
        return DER.sequence(DER.identifier(1, 2, 840, 113_549, 1, 7, 2), DER.context(0, data))
    }

    private func rsa(_ bytes: [UInt8]) throws -> [UInt8] {
        let context = EVP_MD_CTX_new()
        defer { EVP_MD_CTX_free(context) }
        var signature = [UInt8](repeating: 0, count: Int(EVP_PKEY_get_size(key.pointer)))
        var count = signature.count
        guard EVP_DigestSignInit(context, nil, EVP_sha256(), nil, key.pointer) == 1,
            EVP_DigestSign(context, &signature, &count, bytes, bytes.count) == 1
        else { throw BuildFailure("libcrypto can't sign with the key of secure-boot") }
        return Array(signature[..<count])
    }
}

/// The offsets of the fields of a PE32+ image that its signature does not cover.
private struct PEFields {
    private let checksum: Int
    private let headersSize: Int
    private let sections: [Range<Int>]
    /// Offset of the certificate table's entry in the data directories.
    let directory: Int
    /// Size of the image's signature in bytes.
    let signature: Int

    init?(_ image: [UInt8]) {
        guard let header = image.integer(at: 0x3C, UInt32.self).map(Int.init),
            image.integer(at: header, UInt32.self) == 0x0000_4550,
            let count = image.integer(at: header + 6, UInt16.self).map(Int.init),
            let optionalSize = image.integer(at: header + 20, UInt16.self).map(Int.init),
            image.integer(at: header + 24, UInt16.self) == 0x20B,
            let headersSize = image.integer(at: header + 24 + 60, UInt32.self).map(Int.init),
            let directories = image.integer(at: header + 24 + 108, UInt32.self), directories > 4,
            let size = image.integer(at: header + 24 + 148, UInt32.self).map(Int.init), headersSize <= image.count
        else { return nil }
        checksum = header + 24 + 64
        directory = header + 24 + 144
        self.headersSize = headersSize
        signature = size
        var sections: [Range<Int>] = []
        for i in 0..<count {
            let entry = header + 24 + optionalSize + i * 40
            guard let size = image.integer(at: entry + 16, UInt32.self).map(Int.init),
                let start = image.integer(at: entry + 20, UInt32.self).map(Int.init), start + size <= image.count
            else { return nil }
            if size > 0 { sections.append(start..<start + size) }
        }
        self.sections = sections.sorted { $0.lowerBound < $1.lowerBound }
    }

    /// The Authenticode digest: headers without checksum and certificate table, sections in the
    /// order of their offsets, and the data after them.
    func digest(of image: [UInt8]) -> Digest {
        var hash = SHA256()
        hash.update(image[..<checksum])
        hash.update(image[(checksum + 4)..<directory])
        hash.update(image[(directory + 8)..<headersSize])
        var hashed = headersSize
        for section in sections {
            hash.update(image[section])
            hashed += section.count
        }
        if hashed < image.count { hash.update(image[hashed...]) }
        return hash.finish()
    }
}
