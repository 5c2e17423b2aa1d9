import Digests
import Documents
import Files
import Glibc
import Processes
@testable import Releases
import TestSupport
import Testing
import Updates

/// Repositories that `vcpe release` makes, read by the box's client and by python-tuf's.
@Suite struct ReleaseTests {
    private let commands: ReleaseCommands

    init() throws { commands = try ReleaseCommands() }

    private var updates: String { commands.updates }
    private var folder: String { commands.folder }
    private let target = "stable/lab/virtio/1/root.zst"

    @Test func onlineKeysAreReplacedAfterTheft() throws {
        try commands.done("init", updates, "--lab")
        try commands.add("1", "first", commands.keys("\(updates).keys"))
        #expect(try commands.read(target) == Array("first".utf8))
        try FileSystem.makeDirectory("\(folder)/stolen")
        try Command("cp", ["-r", updates, "\(updates).keys", "\(folder)/stolen/"]).check()
        for role in ["timestamp", "snapshot"] {
            let old = try commands.identifier("\(updates).keys/\(role)-1.key.pub")
            try commands.done("key", "\(updates).keys/\(role)-2.key", "--online")
            try commands.done(
                "rotate", updates, "--role", role, "--old", old, "--new", "\(updates).keys/\(role)-2.key.pub", "--yes")
        }
        #expect(try commands.read(target) == Array("first".utf8))
        try commands.done("resign", "\(folder)/stolen/updates", "--keys", "\(folder)/stolen/updates.keys")
        let path = "\(updates)/metadata/timestamp.json"
        let timestamp = try FileSystem.read(path)
        try FileSystem.replace(path, with: try FileSystem.read("\(folder)/stolen/updates/metadata/timestamp.json"))
        #expect(try commands.reason(target) == .signature)
        try FileSystem.replace(path, with: timestamp)
        #expect(try commands.reason(target) == nil)
    }

    @Test func aKeyIsRevokedWhileEnoughAreLeft() throws {
        try commands.done("init", updates, "--root", "1-of-1", "--targets", "2-of-3", "--yes")
        #expect(try commands.add("1", "first", commands.keys("\(updates).keys")) == .published)
        func key(_ number: Int) throws -> String {
            try commands.identifier("\(updates).keys/targets-\(number).key.pub")
        }
        try commands.done("revoke", updates, "--role", "targets", "--key", key(1), "--yes")
        #expect(try commands.read(target) == Array("first".utf8))
        #expect(try commands.run(["revoke", updates, "--role", "targets", "--key", key(2), "--yes"]).status == 1)
        #expect(try commands.run(["revoke", updates, "--role", "targets", "--key", "zz", "--yes"]).status == 1)
        #expect(!FileSystem.exists("\(updates)/unsigned"))
    }

    /// Another team publishes with its own keys and the online ones, and on its own channel alone.
    @Test func aTeamPublishesOnItsChannelAlone() throws {
        try commands.done("init", updates, "--lab")
        try commands.key("team")
        let made = try commands.run(
            ["channel", updates, "--name", "edge", "--key", commands.pub("team"), "--yes"]
                + ["--keys", "\(updates).keys", "--keys", "\(folder)/team"])
        #expect(made.status == 0 && made.errorText.hasPrefix("warning:"), "\(made.errorText)")
        try FileSystem.makeDirectory("\(folder)/online")
        for role in ["timestamp", "snapshot"] {
            try Command("cp", ["\(updates).keys/\(role)-1.key", "\(folder)/online/"]).check()
        }
        let team = try commands.keys("\(folder)/team", "\(folder)/online")
        #expect(try commands.add("2", "of the team", channel: "edge", team) == .published)
        #expect(try commands.read("edge/lab/virtio/2/root.zst") == Array("of the team".utf8))
        #expect(try commands.add("2", "not theirs", channel: "stable", team) == .waiting(["stable": 1]))
        try commands.done("discard", updates)
        #expect(try commands.reason("stable/lab/virtio/2/root.zst") == .unknownTarget)
        // A release never changes.
        let failure = try commands.failure { try commands.add("2", "another", channel: "edge", team) }
        #expect(failure?.reason == .exists)
        #expect(try commands.read("edge/lab/virtio/2/root.zst") == Array("of the team".utf8))
        let unknown = try commands.failure { try commands.add("3", "another", channel: "stabel", team) }
        #expect(unknown?.hint?.hasPrefix("did you mean stable?") == true)
    }

    @Test func withoutTheRightPassphraseNothingIsSigned() throws {
        try commands.done("init", updates, "--lab")
        let before = try FileSystem.read("\(updates)/metadata/timestamp.json")
        for passphrase in ["another passphrase", nil] {
            #expect(try commands.run(["resign", updates], passphrase: passphrase).status == 1)
        }
        #expect(try FileSystem.read("\(updates)/metadata/timestamp.json") == before)
        let short = try commands.run(["init", "\(folder)/other"], passphrase: "of a test")
        #expect(short.status == 1 && !FileSystem.exists("\(folder)/other"))
    }

    @Test func expiredMetadataIsRefusedUntilItIsSignedAgain() throws {
        try commands.done("init", updates, "--lab")
        let session = try commands.keys("\(updates).keys")
        #expect(try commands.add("1", "first", session) == .published)
        let later = commands.now + 8 * 86_400
        #expect(try commands.reason(target, now: later) == .expired)
        do {
            var repository = try ReleaseRepository(updates, now: later)
            #expect(try repository.resign([], signing: session) == .published)
        }
        #expect(try commands.read(target, now: later) == Array("first".utf8))
    }

    @Test func aChannelIsStoppedAndGoesOn() throws {
        try commands.done("init", updates, "--lab")
        #expect(try commands.add("1", "first", commands.keys("\(updates).keys")) == .published)
        try commands.done("expire", updates, "--channel", "stable", "--yes")
        #expect(try commands.reason(target, now: time(nil) + 1, into: "second") == .expired)
        try commands.done("resign", updates, "--role", "stable", "--yes")
        #expect(try commands.read(target, into: "second") == Array("first".utf8))
    }

    /// The director chooses among releases for each group; nobody else does.
    @Test func theDirectorAloneDirectsAGroup() throws {
        try commands.done("init", updates, "--lab")
        let session = try commands.keys("\(updates).keys")
        for version in ["1", "2"] { #expect(try commands.add(version, version, session) == .published) }
        for name in ["fleet", "thief"] { try commands.key(name) }
        func direct(_ words: String..., by name: String = "fleet", agrees: Bool = true) throws -> Command.Result {
            try commands.run(
                ["direct", updates, "north", "--image", "lab", "--keys", "\(folder)/\(name)"] + words
                    + (agrees ? ["--yes"] : []))
        }
        let file = "\(updates)/director/north.json"
        #expect(try direct("--release", "1").status == 1)
        try commands.done("director", updates, "--key", commands.pub("fleet"), "--yes")
        #expect(try direct("--release", "3").status == 1)
        #expect(try direct("--release", "1", "--window", "25:00-04:00").status == 64)
        #expect(try direct("--release", "1", agrees: false).status == 1)
        #expect(!FileSystem.exists(file))
        #expect(try direct("--release", "1").status == 0)
        let first = try FileSystem.read(file)
        #expect(try direct("--release", "2", "--window", "22:30-04:00").status == 0)

        let source = Repository(["file://\(updates)"])
        let direction = try commands.client().direction(of: "north", in: source, last: 2)
        #expect(direction.releases == ["lab": "2"] && direction.counter == 2)
        #expect(direction.window == MaintenanceWindow(from: 81_000, to: 14_400))
        func reason(_ group: String = "north", last: Int = 2, now: Int? = nil) throws -> UpdateFailure.Reason? {
            do {
                _ = try commands.client(now: now).direction(of: group, in: source, last: last)
                return nil
            } catch let failure as UpdateFailure { return failure.reason }
        }
        #expect(try reason("south") == .unavailable)
        // A direction of another group, an older one, a changed one, an expired one.
        let second = try FileSystem.read(file)
        try FileSystem.replace("\(updates)/director/south.json", with: second)
        #expect(try reason("south") == .mismatch)
        try FileSystem.replace(file, with: first)
        #expect(try reason() == .rollback && reason(last: 0) == nil)
        let changed = String(decoding: second, as: UTF8.self).replacing("\"lab\":\"2\"", with: "\"lab\":\"1\"")
        try FileSystem.replace(file, with: changed)
        #expect(try reason() == .signature)
        try FileSystem.replace(file, with: second)
        let day = 86_400
        #expect(try reason(now: commands.now + 6 * day) == nil)
        try commands.done("resign", updates, "--days", "200", "--role", "targets", "--yes")
        do {
            var later = try ReleaseRepository(updates, now: commands.now + 95 * day)
            #expect(try later.resign([], signing: session) == .published)
        }
        #expect(try reason(now: commands.now + 95 * day) == .expired)
        // The key was stolen: from then on the new one counts.
        let stolen = try commands.identifier(commands.pub("fleet"))
        try commands.done(
            "rotate", updates, "--role", "director", "--old", stolen, "--new", commands.pub("thief"), "--yes")
        #expect(try reason() == .signature)
        #expect(try direct("--release", "2", by: "thief").status == 0)
        #expect(try reason() == nil)
    }

    /// A window that the online director's key has signed cannot crash a box.
    @Test func aWindowThatIsNoneIsMalformed() throws {
        let key = try SigningKey.make()
        let signers = RoleKeys([key.publicKey], threshold: 1)
        let role = try SigningRole(.object(signers.json), keys: [key.identifier: key.publicKey], name: "director")
        for (from, to, isTaken) in [
            (JSON.integer(0), JSON.integer(3600), true), (79_200, 14_400, true), (0, 86_400, true),
            (.integer(.min), .integer(.max), false), (.integer(.max), .integer(.min), false), (-1, 3600, false),
            (86_400, 3600, false), (0, 86_401, false), (3600, 3600, false), ("0", "3600", false), (.null, 3600, false),
        ] as [(JSON, JSON, Bool)] {
            var document = SignedDocument(
                "director",
                [
                    "_type": "director", "spec_version": "1.0.31", "version": 1, "group": "north",
                    "expires": .text(UTC.text(of: commands.now + 86_400)), "releases": [:],
                    "window": ["from": from, "to": to],
                ])
            _ = try document.sign(signers.identifiers, KeyFolder([key]))
            do {
                let direction = try Direction(document.bytes, of: "north", signedBy: role, now: commands.now, last: 0)
                #expect(isTaken && direction.window?.contains(commands.now) != nil, "\(from.line) \(to.line)")
            } catch { #expect(!isTaken && error.reason == .malformed, "\(from.line) \(to.line)") }
        }
    }

    /// By another project's client, over HTTP; and a byte range of a target.
    @Test func pythonsClientReadsOurRepository() throws {
        try commands.done("init", updates, "--root", "2-of-3", "--targets", "2-of-3", "--yes")
        #expect(try commands.add("1.0", "what is signed", commands.keys("\(updates).keys")) == .published)
        let python = try PythonEnvironment("tuf", ["tuf==7.0.1", "securesystemslib[crypto]==1.6.0"])
        let port = try Command(
            "python3",
            ["-c", "import socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); print(s.getsockname()[1])"]
        ).check().text.dropLast()
        let server = try Command(
            ReleaseCommands.program, ["release", "serve", updates, "--port", String(port)]
        ).start(output: try File("\(folder)/log", O_WRONLY | O_CREAT))
        defer { server.kill() }
        let address = "http://127.0.0.1:\(port)"
        #expect(
            Wait.until { (try? Command("curl", ["-sf", "\(address)/metadata/timestamp.json"]).check()) != nil },
            "\(String(decoding: (try? FileSystem.read("\(folder)/log")) ?? [], as: UTF8.self))")
        for name in ["metadata", "targets"] { try FileSystem.makeDirectory("\(folder)/python/\(name)") }
        let script = """
            import sys
            from tuf.ngclient import Updater
            folder, url = sys.argv[1:]
            root = open(folder + "/updates/metadata/1.root.json", "rb").read()
            updater = Updater(folder + "/python/metadata", url + "/metadata/", folder + "/python/targets", url + "/targets/",
                              bootstrap=root)
            info = updater.get_targetinfo("stable/lab/virtio/1.0/root.zst")
            print("released" in info.custom, open(updater.download_target(info)).read())
            """
        for _ in 0..<2 {
            let result = try Command(python.program("python"), ["-c", script, folder, address]).run()
            #expect(result.text == "True what is signed\n", "\(result.errorText)")
            // Then after the next versions of root, the channel and all online roles.
            try commands.done("resign", updates, "--role", "root", "--role", "stable", "--role", "targets", "--yes")
        }
        let place = "\(updates)/targets/stable/lab/virtio/1.0"
        let file = try FileSystem.list(place).first ?? ""
        let part = try Command(
            "curl", ["-s", "-r", "5-6", "\(address)/targets/stable/lab/virtio/1.0/\(file)"]
        ).run()
        #expect(part.text == "is")
    }
}
