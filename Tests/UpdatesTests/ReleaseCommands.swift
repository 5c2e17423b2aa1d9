import Digests
import Documents
import Files
import Glibc
import Processes
@testable import Releases
import Testing
import Updates

/// A folder with a repository, and `vcpe release` as a person calls it.
final class ReleaseCommands {
    private static let repository = "/" + #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
    /// 16 bytes and more, 8 different ones and more.
    static let passphrase = "a passphrase of the tests"

    let folder: String
    let now = time(nil)

    init() throws { folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-releases") }

    deinit { try? FileSystem.remove(folder) }

    var updates: String { "\(folder)/updates" }
    static var program: String { "\(repository)/.build/debug/vcpe" }

    /// Runs `vcpe release`, which may fail.
    func run(_ words: [String], passphrase: String? = ReleaseCommands.passphrase) throws -> Command.Result {
        try Command(
            Self.program, ["release"] + words,
            environment: passphrase.map { ["VCPE_PASSPHRASE": $0] } ?? [:]
        ).run()
    }

    /// Runs `vcpe release`, which must succeed.
    ///
    /// - Returns: what it prints.
    @discardableResult func done(_ words: String...) throws -> String {
        let result = try run(words)
        #expect(result.status == 0, "\(words): \(result.errorText)")
        return result.text
    }

    func keys(_ folders: String...) throws -> SigningSession {
        .unattended(try KeyFolder(folders, passphrase: Self.passphrase))
    }

    /// Makes a person's key in a folder of its own. `--online` saves most of a second each time
    /// that it is opened.
    func key(_ name: String) throws {
        try FileSystem.makeDirectory("\(folder)/\(name)")
        try done("key", "\(folder)/\(name)/\(name).key", "--online")
    }

    func pub(_ name: String) -> String { "\(folder)/\(name)/\(name).key.pub" }

    func identifier(_ path: String) throws -> String { SigningKey.identifier(of: try SigningKey.readPublic(path)) }

    /// A repository of which ann and bob of three sign root, dan of one targets and the channel;
    /// its online keys are in `updates.keys`.
    func makeWithPeople() throws {
        for name in ["ann", "bob", "cem", "dan"] { try key(name) }
        let people = ["ann", "bob", "cem"].flatMap { ["--root-key", pub($0)] }
        let made = try run(
            ["init", updates, "--root", "2-of-3", "--targets", "1-of-1", "--targets-key", pub("dan")] + people)
        #expect(made.status == 0, "\(made.errorText)")
        #expect(made.errorText.hasPrefix("warning:"))
        for name in ["ann", "bob", "dan"] { try sign(name) }
        try done("publish", updates)
    }

    /// Signs what waits with the key of a person, after a look at it.
    func sign(_ name: String) throws {
        try done("sign", updates, "--keys", "\(folder)/\(name)", "--confirm", digest())
    }

    /// What waits.
    func shown() throws -> JSON { try JSON.parse(try done("show", updates, "--json")) }

    func digest() throws -> String { try shown()["digest"]?.text ?? "" }

    func missing() throws -> [String: Int] {
        let roles = try shown()["roles"]?.list ?? []
        return Dictionary(
            uniqueKeysWithValues: roles.compactMap { role in
                role["role"]?.text.map { ($0, role["missing-signatures"]?.integer ?? -1) }
            })
    }

    /// Adds a release of one file, and a manifest, to a channel.
    @discardableResult func add(
        _ version: String, _ text: String, channel: String = "stable", floor: Bool = false, at time: Int? = nil,
        _ session: SigningSession
    ) throws -> ReleaseRepository.Outcome {
        try FileSystem.replace("\(folder)/file", with: text)
        var repository = try ReleaseRepository(updates, now: time ?? now)
        var custom: [String: JSON] = ["version": .text(version)]
        if floor { custom["floor"] = true }
        let files = ["root.zst", "uki.efi", "manifest"].map { ("lab/virtio/\(version)/\($0)", "\(folder)/file") }
        return try repository.add(
            Dictionary(uniqueKeysWithValues: files), to: channel, custom: .object(custom), signing: session)
    }

    /// A box that trusts the repository's first root, or another one.
    func client(_ name: String = "box", root: Int = 1, now: Int? = nil) throws -> UpdateClient {
        let source = HTTPSource(Repository(["file://\(updates)/metadata"]))
        if !FileSystem.exists("\(folder)/\(name)") {
            try UpdateClient.initialize(
                "\(folder)/\(name)", root: try FileSystem.read("\(updates)/metadata/\(root).root.json"))
        }
        var client = try UpdateClient(folder: "\(folder)/\(name)", source: source, now: now ?? self.now)
        try client.refresh()
        return client
    }

    /// The bytes of a target that a box gets.
    func read(_ target: String, root: Int = 1, now: Int? = nil, into name: String = "box") throws -> [UInt8] {
        var client = try client(name, root: root, now: now)
        try FileSystem.makeDirectory("\(folder)/\(name)/targets")
        return try FileSystem.read(
            try client.download(target, from: "file://\(updates)/targets", into: "\(folder)/\(name)/targets"))
    }

    /// Why a box gets no such target; nil if it gets one.
    func reason(_ target: String, now: Int? = nil, into name: String = "box") throws -> UpdateFailure.Reason? {
        do {
            _ = try read(target, now: now, into: name)
            return nil
        } catch let failure as UpdateFailure { return failure.reason }
    }

    /// Why an action fails; nil if it does not.
    func failure(_ body: () throws -> Void) throws -> ReleaseFailure? {
        do {
            try body()
            return nil
        } catch let failure as ReleaseFailure { return failure }
    }
}
