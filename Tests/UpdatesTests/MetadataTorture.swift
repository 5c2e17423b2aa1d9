import Documents
import Files
import Glibc
@testable import Releases
import TestSupport
import Testing
import Updates

/// Metadata that was damaged or forged: never a crash, never trusted.
@Suite(.serialized) struct MetadataTorture {
    /// A repository in memory with one damaged file.
    private struct Spoiled: MetadataSource {
        var files: [String: [UInt8]]

        func read(_ file: String, most: Int, isLikely: Bool) throws(UpdateFailure) -> [UInt8]? {
            if let bytes = files[file], bytes.count > most { throw UpdateFailure(.tooLong, file, "too long") }
            return files[file]
        }
    }

    @Test func damagedMetadataIsNeverTrusted() throws {
        let folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-metadata")
        defer { try? FileSystem.remove(folder) }
        let key = try SigningKey.make()
        let one = ReleaseRepository.Keys([key.publicKey], threshold: 1)
        let now = time(nil)
        let session = SigningSession.unattended(KeyFolder([key]))
        let roles = Dictionary(uniqueKeysWithValues: TrustedMetadata.topLevel.map { ($0, one) })
        var (repository, _) = try ReleaseRepository.make(
            "\(folder)/updates", roles: roles, channel: "stable", channelKeys: one, signing: session, now: now)
        _ = try repository.resign(["root"], signing: session)
        let names = try FileSystem.list("\(folder)/updates/metadata")
        let files = try Dictionary(
            uniqueKeysWithValues: names.map { ($0, try FileSystem.read("\(folder)/updates/metadata/\($0)")) })
        let first = files["1.root.json"] ?? []
        let used = ["2.root.json", "timestamp.json", "2.snapshot.json", "1.targets.json", "1.stable.json"]
        let values = try used.map { try JSON.parse(files[$0] ?? [])["signed"] }
        let signs = Array("{}[]:,\"\\0123456789abcdefu-. \n\u{e9}".utf8)

        /// The first failure of a refresh; nil if all was accepted.
        func visit(_ files: [String: [UInt8]]) throws -> String? {
            var trusted = try TrustedMetadata(root: first, now: now)
            let source = Spoiled(files: files)
            func bytes(_ name: String) throws -> [UInt8] { try source.read(name, most: 100_000) ?? [] }
            do {
                try trusted.update(root: bytes("2.root.json"))
                _ = try trusted.update(timestamp: bytes("timestamp.json"))
                try trusted.update(snapshot: bytes("2.snapshot.json"))
                try trusted.update(targets: bytes("1.targets.json"), role: "targets", by: nil)
                try trusted.update(targets: bytes("1.stable.json"), role: "stable", by: "targets")
                return nil
            } catch {
                return "\(error)"
            }
        }
        #expect(try visit(files) == nil)
        var random = Random(seed: Torture.seed)
        var (checked, failed) = (0, 0)
        for _ in 0..<100_000 {
            let which = random.next(used.count)
            var bytes = files[used[which]] ?? []
            random.spoil(&bytes, signs: signs)
            var spoiled = files
            spoiled[used[which]] = bytes
            // What means the same, such as blanks between values, may be accepted; hashes in the
            // timestamp cover even those.
            let isSame = (try? JSON.parse(bytes)["signed"]) == values[which]
            if try visit(spoiled) == nil, !isSame {
                failed += 1
                Issue.record("taken: \(String(decoding: bytes, as: UTF8.self))")
            }
            checked += 1
        }
        try Torture.note("spoiled metadata", checked: checked, failed: failed)
    }
}
