import CCrypto

/// SHA-256 (FIPS 180-4) by OpenSSL's libcrypto, fed piece by piece.
public struct SHA256: ~Copyable {
    private let context: OpaquePointer

    public init() {
        // Both fail only where memory is out or libcrypto is broken; there is nothing to go on with.
        guard let context = EVP_MD_CTX_new(), EVP_DigestInit_ex(context, Self.algorithm, nil) == 1 else {
            fatalError("libcrypto has no SHA-256")
        }
        self.context = context
    }

    deinit { EVP_MD_CTX_free(context) }

    /// Takes in the next bytes.
    public mutating func update(_ bytes: UnsafeRawBufferPointer) {
        EVP_DigestUpdate(context, bytes.baseAddress, bytes.count)
    }

    /// Takes in the next bytes.
    public mutating func update(_ bytes: some Sequence<UInt8>) {
        if bytes.withContiguousStorageIfAvailable({ EVP_DigestUpdate(context, $0.baseAddress, $0.count) }) == nil {
            let copy = Array(bytes)
            EVP_DigestUpdate(context, copy, copy.count)
        }
    }

    /// The digest; the value is used up.
    public consuming func finish() -> Digest {
        Digest(
            bytes: [UInt8](unsafeUninitializedCapacity: Digest.size) { buffer, count in
                EVP_DigestFinal_ex(context, buffer.baseAddress, nil)
                count = Digest.size
            })
    }

    /// The digest so far; more may be fed afterwards.
    public func finishCopy() -> Digest {
        var copy = SHA256()
        copy.become(self)
        return copy.finish()
    }

    private mutating func become(_ other: borrowing SHA256) { EVP_MD_CTX_copy_ex(context, other.context) }

    /// The digest of bytes that are all at hand.
    public static func hash(_ bytes: some Sequence<UInt8>) -> Digest {
        var hash = SHA256()
        hash.update(bytes)
        return hash.finish()
    }

    /// Looked up once: fetching it by name costs microseconds, and millions of blocks are hashed.
    nonisolated(unsafe) private static let algorithm = EVP_sha256()
}

/// A SHA-256 digest.
public struct Digest: Sendable, Hashable, Comparable, CustomStringConvertible {
    /// Bytes of a digest.
    public static let size = 32
    /// Always ``size`` bytes.
    public let bytes: [UInt8]

    /// - Parameter bytes: ``size`` of them.
    public init(bytes: [UInt8]) {
        precondition(bytes.count == Self.size)
        self.bytes = bytes
    }

    /// Reads 64 hexadecimal digits in lower case; nil for anything else.
    public init?(hex: some StringProtocol) {
        guard let bytes = Hex.bytes(hex), bytes.count == Self.size, Hex.text(bytes) == hex else { return nil }
        self.bytes = bytes
    }

    /// 64 lower-case hexadecimal digits.
    public var hex: String { Hex.text(bytes) }

    public var description: String { hex }

    public static func < (a: Digest, b: Digest) -> Bool { a.bytes.lexicographicallyPrecedes(b.bytes) }
}
