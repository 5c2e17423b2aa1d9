import Digests
import Documents
import Files
import Glibc
import Processes
import Releases
import TestSupport
import Testing
import Updates

/// Repositories that we make, read by our client and by python-tuf's.
@Suite final class ReleaseTests {
    private static let repository = "/" + #filePath.split(separator: "/").dropLast(3).joined(separator: "/")

    private let folder: String
    private let now = time(nil)

    init() throws { folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-releases") }

    deinit { try? FileSystem.remove(folder) }

    private func vcpe(_ words: String..., passphrase: String? = "of a test") throws -> Command.Result {
        try Command(
            "\(Self.repository)/.build/debug/vcpe", ["release"] + words,
            environment: passphrase.map { ["VCPE_PASSPHRASE": $0] } ?? [:]
        ).run()
    }

    private func done(_ words: String...) throws -> String {
        let result = try Command(
            "\(Self.repository)/.build/debug/vcpe", ["release"] + words,
            environment: ["VCPE_PASSPHRASE": "of a test"]
        ).run()
        #expect(result.status == 0, "\(words): \(result.errorText)")
        return result.text
    }

    private var updates: String { "\(folder)/updates" }

    private func keys(_ folders: String...) throws -> KeyFolder { try KeyFolder(folders, passphrase: "of a test") }

    /// What a client trusts, and the target that it gets.
    private func read(_ target: String, root: Int = 1, now: Int? = nil, into name: String = "box") throws -> [UInt8] {
        let source = HTTPSource(Repository(["file://\(updates)/metadata"]))
        if !FileSystem.exists("\(folder)/\(name)") {
            try UpdateClient.initialize(
                "\(folder)/\(name)", root: try FileSystem.read("\(updates)/metadata/\(root).root.json"))
        }
        var client = try UpdateClient(folder: "\(folder)/\(name)", source: source, now: now ?? self.now)
        try client.refresh()
        try FileSystem.makeDirectory("\(folder)/\(name)/targets")
        return try FileSystem.read(
            try client.download(target, from: "file://\(updates)/targets", into: "\(folder)/\(name)/targets"))
    }

    private func add(_ version: String, _ text: String, channel: String = "stable", _ keys: KeyFolder) throws
        -> ReleaseRepository.Outcome
    {
        try FileSystem.replace("\(folder)/file", with: text)
        var repository = try ReleaseRepository(updates, now: now)
        return try repository.add(
            ["lab/virtio/\(version)/root.zst": "\(folder)/file"], to: channel, custom: ["version": .text(version)],
            signing: keys)
    }

    @Test func aChangeOfSeveralPeoplesRoleWaitsForThem() throws {
        // Three people's keys for root, two of whom sign; another's for targets; the online keys are made here.
        for name in ["ann", "bob", "cem"] {
            try FileSystem.makeDirectory("\(folder)/\(name)")
            _ = try done("key", "\(folder)/\(name)/\(name).key")
        }
        let people = ["ann", "bob", "cem"].flatMap { ["--root-key", "\(folder)/\($0)/\($0).key.pub"] }
        let made = try Command(
            "\(Self.repository)/.build/debug/vcpe",
            ["release", "init", updates, "--root", "2-of-3", "--targets", "1-of-1"] + people,
            environment: ["VCPE_PASSPHRASE": "of a test"]
        ).run()
        #expect(
            made.status == 0 && made.text.contains("waits for signatures: root for 2 more"),
            "\(made.text) \(made.errorText)")
        #expect(made.errorText.contains("one stolen key is enough"))
        // Nobody reads half a repository.
        #expect(!FileSystem.exists("\(updates)/metadata"))
        #expect(try vcpe("status", updates).errorText.contains("waits for signatures"))
        #expect(try done("sign", updates, "--keys", "\(folder)/ann").contains("root for 1 more"))
        // Its owner's second signature is none.
        #expect(try done("sign", updates, "--keys", "\(folder)/ann").contains("root for 1 more"))
        let published = try done("sign", updates, "--keys", "\(folder)/bob", "--keys", "\(updates).keys")
        #expect(published.contains("is published"), "\(published)")
        #expect(try add("1", "first", keys("\(updates).keys")) == .published)
        #expect(try read("stable/lab/virtio/1/root.zst") == Array("first".utf8))
        // Ann has left: two others sign that, and a box that knows the first root only follows.
        _ = try done("key", "\(folder)/bob/dan.key")
        let ann = SigningKey.identifier(of: try SigningKey.readPublic("\(folder)/ann/ann.key.pub"))
        let waits = try done(
            "rotate", updates, "--role", "root", "--old", String(ann.prefix(10)), "--new", "\(folder)/bob/dan.key.pub",
            "--keys", "\(folder)/bob", "--keys", "\(updates).keys")
        // Bob and Dan are enough for the next root; of the last one's people a second one must agree.
        #expect(waits.contains("root for 1 more"), "\(waits)")
        let refused = try vcpe("resign", updates, "--role", "targets")
        #expect(refused.status == 1 && refused.errorText.contains("a change of root waits"), "\(refused.errorText)")
        #expect(try done("status", updates).contains("a change waits for 1 signatures"))
        _ = try done("sign", updates, "--keys", "\(folder)/cem", "--keys", "\(updates).keys")
        #expect(try read("stable/lab/virtio/1/root.zst") == Array("first".utf8))
        #expect(try read("stable/lab/virtio/1/root.zst", root: 2, into: "another") == Array("first".utf8))
        let status = try JSON.parse(try done("status", updates, "--json"))
        #expect(status.list?.first?["version"]?.integer == 2 && !status.line.contains(ann), "\(status.line)")
    }

    @Test func keysAreRotatedAndRevokedAndChannelsHandedOn() throws {
        _ = try done("init", updates, "--root", "1-of-1", "--targets", "2-of-3")
        #expect(try add("1", "first", keys("\(updates).keys")) == .published)
        #expect(try read("stable/lab/virtio/1/root.zst") == Array("first".utf8))
        func key(_ role: String, _ number: Int = 1) throws -> String {
            SigningKey.identifier(of: try SigningKey.readPublic("\(updates).keys/\(role)-\(number).key.pub"))
        }
        // The online keys were stolen: others come in their place, and what the thief signs is refused.
        try FileSystem.makeDirectory("\(folder)/stolen")
        try Command("cp", ["-r", "\(updates)", "\(updates).keys", "\(folder)/stolen/"]).check()
        for role in ["timestamp", "snapshot"] {
            _ = try done("key", "\(updates).keys/\(role)-2.key")
            _ = try done(
                "rotate", updates, "--role", role, "--old", key(role), "--new", "\(updates).keys/\(role)-2.key.pub")
        }
        #expect(try read("stable/lab/virtio/1/root.zst") == Array("first".utf8))
        let thief = try Command(
            "\(Self.repository)/.build/debug/vcpe",
            ["release", "resign", "\(folder)/stolen/updates", "--keys", "\(folder)/stolen/updates.keys"],
            environment: ["VCPE_PASSPHRASE": "of a test"]
        ).run()
        #expect(thief.status == 0)
        let timestamp = try FileSystem.read("\(updates)/metadata/timestamp.json")
        try FileSystem.replace(
            "\(updates)/metadata/timestamp.json",
            with: try FileSystem.read("\(folder)/stolen/updates/metadata/timestamp.json"))
        #expect {
            _ = try self.read("stable/lab/virtio/1/root.zst")
        } throws: {
            ($0 as? UpdateFailure)?.reason == .signature
        }
        try FileSystem.replace("\(updates)/metadata/timestamp.json", with: timestamp)
        // One of three is taken away; one of two may not be, where two must sign.
        #expect(try done("revoke", updates, "--role", "targets", "--key", key("targets")).contains("a key less"))
        let last = try vcpe("revoke", updates, "--role", "targets", "--key", key("targets", 2))
        #expect(
            last.status == 1 && last.errorText.contains("1 keys of targets would be left, and 2 must sign"),
            "\(last.errorText)")
        let none = try vcpe("revoke", updates, "--role", "targets", "--key", "zz")
        #expect(none.errorText.contains("0 keys of targets begin with \"zz\""), "\(none.errorText)")
        // Another team's channel: they publish without the provider's keys, and nowhere else.
        try FileSystem.makeDirectory("\(folder)/team")
        _ = try done("key", "\(folder)/team/edge.key")
        _ = try done(
            "channel", updates, "--name", "edge", "--key", "\(folder)/team/edge.key.pub", "--keys", "\(updates).keys",
            "--keys", "\(folder)/team")
        try FileSystem.makeDirectory("\(folder)/online")
        for role in ["timestamp", "snapshot"] {
            try Command("cp", ["\(updates).keys/\(role)-2.key", "\(folder)/online/"]).check()
        }
        let team = try keys("\(folder)/team", "\(folder)/online")
        #expect(try add("2", "of the team", channel: "edge", team) == .published)
        #expect(try read("edge/lab/virtio/2/root.zst") == Array("of the team".utf8))
        #expect(try add("2", "not theirs", channel: "stable", team) == .waiting(["stable": 2]))
        _ = try done("discard", updates)
        #expect(throws: UpdateFailure.self) { _ = try self.read("stable/lab/virtio/2/root.zst") }
        // A release never changes, and channels have names.
        #expect {
            _ = try self.add("2", "another", channel: "edge", team)
        } throws: {
            "\($0)".contains("was released before")
        }
        #expect {
            _ = try self.add("3", "another", channel: "stabel", team)
        } throws: {
            "\($0)".contains("did you mean stable?")
        }
        let wrong = try vcpe("resign", updates, passphrase: "another one")
        #expect(wrong.status == 1 && wrong.errorText.contains("no key opens"), "\(wrong.errorText)")
        let without = try vcpe("resign", updates, passphrase: nil)
        #expect(without.status == 1 && without.errorText.contains("--passphrase-file FILE"), "\(without.errorText)")
    }

    @Test func whatIsOverIsRefusedUntilItIsSignedAnew() throws {
        _ = try done("init", updates, "--lab")
        #expect(try add("1", "first", keys("\(updates).keys")) == .published)
        #expect {
            _ = try self.read("stable/lab/virtio/1/root.zst", now: self.now + 8 * 86_400)
        } throws: {
            ($0 as? UpdateFailure)?.reason == .expired
        }
        var later = try ReleaseRepository(updates, now: now + 8 * 86_400)
        #expect(try later.resign([], signing: keys("\(updates).keys")) == .published)
        #expect(try read("stable/lab/virtio/1/root.zst", now: now + 8 * 86_400) == Array("first".utf8))
    }

    @Test func aChannelIsStoppedAndGoesOn() throws {
        _ = try done("init", updates, "--lab")
        #expect(try add("1", "first", keys("\(updates).keys")) == .published)
        let target = "stable/lab/virtio/1/root.zst"
        #expect(try read(target) == Array("first".utf8))
        #expect(try done("expire", updates, "--channel", "stable").contains("no box installs anything of it"))
        #expect {
            _ = try self.read(target, now: time(nil) + 1, into: "second")
        } throws: {
            ($0 as? UpdateFailure)?.reason == .expired
        }
        _ = try done("resign", updates, "--role", "stable")
        #expect(try read(target, into: "second") == Array("first".utf8))
        #expect(try vcpe("expire", updates, "--channel", "stabel").errorText.contains("did you mean stable?"))
    }

    /// The director chooses among releases, group by group, and nobody else does.
    @Test func whatAGroupRunsSaysTheDirectorAlone() throws {
        _ = try done("init", updates, "--lab")
        for version in ["1", "2"] { #expect(try add(version, version, keys("\(updates).keys")) == .published) }
        let fleet = "\(folder)/fleet"
        try FileSystem.makeDirectory(fleet)
        for name in ["director", "thief"] { _ = try done("key", "\(fleet)/\(name).key") }
        func direct(_ words: String...) throws -> Command.Result {
            try Command(
                "\(Self.repository)/.build/debug/vcpe",
                ["release", "direct", updates, "north", "--image", "lab", "--keys", fleet] + words,
                environment: ["VCPE_PASSPHRASE": "of a test"]
            ).run()
        }
        #expect(try direct("--release", "1").errorText.contains("has no director"))
        _ = try done("director", updates, "--key", "\(fleet)/director.key.pub")
        #expect(try direct("--release", "3").errorText.contains("there are 1, 2"))
        #expect(try direct("--release", "1", "--window", "25:00-04:00").status != 0)
        #expect(try direct("--release", "1").text.contains("the group north is to run 1 of lab, counter 1"))
        let file = "\(updates)/director/north.json"
        let first = try FileSystem.read(file)
        #expect(try direct("--release", "2", "--window", "22:30-04:00").text.contains("counter 2"))

        let source = Repository(["file://\(updates)"])
        func box(now: Int? = nil) throws -> UpdateClient {
            _ = try? read("stable/lab/virtio/1/root.zst")
            var client = try UpdateClient(
                folder: "\(folder)/box", source: HTTPSource(source, folder: "metadata/"), now: now ?? self.now)
            try client.refresh()
            return client
        }
        let direction = try box().direction(of: "north", in: source, last: 2)
        #expect(direction.releases == ["lab": "2"] && direction.counter == 2)
        #expect(direction.window == MaintenanceWindow(from: 81_000, to: 14_400))
        func reason(_ group: String = "north", last: Int = 2, now: Int? = nil) throws -> UpdateFailure.Reason? {
            do {
                _ = try box(now: now).direction(of: group, in: source, last: last)
                return nil
            } catch let failure as UpdateFailure { return failure.reason }
        }
        #expect(try reason("south") == .unavailable)
        // Another group's words, older ones, changed ones, ones that are over.
        let second = try FileSystem.read(file)
        try FileSystem.replace("\(updates)/director/south.json", with: second)
        #expect(try reason("south") == .mismatch)
        try FileSystem.replace(file, with: first)
        #expect(try reason() == .rollback && reason(last: 0) == nil)
        let changed = String(decoding: second, as: UTF8.self).replacing("\"lab\":\"2\"", with: "\"lab\":\"1\"")
        try FileSystem.replace(file, with: changed)
        #expect(try reason() == .signature)
        try FileSystem.replace(file, with: second)
        #expect(try reason(now: now + 6 * 86_400) == nil)
        _ = try done("resign", updates, "--days", "200", "--role", "targets")
        do {
            var later = try ReleaseRepository(updates, now: now + 95 * 86_400)
            #expect(try later.resign([], signing: keys("\(updates).keys")) == .published)
        }
        #expect(try reason(now: now + 95 * 86_400) == .expired)
        // A key that was stolen: from then on the other one's words count.
        let status = try done("status", updates, "--json")
        let roles = try #require(try JSON.parse(Array(status.utf8)).list)
        let stolen = try #require(
            roles.first { $0["role"]?.text == "director" }?["keys"]?.list?.first?.text)
        _ = try done(
            "rotate", updates, "--role", "director", "--old", stolen, "--new", "\(fleet)/thief.key.pub")
        #expect(try reason() == .signature)
        #expect(try direct("--release", "2").text.contains("counter 3") && reason() == nil)
    }

    /// By another's client, over HTTP, and ranges of it.
    @Test func pythonsClientReadsOurRepository() throws {
        _ = try done("init", updates, "--root", "2-of-3", "--targets", "2-of-3")
        #expect(try add("1.0", "what is signed", keys("\(updates).keys")) == .published)
        let python = try PythonEnvironment("tuf", ["tuf==7.0.1", "securesystemslib[crypto]==1.6.0"])
        let server = try Command(
            "\(Self.repository)/.build/debug/vcpe", ["release", "serve", updates, "--port", "38471"]
        ).start(output: try File("\(folder)/log", O_WRONLY | O_CREAT))
        defer { server.kill() }
        let address = "http://127.0.0.1:38471"
        #expect(
            Wait.until { (try? Transport.fetch("\(address)/metadata/timestamp.json")) != nil },
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
            // And after the root, a channel's and all online keys' next versions.
            _ = try done("resign", updates, "--role", "root", "--role", "stable", "--role", "targets")
        }
        // A part of a file.
        let place = "\(updates)/targets/stable/lab/virtio/1.0"
        let file = try FileSystem.list(place).first ?? ""
        let part = try Command(
            "curl", ["-s", "-r", "5-6", "\(address)/targets/stable/lab/virtio/1.0/\(file)"]
        ).run()
        #expect(part.text == "is")
    }

    private enum Transport {
        static func fetch(_ url: String) throws -> String { try Command("curl", ["-sf", url]).check().text }
    }
}
