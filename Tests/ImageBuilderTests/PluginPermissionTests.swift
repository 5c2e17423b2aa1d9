import Documents
import Files
@testable import ImageBuilder
import Planning
import PluginKit
import Testing

/// A definition repeats what a third party's plugin may have.
@Suite final class PluginPermissionTests {
    let folder: String

    init() throws { folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-allowed") }

    deinit { try? FileSystem.remove(folder) }

    private static let permissions = Permissions(
        programs: ["/usr/bin/wg genkey"],
        services: ["tunnel-one": .init(["/usr/sbin/one"], users: ["one"], capabilities: ["net_admin"])],
        sysctls: ["net/ipv4/conf/*"], stages: [.forward: true])

    private func manifest(_ permissions: Permissions, _ name: String = "tunnel") -> PluginManifest {
        PluginManifest(
            name: name, version: "1", summary: "s", key: name, yang: "x.yang", permissions: permissions,
            resources: ["service", "route"], features: [.init("base", modules: ["wireguard"])])
    }

    /// What a definition with this list of plugins makes of them.
    private func find(
        _ manifest: PluginManifest, plugins: String
    ) throws -> [BuiltPlugin] {
        let plugin = "\(folder)/\(manifest.name)"
        try FileSystem.makeDirectory(plugin)
        for (file, text) in ["manifest.json": manifest.json.pretty, manifest.name: "#!/bin/sh\n", "x.yang": ""] {
            try FileSystem.replace("\(plugin)/\(file)", with: text, mode: 0o755)
        }
        try FileSystem.replace(
            "\(folder)/i.yaml",
            with: """
                name: i
                version: 1
                base: {suite: trixie, architecture: amd64}
                profiles: [virtio]
                \(plugins)
                """)
        let definition = try Definition.read("\(folder)/i.yaml")
        return try BuiltPlugin.find(definition.plugins, images: folder, box: folder)
    }

    private func problems(_ manifest: PluginManifest, plugins: String) throws -> [Problem] {
        thrown(InvalidDocument.self) { try find(manifest, plugins: plugins) }?.problems ?? []
    }

    @Test func whatIsNotAllowedIsSaidAsItMustBeWritten() throws {
        let manifest = manifest(Self.permissions)
        let problem = try #require(try problems(manifest, plugins: "plugins: [./tunnel]\n").first)
        #expect(problem.position.line == 5 && problem.path == "plugins[0]")
        for grant in manifest.granted.grants { #expect(problem.message.contains(grant.description)) }
        let hint = try #require(problem.hint)
        for words in [
            "can accept forwarded traffic", "can set sysctls net/ipv4/conf/*", "can load kernel modules wireguard",
            "can set routes", "/usr/bin/wg genkey", "capabilities net_admin",
        ] { #expect(hint.contains(words), "\(words): \(hint)") }
        // What the hint says can be pasted.
        let start = try #require(hint.firstRange(of: "plugins:\n"))
        let pasted = String(hint[start.lowerBound...])
        #expect(try find(manifest, plugins: pasted).map(\.manifest.name) == ["tunnel"], "\(pasted)")
    }

    @Test func narrowerAndWiderAreErrors() throws {
        let manifest = manifest(Self.permissions)
        var allow = manifest.granted
        func problems() throws -> [Problem] {
            try self.problems(manifest, plugins: AllowedPermissions.yaml(path: "./tunnel", allow))
        }
        allow.stages = [.forward: false]
        let narrower = try problems()
        #expect(narrower.count == 2 && narrower.allSatisfy { $0.path == "plugins[0].allow" }, "\(narrower)")
        #expect(narrower.first?.message.hasSuffix("stages: [\"forward accept\"]") == true)
        #expect(narrower.last?.message.hasSuffix("stages: [\"forward\"]") == true)
        allow = manifest.granted
        allow.services["tunnel-one"]?.capabilities.append("net_raw")
        let wider = try problems()
        #expect(
            wider.map { $0.message.hasSuffix("services.tunnel-one.capabilities: [\"net_raw\"]") } == [true], "\(wider)")
        allow = manifest.granted
        #expect(try find(manifest, plugins: AllowedPermissions.yaml(path: "./tunnel", allow)).count == 1)
    }

    @Test func noDefinitionAllowsWhatIsTheBoxs() throws {
        var permissions = Self.permissions
        permissions.services["tunnel-one"]?.users = ["root"]
        permissions.services["tunnel-one"]?.capabilities = ["sys_admin"]
        permissions.sysctls = ["kernel/core_pattern"]
        let manifest = manifest(permissions)
        let found = try problems(manifest, plugins: AllowedPermissions.yaml(path: "./tunnel", manifest.granted))
        #expect(found.count == 3, "\(found)")
        for words in ["the user root", "the capability sys_admin", "sysctl kernel/core_pattern"] {
            #expect(found.contains { $0.message.contains(words) }, "\(words)")
        }
    }

    @Test func namesOfTheBoxAreNoPlugins() throws {
        for name in ["engine", "lan"] {
            let found = try problems(self.manifest(Permissions(), name), plugins: "plugins: [./\(name)]\n")
            #expect(found.count == 1 && found.first?.message.contains("the name \(name)") == true, "\(found)")
        }
    }

    /// The report of a build names third parties' plugins first.
    @Test func theReportSaysWhatEachPluginCanDo() throws {
        let manifest = manifest(Permissions(stages: [.forward: true]))
        let plugins = try find(manifest, plugins: AllowedPermissions.yaml(path: "./tunnel", manifest.granted))
        var own = try #require(plugins.first)
        (own.program, own.manifest.name, own.manifest.permissions) = (nil, "lan", Permissions())
        let lines = Report.permissions(of: [own] + plugins)
        #expect(
            lines == [
                "", "What plugins can do:", "  tunnel, of a third party", "    can accept forwarded traffic",
                "    can load kernel modules wireguard", "    can set routes", "  lan",
                "    can load kernel modules wireguard", "    can set routes",
            ], "\(lines)")
    }

    /// The engine has it from the builder which plugins are the project's own.
    @Test func theImageSaysWhichPluginsAreOwn() throws {
        let plain = PluginManifest(
            name: "plain", version: "1", summary: "s", key: "plain", yang: "x.yang", resources: [],
            features: [.init("base")])
        let plugins = try find(plain, plugins: "plugins: [./plain]\n")
        #expect(plugins.map(\.isOwn) == [false])
        #expect(ForeignPlugins.file(["nat", "lan"]) == JSON.list(["lan", "nat"]).pretty)
    }
}
