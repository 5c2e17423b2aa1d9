import Digests
import Testing

@Suite struct SHA256Tests {
    /// FIPS 180-4's own example.
    @Test func knownAnswer() {
        let digest = SHA256.hash("abc".utf8)
        #expect(digest.hex == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
        #expect(Digest(hex: digest.hex) == digest)
        #expect(Digest(hex: "ba78") == nil && Digest(hex: String(repeating: "G", count: 64)) == nil)
    }
}
