import Files
@testable import ImageBuilder
import PluginKit
import Testing

/// Locks of a manifest against the plugin's YANG module.
@Suite final class PluginLockTests {
    private let folder: String

    init() throws { folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-locks") }

    deinit { try? FileSystem.remove(folder) }

    private func findings(_ locks: String...) throws -> [String] {
        let module = """
            module x {
              prefix x;
              import shared { prefix s; }
              container x {
                uses s:names;
                leaf hostname { type string; }
                container state { config false; leaf count { type uint32; } }
                list users { key name; leaf name { type string; } leaf role { type string; } }
              }
            }
            """
        try FileSystem.makeDirectory("\(folder)/x")
        try FileSystem.makeDirectory("\(folder)/shared")
        try FileSystem.replace("\(folder)/x/x.yang", with: module)
        try FileSystem.replace(
            "\(folder)/shared/shared.yang",
            with: "module shared { prefix s; grouping names { leaf domain { type string; } } }")
        let manifest = PluginManifest(
            name: "x", version: "1", summary: "s", key: "x", yang: "x.yang", locks: locks, resources: [],
            features: [])
        let check = PluginCheck(
            folder: "\(folder)/x", manifest: manifest, modules: ["\(folder)/shared"], answer: { _, _ in [] },
            answerInOtherEnvironment: { _, _ in [] })
        return check.checkManifest(manifest).map(\.message)
    }

    @Test func pathsOfTheModuleCanBeLocked() throws {
        #expect(try findings("", "users", "users[anna].role", "hostname", "domain") == [])
    }

    /// A lock of a path that the module does not have would lock nothing.
    @Test(arguments: [
        ("user", "users"), ("users[anna].rolle", "role"), ("hostname.x", "hostname"), ("users.role", "users[…]"),
        ("state.count", "hostname"),
    ])
    func otherPathsAreFindings(path: String, known: String) throws {
        let found = try findings("users", path)
        #expect(found.count == 1 && found.allSatisfy { $0.contains(path) && $0.contains(known) }, "\(found)")
    }
}
