import CCrypto

/// SHA-1 (FIPS 180-4). Not for trust: SPDX wants it of every file.
public enum SHA1 {
    /// 40 lower-case hexadecimal digits.
    public static func hash(_ bytes: [UInt8]) -> String {
        var digest = [UInt8](repeating: 0, count: 20)
        var size: UInt32 = 0
        EVP_Digest(bytes, bytes.count, &digest, &size, EVP_sha1(), nil)
        return digest.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }
}
