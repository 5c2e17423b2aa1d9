import Documents
import Files
import Glibc
import Processes
import Testing
import Updates

@testable import Releases

/// A director with several keys, of which two of three must sign each direction.
@Suite final class DirectorTests {
    let commands: ReleaseCommands
    let folder: String
    var updates: String { commands.updates }
    var file: String { "\(updates)/director/north.json" }
    var waiting: String { "\(updates)/unsigned/director/north.json" }

    init() throws {
        commands = try ReleaseCommands()
        folder = commands.folder
        try commands.done("init", updates, "--lab")
        for version in ["1", "2"] { try commands.add(version, version, commands.keys("\(updates).keys")) }
        for name in ["gil", "hal", "ida", "mal"] { try commands.key(name) }
        let keys = ["gil", "hal", "ida"].flatMap { ["--key", commands.pub($0)] }
        let made = try commands.run(["director", updates, "--threshold", "2", "--yes"] + keys)
        #expect(made.status == 0, "\(made.errorText)")
    }

    @discardableResult private func direct(to release: String, by name: String) throws -> String {
        try commands.done(
            "direct", updates, "north", "--image", "lab", "--release", release, "--yes", "--keys", "\(folder)/\(name)")
    }

    /// What a box of the group gets; nil if it refuses the direction or there is none.
    private func release(last: Int = 0) throws -> String? {
        let source = Repository(["file://\(updates)"])
        return try? commands.client().direction(of: "north", in: source, last: last).releases["lab"]
    }

    @Test func eachSignatureOfADirectionIsKept() throws {
        // The online keys are on another machine.
        try FileSystem.rename("\(updates).keys", to: "\(folder)/elsewhere")
        #expect(try direct(to: "1", by: "gil").contains("director/north 1"))
        #expect(try !FileSystem.exists(file) && release() == nil)
        #expect(try commands.missing() == ["director/north": 1])
        #expect(try commands.done("status", updates).contains("group north: a direction needs 1 more signatures"))
        // A key of no director, and the same key again, sign nothing.
        let digest = try commands.digest()
        #expect(try commands.run(["sign", updates, "--keys", "\(folder)/mal", "--confirm", digest]).status == 1)
        try commands.sign("gil")
        #expect(try commands.missing() == ["director/north": 1])
        try commands.sign("ida")
        #expect(try release() == "1" && !FileSystem.exists("\(updates)/unsigned"))
        #expect(try Set(SignedDocument("director", file: file).signatures.keys).count == 2)
        #expect(try commands.run(["show", updates]).status == 1)
    }

    /// A direction whose signatures came together elsewhere needs no key at all.
    @Test func aCompleteDirectionIsPublishedWithoutAKey() throws {
        try direct(to: "1", by: "gil")
        let first = try SignedDocument("director", file: waiting)
        var both = first
        _ = try both.sign(
            [commands.identifier(commands.pub("hal"))], commands.keys("\(folder)/hal").keys)
        try FileSystem.replace(waiting, with: both.bytes)
        try FileSystem.rename("\(updates).keys", to: "\(folder)/elsewhere")
        try commands.done("publish", updates)
        #expect(try release() == "1" && !FileSystem.exists("\(updates)/unsigned"))
    }

    @Test func anotherDirectionDropsTheSignatures() throws {
        try direct(to: "1", by: "gil")
        // --yes does not sign over what waited before.
        let second = ["direct", updates, "north", "--image", "lab", "--release", "2", "--keys", "\(folder)/hal"]
        #expect(try commands.run(second + ["--yes"]).status == 1)
        try commands.done("discard", updates)
        #expect(!FileSystem.exists("\(updates)/unsigned"))
        try commands.done(
            "direct", updates, "north", "--image", "lab", "--release", "2", "--yes", "--keys", "\(folder)/hal")
        #expect(try release() == nil)
        try commands.sign("ida")
        #expect(try release() == "2")
    }

    /// Waiting changes of roles and of directions do not remove each other.
    @Test func aDirectionWaitsBesideAChangeOfRoles() throws {
        try direct(to: "1", by: "gil")
        try commands.done("resign", updates, "--yes")
        #expect(FileSystem.exists(waiting))
        try commands.done("resign", updates, "--role", "stable")
        #expect(try commands.missing() == ["director/north": 1, "stable": 1])
        try commands.sign("hal")
        #expect(try release() == "1" && commands.missing() == ["stable": 1])
        try commands.done("discard", updates)
    }

    /// One who can write to the folder gets no signature for what the review does not show.
    @Test(
        arguments: [
            ("version", .integer(7)), ("group", "south"), ("_type", "targets"), ("expires", "2199-01-01T00:00:00Z"),
            ("releases", ["lab": "9"]), ("window", ["from": 1]),
        ] as [(String, JSON)])
    func aDirectionThatDoesNotFollowIsNotSigned(field: String, value: JSON) throws {
        try direct(to: "1", by: "gil")
        var document = try SignedDocument("director", file: waiting)
        document.signed[field] = value
        try FileSystem.replace(waiting, with: document.bytes)
        let result = try commands.run(["sign", updates, "--keys", "\(folder)/hal", "--confirm", "0"])
        #expect(result.status == 1 && result.errorText.contains(waiting), "\(result.errorText)")
        #expect(!FileSystem.exists(file))
    }
}
