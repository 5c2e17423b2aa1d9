import Documents
import Files
import Glibc
@testable import Releases
import Testing

/// Private keys in files.
@Suite final class SealedKeyTests {
    private let folder: String

    init() throws { folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-keys") }

    deinit { try? FileSystem.remove(folder) }

    private let good = ReleaseCommands.passphrase

    @Test func aPassphraseIsLongAndVaried() throws {
        let key = try SigningKey.make()
        for (text, use, isTaken) in [
            ("1234567", SigningKey.Use.online, false), ("12345678", .online, true),
            ("123456789012345", .offline, false),
            ("abababababababababab", .offline, false), ("correct horse battery", .offline, true),
        ] as [(String, SigningKey.Use, Bool)] {
            var isRefused = false
            do { try Passphrase.check(text, for: use) } catch { isRefused = true }
            #expect(isRefused != isTaken, "\(text)")
        }
        #expect(throws: ReleaseFailure.self) {
            try key.write("\(self.folder)/a.key", passphrase: "of a test", use: .offline)
        }
        #expect(!FileSystem.exists("\(folder)/a.key"))
    }

    /// One guess costs 128 MiB and two passes; n and p of RFC 7914.
    @Test func aGuessIsExpensive() throws {
        let key = try SigningKey.make(owner: "ann")
        try key.write("\(folder)/a.key", passphrase: good, use: .offline)
        let sealed = try SealedKey("\(folder)/a.key")
        #expect(128 * sealed.cost.n * sealed.cost.r >= 128 << 20 && sealed.cost.p >= 2)
        #expect(try File("\(folder)/a.key").status().st_mode & 0o777 == 0o600)
        let opened = try SigningKey(sealed, passphrase: good)
        #expect(opened.identifier == key.identifier && SigningKey.owner(of: opened.publicKey) == "ann")
        #expect(try opened.sign([1, 2, 3]) == key.sign([1, 2, 3]))
        #expect(throws: ReleaseFailure.self) { _ = try SigningKey(sealed, passphrase: self.good + "x") }
        #expect(throws: ReleaseFailure.self) {
            try key.write("\(self.folder)/a.key", passphrase: self.good, use: .offline)
        }
        #expect(throws: ReleaseFailure.self) { _ = try SigningKey.readPublic("\(self.folder)/a.key") }
    }

    /// Whoever changes a field of the file finds that it does not open, or is not read.
    @Test func aChangedFileDoesNotOpen() throws {
        let key = try SigningKey.make(owner: "ann")
        let path = "\(folder)/a.key"
        try key.write(path, passphrase: good, use: .online)
        let json = try JSON.parse(try FileSystem.read(path)).object ?? [:]
        func opens(_ changed: [String: JSON]) throws -> Bool {
            try FileSystem.replace(path, with: JSON.object(json.merging(changed) { $1 }).pretty)
            do {
                _ = try SigningKey(try SealedKey(path), passphrase: good)
                return true
            } catch is ReleaseFailure { return false }
        }
        #expect(try opens([:]))
        var kdf = json["kdf"]?.object ?? [:]
        kdf["n"] = .integer(1 << 14)
        let sealed = json["sealed"]?.text ?? ""
        let other = try SigningKey.make(owner: "ann").publicKey
        for change in [
            ["kdf": .object(kdf)], ["public": other], ["sealed": .text("00" + sealed.dropFirst(2))],
            ["sealed": .text(String(sealed.dropLast(2)))], ["cipher": ["name": "none", "nonce": "00"]],
            ["format": "another"],
        ] as [[String: JSON]] {
            #expect(try !opens(change), "\(change.keys)")
        }
        // Parameters that would take all memory are not tried.
        kdf["n"] = .integer(1 << 30)
        #expect(try !opens(["kdf": .object(kdf)]))
        try FileSystem.replace(path, with: "-----BEGIN PRIVATE KEY-----")
        #expect(throws: ReleaseFailure.self) { _ = try SealedKey(path) }
    }
}
