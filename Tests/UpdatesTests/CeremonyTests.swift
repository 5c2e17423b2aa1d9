import Digests
import Documents
import Files
import Glibc
import Processes
@testable import Releases
import Testing
import Updates

/// Several people sign, each on a machine of their own; what they sign is what they were shown.
@Suite struct CeremonyTests {
    private let commands: ReleaseCommands

    init() throws { commands = try ReleaseCommands() }

    private var updates: String { commands.updates }

    /// The last offline signer has no online key, and the release host has no offline one.
    @Test func offlineSignersAndTheReleaseHostNeedNoKeyOfEachOther() throws {
        try commands.makeWithPeople()
        #expect(try commands.add("1", "first", commands.keys("\(updates).keys")) == .waiting(["stable": 1]))
        // The release host alone can publish nothing of it.
        let early = try commands.run(["publish", updates])
        #expect(early.status == 1 && !FileSystem.exists("\(updates)/metadata/2.stable.json"))
        try commands.sign("dan")
        #expect(try commands.missing() == ["stable": 0])
        #expect(!FileSystem.exists("\(updates)/metadata/2.stable.json"))
        try commands.done("publish", updates)
        #expect(try commands.read("stable/lab/virtio/1/root.zst") == Array("first".utf8))
        #expect(!FileSystem.exists("\(updates)/unsigned"))
    }

    /// Signatures come one by one, on different days, and each is kept.
    @Test func eachSignatureIsKept() throws {
        for name in ["ann", "bob", "cem"] { try commands.key(name) }
        let people = ["ann", "bob", "cem"].flatMap { ["--root-key", commands.pub($0)] }
        let made = try commands.run(["init", updates, "--root", "2-of-3", "--targets", "1-of-1"] + people)
        #expect(made.status == 0, "\(made.errorText)")
        // No terminal and no --yes: nothing is signed unseen.
        #expect(try commands.missing() == ["root": 2, "targets": 1, "stable": 1])
        #expect(!FileSystem.exists("\(updates)/metadata"))
        try commands.sign("ann")
        #expect(try commands.missing()["root"] == 1)
        // A second signature of the same person counts once.
        try commands.done("sign", updates, "--keys", "\(commands.folder)/ann")
        #expect(try commands.missing()["root"] == 1)
        try commands.done("sign", updates, "--confirm", commands.digest())
        #expect(try commands.missing() == ["root": 1, "targets": 0, "stable": 0])
        try commands.sign("bob")
        #expect(try commands.missing() == ["root": 0, "targets": 0, "stable": 0])
        try commands.done("publish", updates)
        #expect(try commands.add("1", "first", commands.keys("\(updates).keys")) == .published)
        // Ann leaves: of the last root's people two agree, and of the next root's.
        try commands.key("dan")
        let ann = try commands.identifier(commands.pub("ann"))
        try commands.done(
            "rotate", updates, "--role", "root", "--old", String(ann.prefix(10)), "--new", commands.pub("dan"))
        try commands.sign("bob")
        try commands.sign("dan")
        #expect(try commands.missing() == ["root": 1])
        try commands.sign("cem")
        try commands.done("publish", updates)
        #expect(try commands.read("stable/lab/virtio/1/root.zst") == Array("first".utf8))
        #expect(try commands.read("stable/lab/virtio/1/root.zst", root: 2, into: "other") == Array("first".utf8))
        let status = try JSON.parse(try commands.done("status", updates, "--json"))
        #expect(status.list?.first?["version"]?.integer == 2 && !status.line.contains(ann))
        let owners = status.list?.first?["keys"]?.list?.compactMap { $0["owner"]?.text }
        #expect(owners == ["bob", "cem", "dan"])
    }

    /// What the review names: each key, threshold, target, date, and what boxes get.
    @Test func aReviewNamesEachDifference() throws {
        try commands.makeWithPeople()
        try commands.add("1", "first", commands.keys("\(updates).keys"))
        try commands.sign("dan")
        try commands.done("publish", updates)
        try commands.add("2", "second", at: commands.now + 1, commands.keys("\(updates).keys"))
        let shown = try commands.shown()
        let paths = (shown["changes"]?.list ?? []).compactMap { $0["path"]?.text }
        #expect(
            paths == ["manifest", "root.zst", "uki.efi"].map { "targets/stable/lab/virtio/2/\($0)" })
        let effect = shown["boxes"]?.list?.first
        #expect(effect?["boxes"]?.text == "channel stable" && effect?["image"]?.text == "lab virtio")
        #expect(effect?["old"]?.text == "1" && effect?["new"]?.text == "2")
        let role = shown["roles"]?.list?.first
        #expect(role?["old-version"]?.integer == 2 && role?["version"]?.integer == 3)
        // Somebody with access to the folder adds a key, a lower threshold, a field and an escape
        // sequence.
        try commands.done("discard", updates)
        try commands.key("eve")
        let eve = try SigningKey.readPublic(commands.pub("eve"))
        try commands.done("resign", updates, "--role", "root")
        let honest = try commands.digest()
        let path = "\(updates)/unsigned/root.json"
        var root = try SignedDocument("root", file: path)
        let identifier = SigningKey.identifier(of: eve)
        var roles = root.signed["roles"]?.object ?? [:]
        let others = roles["root"]?["keyids"]?.list?.compactMap(\.text) ?? []
        roles["root"] = ["keyids": .texts(others + [identifier]), "threshold": 1]
        root.signed["roles"] = .object(roles)
        root.signed["keys"] = .object((root.signed["keys"]?.object ?? [:]).merging([identifier: eve]) { $1 })
        root.signed["x-new"] = "\u{1b}[2K"
        try FileSystem.replace(path, with: root.bytes)
        let changed = try commands.shown()
        let found = (changed["changes"]?.list ?? []).compactMap { $0["path"]?.text }
        #expect(found == ["keys/\(identifier)", "roles/root/keyids", "roles/root/threshold", "x-new"])
        let text = try commands.done("show", updates)
        #expect(!text.utf8.contains(0x1b) && text.contains("eve (\(identifier.prefix(12)))"))
        // Nobody signs it by the digest of what they were shown before.
        let refused = try commands.run(
            ["sign", updates, "--keys", "\(commands.folder)/ann", "--confirm", honest])
        #expect(refused.status == 1)
        #expect(try SignedDocument("root", file: path).signatures.isEmpty)
    }

    /// At a terminal the first digits of the digest are typed.
    @Test func aTypedConfirmationSigns() throws {
        try commands.makeWithPeople()
        try commands.done("resign", updates, "--role", "targets")
        let digest = try commands.digest()
        func type(_ answer: String) throws -> Command.Result {
            let line = "\(ReleaseCommands.program) release sign \(updates) --keys \(commands.folder)/dan"
            return try Command(
                "sh", ["-c", "printf '%s\\n' \"$0\" | script -qec \"$1\" /dev/null", answer, line],
                environment: ["VCPE_PASSPHRASE": ReleaseCommands.passphrase]
            ).run()
        }
        #expect(try type("").status == 1)
        #expect(try type(String(digest.prefix(7))).status == 1)
        #expect(try type("0000000f").status == 1)
        #expect(try commands.missing() == ["targets": 1])
        let signed = try type(String(digest.prefix(8)))
        #expect(signed.status == 0, "\(signed.text)")
        #expect(try commands.missing() == ["targets": 0])
    }

    /// `--yes` agrees to what the command itself changes, and never to what others left there.
    @Test func yesSignsNothingOfOthers() throws {
        try commands.makeWithPeople()
        try commands.done("resign", updates, "--role", "targets")
        try commands.done("resign", updates, "--role", "targets", "--yes", "--keys", "\(commands.folder)/dan")
        #expect(try commands.missing() == ["targets": 1])
        try commands.done("discard", updates)
        try commands.done("resign", updates, "--role", "targets", "--yes", "--keys", "\(commands.folder)/dan")
        #expect(try commands.missing() == ["targets": 0])
    }

    /// A change of other roles is published while one waits; a change of the same roles joins it.
    @Test func changesDoNotBlockEachOther() throws {
        try commands.makeWithPeople()
        let all = try commands.keys("\(commands.folder)/dan", "\(updates).keys")
        try commands.done("resign", updates, "--role", "root")
        try commands.sign("ann")
        #expect(try commands.add("1", "first", all) == .published)
        #expect(try commands.missing() == ["root": 1])
        try commands.done("resign", updates)
        // The second change of root drops the signature on the first.
        let cem = try commands.identifier(commands.pub("cem"))
        try commands.key("eve")
        try commands.done(
            "rotate", updates, "--role", "root", "--old", String(cem.prefix(12)), "--new", commands.pub("eve"))
        #expect(try commands.missing() == ["root": 2])
        try commands.sign("ann")
        try commands.sign("bob")
        try commands.done("publish", updates)
        #expect(try ReleaseRepository(updates, now: commands.now, readOnly: true).published["root"]?.version == 2)
        #expect(try commands.read("stable/lab/virtio/1/root.zst") == Array("first".utf8))
    }

    /// What does not follow what is published is not signed, nor shown as if it could be.
    @Test func whatDoesNotFollowIsNotSigned() throws {
        try commands.makeWithPeople()
        func spoil(_ role: String, _ body: (inout SignedDocument) -> Void) throws -> ReleaseFailure? {
            try? FileSystem.remove("\(updates)/unsigned")
            try commands.done("resign", updates, "--role", "root", "--role", "targets", "--role", "stable")
            let source = FileSystem.exists("\(updates)/unsigned/\(role).json") ? role : "targets"
            var document = try SignedDocument(role, file: "\(updates)/unsigned/\(source).json")
            body(&document)
            try FileSystem.replace("\(updates)/unsigned/\(role).json", with: document.bytes)
            return try commands.failure {
                let keys = try KeyFolder(["\(commands.folder)/dan"], passphrase: ReleaseCommands.passphrase)
                _ = try ReleaseRepository.sign(updates, with: .unattended(keys), now: commands.now)
            }
        }
        #expect(try spoil("targets") { _ in } == nil)
        for (role, change) in [
            ("targets", { $0.signed["version"] = 1 }), ("root", { $0.signed["version"] = 3 }),
            ("stable", { $0.signed["version"] = 1000 }), ("snapshot", { $0.signed["_type"] = "snapshot" }),
            ("edge", { _ in }), ("targets", { $0.signed["_type"] = "root" }),
            ("root", { $0.signed["expires"] = "2099-01-01T00:00:00Z" }),
            ("stable", { $0.signed["expires"] = .text(UTC.text(of: time(nil) + 367 * 86_400)) }),
            ("root", { $0.signed["consistent_snapshot"] = false }),
            ("stable", { $0.signed["targets"] = ["edge/a/b/c/d": ["length": 1, "hashes": ["sha256": "00"]]] }),
        ] as [(String, (inout SignedDocument) -> Void)] {
            let failure = try spoil(role, change)
            #expect(failure?.reason == .doesNotFollow && failure?.path == "\(updates)/unsigned/\(role).json")
        }
    }

    /// A threshold that can never be met, and a key that would count twice.
    @Test func keysThatCanNeverSignAreRefused() throws {
        try commands.makeWithPeople()
        try commands.key("eve")
        // The same key under another name.
        let twin = "\(commands.folder)/twin.pub"
        var json = try SigningKey.readPublic(commands.pub("eve")).object ?? [:]
        json["x-vcpe-owner"] = "another"
        try FileSystem.replace(twin, with: JSON.object(json).pretty)
        let eve = commands.pub("eve")
        for words in [
            ["channel", updates, "--name", "edge", "--key", eve, "--key", eve, "--threshold", "2"],
            ["channel", updates, "--name", "edge", "--key", eve, "--key", twin, "--threshold", "2"],
            ["channel", updates, "--name", "edge", "--key", eve, "--threshold", "2"],
            ["channel", updates, "--name", "edge", "--key", eve, "--threshold", "0"],
            ["channel", updates, "--name", "*", "--key", eve],
            ["channel", updates, "--name", "edge", "--key", "\(updates).keys/timestamp-1.key.pub"],
            ["director", updates, "--key", eve, "--key", twin],
            ["init", "\(commands.folder)/other", "--root", "2-of-2", "--root-key", eve, "--root-key", twin],
            ["init", "\(commands.folder)/other", "--root", "2-of-2", "--root-key", eve],
        ] {
            let result = try commands.run(words)
            #expect(result.status == 1, "\(words)")
            #expect(!FileSystem.exists("\(updates)/unsigned") && !FileSystem.exists("\(commands.folder)/other"))
        }
        let ann = String(try commands.identifier(commands.pub("ann")).prefix(12))
        for new in [commands.pub("bob"), "\(updates).keys/snapshot-1.key.pub"] {
            #expect(try commands.run(["rotate", updates, "--role", "root", "--old", ann, "--new", new]).status == 1)
        }
        // One that a file in unsigned/ contains.
        try commands.done("resign", updates, "--role", "root")
        var root = try SignedDocument("root", file: "\(updates)/unsigned/root.json")
        var roles = root.signed["roles"]?.object ?? [:]
        roles["root"] = .object((roles["root"]?.object ?? [:]).merging(["threshold": 4]) { $1 })
        root.signed["roles"] = .object(roles)
        try FileSystem.replace("\(updates)/unsigned/root.json", with: root.bytes)
        #expect(try commands.run(["show", updates]).status == 1)
    }

    /// Metadata that was changed in the folder is found before anything is built upon it.
    @Test func changedMetadataIsNoBasisForAChange() throws {
        try commands.makeWithPeople()
        let path = "\(updates)/metadata/1.targets.json"
        var targets = try SignedDocument("targets", file: path)
        targets.signed["x"] = 1
        try FileSystem.replace(path, with: targets.bytes)
        let failure = try commands.failure { _ = try ReleaseRepository(updates, now: commands.now) }
        #expect(failure?.reason == .damaged && failure?.path == path)
        #expect(try commands.run(["resign", updates, "--role", "targets"]).status == 1)
    }

    /// A key that never leaves its token: a program signs, and what it prints must be its key's
    /// signature.
    @Test func aProgramSignsInPlaceOfAKeyFile() throws {
        try commands.makeWithPeople()
        let place = "\(commands.folder)/token"
        try FileSystem.makeDirectory("\(commands.folder)/empty")
        let none = try commands.failure { _ = try commands.keys("\(commands.folder)/empty") }
        #expect(none?.message.contains(".signer programs") == true)
        try FileSystem.makeDirectory(place)
        let secret = "\(place)/secret.pem"
        try Command("openssl", ["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", secret]).check()
        try Command("openssl", ["pkey", "-in", secret, "-pubout", "-out", "\(place)/public.pem"]).check()
        let program = "\(place)/token.signer"
        func write(_ line: String) throws { try FileSystem.replace(program, with: "#!/bin/sh\n\(line)\n", mode: 0o755) }
        try commands.done("key", program, "--pem", "\(place)/public.pem")
        try commands.done(
            "channel", updates, "--name", "edge", "--key", "\(program).pub", "--yes", "--keys",
            "\(commands.folder)/dan")
        #expect(try commands.missing() == ["targets": 0, "edge": 1])
        for line in ["exit 3", "echo no signature", "openssl dgst -sha384 -sign \(secret)"] {
            try write(line)
            let refused = try commands.run(["sign", updates, "--keys", place, "--confirm", commands.digest()])
            #expect(refused.status == 1, "\(line)")
        }
        #expect(try commands.missing() == ["targets": 0, "edge": 1])
        try write("exec openssl dgst -sha256 -sign \(secret)")
        try commands.sign("token")
        try commands.done("publish", updates)
        let session = try commands.keys(place, "\(updates).keys")
        #expect(try commands.add("1", "first", channel: "edge", session) == .published)
        #expect(try commands.read("edge/lab/virtio/1/root.zst") == Array("first".utf8))
    }

    /// A signer's own copy of the first root finds a repository whose root was replaced.
    @Test func ownCopyOfTheFirstRootCounts() throws {
        try commands.done("init", updates, "--lab")
        try commands.done("init", "\(commands.folder)/other", "--lab")
        let (own, other) = ("\(updates)/metadata/1.root.json", "\(commands.folder)/other/metadata/1.root.json")
        try commands.done("resign", updates, "--role", "targets", "--first-root", own, "--yes")
        #expect(try commands.run(["resign", updates, "--role", "targets", "--first-root", other, "--yes"]).status == 1)
    }
}
