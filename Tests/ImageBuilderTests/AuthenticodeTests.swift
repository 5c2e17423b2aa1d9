import Disks
import Documents
import Files
import Processes
import Testing

@testable import ImageBuilder

/// Signatures for Secure Boot; sbverify(1) is the oracle.
@Suite final class AuthenticodeTests {
    let folder: String

    init() throws { folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-sign") }

    deinit { try? FileSystem.remove(folder) }

    /// A PE32+ image with one section of 512 bytes (Microsoft's PE format).
    private var image: [UInt8] {
        var bytes = [UInt8](repeating: 0, count: 1024)
        bytes.replaceSubrange(0..<2, with: Array("MZ".utf8))
        bytes.put(UInt32(0x80), at: 0x3C)
        bytes.put(UInt32(0x0000_4550), at: 0x80)
        bytes.put(UInt16(0x8664), at: 0x84)  // x86-64
        bytes.put(UInt16(1), at: 0x86)  // sections
        bytes.put(UInt16(240), at: 0x94)  // size of the optional header
        let optional = 0x98
        bytes.put(UInt16(0x20B), at: optional)
        bytes.put(UInt32(512), at: optional + 32)  // alignment in memory
        bytes.put(UInt32(512), at: optional + 36)  // alignment in the file
        bytes.put(UInt32(1024), at: optional + 56)  // size in memory
        bytes.put(UInt32(512), at: optional + 60)  // size of the headers
        bytes.put(UInt16(10), at: optional + 68)  // an EFI application
        bytes.put(UInt32(16), at: optional + 108)  // data directories
        let section = optional + 240
        bytes.replaceSubrange(section..<section + 5, with: Array(".text".utf8))
        for (value, offset) in [(512, 8), (512, 12), (512, 16), (512, 20)] {
            bytes.put(UInt32(value), at: section + offset)
        }
        for index in 512..<1024 { bytes[index] = UInt8(truncatingIfNeeded: index) }
        return bytes
    }

    @Test func anEditedImageIsSignedAgain() throws {
        try Command(
            "openssl",
            [
                "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test", "-keyout",
                "\(folder)/db.key", "-out", "\(folder)/db.pem",
            ]
        ).check()
        let position = SourcePosition(file: "test", line: 1, column: 1)
        let signing = try Authenticode(
            key: Located(value: "db.key", position: position, path: ""),
            certificate: Located(value: "db.pem", position: position, path: ""), folder: folder)
        func isValid(_ image: [UInt8]) throws -> Bool {
            try FileSystem.replace("\(folder)/image", with: image)
            return try Command("sbverify", ["--cert", "\(folder)/db.pem", "\(folder)/image"]).run().status == 0
        }
        let signed = try signing.sign(image)
        #expect(try isValid(signed) && Authenticode.unsigned(signed) == image)
        #expect(try Authenticode.unsigned(image) == image)
        var edited = signed
        edited[700] ^= 1
        #expect(try !isValid(edited))
        #expect(throws: BuildFailure.self) { try signing.sign(edited) }
        #expect(try isValid(signing.sign(Authenticode.unsigned(edited))))
        // Bytes behind the signature belong to no part of the image.
        #expect(throws: BuildFailure.self) { try Authenticode.unsigned(signed + [1]) }
    }
}
