import Documents
import Files
import Glibc
@testable import Releases
import Testing
import Updates

/// Damaged metadata, and releases and files that go.
@Suite struct RepairTests {
    private let commands: ReleaseCommands

    init() throws { commands = try ReleaseCommands() }

    private var updates: String { commands.updates }
    private func target(_ version: String) -> String { "stable/lab/virtio/\(version)/root.zst" }

    @Test func damagedMetadataIsNamedAndMadeAnew() throws {
        try commands.done("init", updates, "--lab")
        let session = try commands.keys("\(updates).keys")
        try commands.add("1", "first", session)
        #expect(try commands.read(target("1")) == Array("first".utf8))
        for damage in ["cut", "empty", "garbage", "snapshot", "gone"] {
            let timestamp = "\(updates)/metadata/timestamp.json"
            let bytes = try FileSystem.read(timestamp)
            var path = timestamp
            switch damage {
            case "cut": try FileSystem.replace(path, with: Array(bytes[..<100]))
            case "empty": try FileSystem.replace(path, with: "")
            case "garbage": try FileSystem.replace(path, with: "{}")
            case "gone": try FileSystem.remove(path)
            default:
                let version = try SignedDocument("timestamp", bytes, file: path).version
                path = "\(updates)/metadata/\(version).snapshot.json"
                try FileSystem.replace(path, with: "{\"signed\":")
            }
            let failure = try commands.failure { _ = try ReleaseRepository(updates, now: commands.now) }
            if damage != "gone" { #expect(failure?.reason == .damaged && failure?.path == path, "\(damage)") }
            #expect(failure != nil)
            try commands.done("repair", updates)
            // A box that has seen what was before goes on with it.
            #expect(try commands.read(target("1")) == Array("first".utf8), "\(damage)")
            try commands.done("resign", updates)
            #expect(try commands.read(target("1")) == Array("first".utf8), "\(damage)")
        }
        // Of an offline role nobody but its signers could make another version.
        let path = "\(updates)/metadata/1.targets.json"
        let kept = try FileSystem.read(path)
        try FileSystem.replace(path, with: Array(kept.dropLast(10)))
        let keys = try KeyFolder(["\(updates).keys"], passphrase: ReleaseCommands.passphrase)
        let failure = try commands.failure {
            _ = try ReleaseRepository.repair(updates, signing: keys, now: commands.now)
        }
        #expect(failure?.reason == .damaged && failure?.path == path)
        try FileSystem.replace(path, with: kept)
        try commands.done("repair", updates)
    }

    @Test func aWithdrawnReleaseIsInstalledByNobodyAndNeverComesAgain() throws {
        try commands.done("init", updates, "--lab")
        let session = try commands.keys("\(updates).keys")
        for (place, version) in ["1", "2"].enumerated() {
            try commands.add(version, version, at: commands.now + place, session)
        }
        try commands.key("fleet")
        try commands.done("director", updates, "--key", commands.pub("fleet"), "--yes")
        try commands.done(
            "direct", updates, "north", "--image", "lab", "--release", "2", "--yes", "--keys",
            "\(commands.folder)/fleet")
        let withdraw = ["withdraw", updates, "2", "--image", "lab", "--yes"]
        // The group would be left without a release.
        #expect(try commands.run(withdraw).status == 1)
        try commands.done(
            "direct", updates, "north", "--image", "lab", "--release", "1", "--yes", "--keys",
            "\(commands.folder)/fleet")
        #expect(try commands.run(withdraw).status == 0)
        #expect(try commands.reason(target("2")) == .unknownTarget)
        #expect(try commands.read(target("1")) == Array("1".utf8))
        #expect(try commands.run(withdraw).status == 1)
        // The command in the message works.
        let unknown = try commands.run(["withdraw", updates, "2", "--image", "unknown", "--yes"]).errorText
        #expect(unknown.contains("vcpe release status \(updates)"), "\(unknown)")
        try commands.done("status", updates)
        let failure = try commands.failure { try commands.add("2", "again", session) }
        #expect(failure?.reason == .exists)
        #expect(try commands.failure { try commands.add("1", "again", session) }?.reason == .exists)
    }

    /// Old releases go from the metadata at once, and their files when no client can be reading
    /// them.
    @Test func filesGoWhenNoClientReadsThem() throws {
        try commands.done("init", updates, "--lab")
        let session = try commands.keys("\(updates).keys")
        for version in 1...6 {
            try commands.add("\(version)", "text \(version)", floor: version == 2, at: commands.now + version, session)
        }
        try commands.key("fleet")
        try commands.done("director", updates, "--key", commands.pub("fleet"), "--yes")
        try commands.done(
            "direct", updates, "north", "--image", "lab", "--release", "3", "--yes", "--keys",
            "\(commands.folder)/fleet")
        // Of an interrupted add.
        try FileSystem.makeDirectory("\(updates)/targets/stable/lab/virtio/9")
        try FileSystem.replace("\(updates)/targets/stable/lab/virtio/9/leftover", with: "")
        func versions() throws -> [String] {
            try FileSystem.list("\(updates)/targets/stable/lab/virtio")
        }
        try commands.done("prune", updates, "--dry-run", "--keep", "2")
        #expect(try versions() == ["1", "2", "3", "4", "5", "6", "9"])
        try commands.done("prune", updates, "--keep", "2", "--yes")
        // 2 is the floor and 3 is what a group runs. A client that began before may still read 1
        // and 4.
        #expect(try versions() == ["1", "2", "3", "4", "5", "6"])
        for (version, isThere) in [("1", false), ("2", true), ("3", true), ("4", false), ("5", true), ("6", true)] {
            #expect(try (commands.reason(target(version)) == nil) == isThere, "\(version)")
        }
        try commands.done("prune", updates, "--grace-days", "0")
        #expect(try versions() == ["2", "3", "5", "6"])
        for version in ["2", "3", "5", "6"] {
            #expect(try commands.read(target(version), into: "new") == Array("text \(version)".utf8))
        }
        let names = try FileSystem.list("\(updates)/metadata")
        #expect(names.filter { $0.hasSuffix(".stable.json") }.count == 1 && names.contains("1.root.json"))
        try commands.add("7", "text 7", at: commands.now + 7, session)
        #expect(try commands.read(target("7")) == Array("text 7".utf8))
    }

    @Test func statusSaysWhatIsDue() throws {
        try commands.done("init", updates, "--lab")
        #expect(try commands.run(["status", updates, "--check"]).status == 0)
        try commands.done("resign", updates, "--role", "stable", "--days", "30", "--yes")
        func role(at time: Int) throws -> RoleStatus? {
            try ReleaseRepository(updates, now: time, readOnly: true).status.first { $0.role == "stable" }
        }
        let (now, day) = (commands.now, 86_400)
        #expect(try role(at: now)?.isDue(now: now + 18 * day) == false)
        #expect(try role(at: now)?.isDue(now: now + 21 * day) == true)
        // The period is kept by later versions.
        try commands.add("1", "first", commands.keys("\(updates).keys"))
        let expires = try role(at: now)?.expires ?? 0
        #expect((29 * day...31 * day).contains(expires - now))
    }
}
