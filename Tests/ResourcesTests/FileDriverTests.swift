@testable import Engine
import Files
import Glibc
import Netlink
import Planning
import PluginKit
import Processes
import TestSupport
import Testing

/// Files and directories of a plan, below a directory that a service's user owns: the user puts
/// something else in their places.
@Suite(.serialized) final class FileDriverTests {
    private let folder: String
    private let places: Places
    private let namespace: NetworkNamespace
    private var applied = AppliedState()

    /// `conf` lies in a directory of the service's user.
    private static let resources: [Resource] = [
        Resource(DirectoryResource(path: "/data/notes", owner: "daemon", mode: 0o755)),
        Resource(DirectoryResource(path: "/data/notes/conf", owner: "root", mode: 0o750)),
        Resource(FileResource(path: "/data/notes/conf/a", content: "planned", owner: "daemon", mode: 0o640)),
        Resource(FileResource(path: "/run/vcpe/notes/deep/er/b", content: "planned", owner: "root", mode: 0o600)),
    ]

    init() throws {
        folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-plan-files")
        namespace = try NetworkNamespace()
        var places = Places()
        (places.run, places.data, places.initSocket) = ("\(folder)/run", "\(folder)/data", "\(folder)/none")
        self.places = places
        try FileSystem.makeDirectory("\(folder)/victim/er")
        for name in ["a", "er/b"] { try FileSystem.replace("\(folder)/victim/\(name)", with: "precious", mode: 0o600) }
    }

    deinit { try? FileSystem.remove(folder) }

    private func context() throws -> DriverContext {
        DriverContext(
            places: places, socket: try RouteSocket(), filter: try FilterTable(),
            secrets: SecretStore(folder: "\(folder)/secrets", scratch: folder))
    }

    private func apply(_ resources: [Resource]) throws {
        let plan = Plan(resources.map { PlannedResource(resource: $0, plugin: "notes", line: $0.json.line) })
        try namespace.run {
            // Also the work of an engine that starts after a crash.
            for isSettled in [true, false] {
                applied.isSettled = isSettled
                let transaction = Transaction(try context(), from: applied, to: plan)
                try transaction.checkAll()
                try transaction.apply()
                applied = applied.settled(plan)
            }
        }
    }

    private func drift() throws -> [String] {
        try namespace.run { try Drivers.drift(try context(), from: applied.plan, .polling) }
    }

    private func isVictimUntouched() throws -> Bool {
        let (names, inner) = (try FileSystem.list("\(folder)/victim"), try FileSystem.list("\(folder)/victim/er"))
        let contents = try ["a", "er/b"].map { try FileSystem.read("\(folder)/victim/\($0)") }
        let status = try File("\(folder)/victim").status()
        return names == ["a", "er"] && inner == ["b"] && contents.allSatisfy { $0 == Array("precious".utf8) }
            && FileAttributes(status) == FileAttributes(mode: 0o755)
    }

    @Test(arguments: Obstacle.allCases) func whatIsInThePlaceOfADirectoryIsReplaced(_ obstacle: Obstacle) throws {
        try apply(Self.resources)
        for place in ["data/notes/conf", "run/notes/deep"] {
            try obstacle.put("\(folder)/\(place)", victim: "\(folder)/victim")
            let found = try drift()
            #expect(!found.isEmpty, "\(place)")
            try apply(Self.resources)
            let left = try drift()
            #expect(left == [], "\(place)")
            #expect(try isVictimUntouched(), "\(place)")
        }
        #expect(try FileSystem.read("\(folder)/run/notes/deep/er/b") == Array("planned".utf8))
    }

    @Test(arguments: Obstacle.allCases) func whatIsInThePlaceOfAFileIsReplaced(_ obstacle: Obstacle) throws {
        try apply(Self.resources)
        try obstacle.put("\(folder)/data/notes/conf/a", victim: "\(folder)/victim/a")
        try apply(Self.resources)
        let left = try drift()
        #expect(left == [])
        #expect(try isVictimUntouched())
    }

    @Test(arguments: Obstacle.allCases) func aRemovedPlanRemovesNothingElsewhere(_ obstacle: Obstacle) throws {
        try apply(Self.resources)
        try obstacle.put("\(folder)/data/notes/conf", victim: "\(folder)/victim")
        try obstacle.put("\(folder)/run/notes/deep", victim: "\(folder)/victim")
        try apply([])
        #expect(try isVictimUntouched())
    }

    @Test func purgingRemovesNothingElsewhere() throws {
        let (own, files) = ("\(folder)/data/notes", PluginFiles(places: places))
        try files.purge("/data/notes")
        try FileSystem.makeDirectory("\(own)/inner/deep")
        symlink("\(folder)/victim", "\(own)/inner/link")
        symlink("\(folder)/victim", "\(own)/link")
        try files.purge("/data/notes/link")
        try files.purge("/data/notes/link/er")
        #expect(try isVictimUntouched())
        try files.purge("/data/notes")
        #expect(try FileSystem.list(own) == [] && isVictimUntouched())
    }

    /// Operators' commands show a service's files, and sets get members from them.
    @Test func aServiceHasNothingElsewhereRead() throws {
        try FileSystem.replace("\(folder)/victim/list", with: "192.0.2.7\n")
        let (own, files) = ("\(folder)/run/notes", PluginFiles(places: places))
        let feed = FeedResource("notes.list", sets: [], file: "/run/vcpe/notes/lists/list")
        func members() -> [String] { FeedFiles(places: places).members(of: feed).members.map(\.name) }
        let none = try files.read("/run/vcpe/notes/lists/list", most: 100)
        #expect(none == nil && members() == [])
        try FileSystem.makeDirectory(own)
        symlink("\(folder)/victim", "\(own)/lists")
        let linked = try files.read("/run/vcpe/notes/lists/list", most: 100)
        #expect(linked == nil && members() == [])
        try FileSystem.remove("\(own)/lists")
        try FileSystem.makeDirectory("\(own)/lists")
        symlink("\(folder)/victim/list", "\(own)/lists/list")
        #expect(throws: SystemError.self) { try files.read("/run/vcpe/notes/lists/list", most: 100) }
        #expect(members() == [])
        try FileSystem.replace("\(own)/lists/list", with: "192.0.2.8\n")
        let read = try files.read("/run/vcpe/notes/lists/list", most: 7)
        #expect(read == Array("192.0.2".utf8) && members() == ["192.0.2.8"])
    }

    @Test func otherPathsAreNoPlugins() {
        let files = PluginFiles(places: places)
        for path in [
            "/etc/passwd", "/data", "/data/", "/data/vcpe/secrets/x", "/run/vcpe", "/data/a/../vcpe", "data/a",
            "/data//a", "",
        ] {
            #expect(files.location(path) == nil, "\(path)")
        }
    }
}
