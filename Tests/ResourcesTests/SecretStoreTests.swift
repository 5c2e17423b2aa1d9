import Documents
@testable import Engine
import Files
import Glibc
import Planning
import PluginKit
import Processes
import TestSupport
import Testing

/// Secrets that programs make.
@Suite struct SecretStoreTests {
    /// A commit waits for all of them together no longer than for its checks.
    @Test func allSecretsOfACommitHaveOneDeadline() throws {
        let folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-secrets")
        defer { try? FileSystem.remove(folder) }
        let store = SecretStore(folder: "\(folder)/secrets", scratch: folder)
        func secret(_ name: String, _ script: String) -> SecretResource {
            SecretResource(name: "x.\(name)", .program(["/bin/sh", "-c", script]))
        }
        let wanted = [
            secret("quick", "echo made"), secret("slow", "sleep 1.2; echo made"), secret("slower", "exec sleep 60"),
            secret("last", "echo made"),
        ]
        var begin = timespec()
        clock_gettime(CLOCK_MONOTONIC, &begin)
        func elapsed() -> Double {
            var now = timespec()
            clock_gettime(CLOCK_MONOTONIC, &now)
            return Double(now.tv_sec - begin.tv_sec) + Double(now.tv_nsec - begin.tv_nsec) / 1e9
        }
        #expect { try store.make(wanted, within: 2) } throws: { "\($0)".contains("secret x.slower") }
        #expect((1.5..<5).contains(elapsed()), "\(elapsed())")
        // What was made stays; a commit that follows needs less.
        #expect(try FileSystem.list("\(folder)/secrets") == ["x.quick", "x.slow"])
        try store.make([wanted[0], wanted[1], wanted[3]], within: 2)
        #expect(try store.filled("${secret:x.last}") == "made\n")
    }

    /// What others left of the time is not what programs are allowed.
    @Test func theErrorNamesTheWholeTime() throws {
        let folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-secrets")
        defer { try? FileSystem.remove(folder) }
        let store = SecretStore(folder: "\(folder)/secrets", scratch: folder)
        let slow = SecretResource(name: "x.slow", .program(["/bin/sh", "-c", "exec sleep 60"]))
        #expect { try store.make([slow], within: 0.2) } throws: {
            "\($0)".contains("x.slow") && "\($0)".contains(" \(Int(SecretStore.patience)) s")
        }
    }

    /// A secret that is made for a check alone, and can't be.
    @Test func aSecretThatAFileNeedsIsAProblemOfTheDocument() throws {
        let folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-secrets")
        defer { try? FileSystem.remove(folder) }
        var places = Places()
        (places.run, places.data, places.initSocket) = ("\(folder)/run", "\(folder)/data", "\(folder)/none")
        try FileSystem.makeDirectory(places.state)
        let planner = try Planner([
            .init(PluginRunner(name: "x", command: ["/bin/false"]), .ofTest("x", .init()), isOwn: true)
        ])
        func file(_ name: String, _ content: String) -> PlannedResource {
            let file = FileResource(
                path: "/run/vcpe/x/\(name)", content: content, owner: "root", mode: 0o600, check: ["/bin/test", name])
            let resource = Resource(file)
            return PlannedResource(resource: resource, plugin: "x", line: resource.json.line, path: name)
        }
        let secret = Resource(SecretResource(name: "x.key", .program(["/bin/false"])))
        let plan = Plan([
            file("a", "${secret:x.key}"), file("b", ""),
            PlannedResource(resource: secret, plugin: "x", line: secret.json.line),
        ])
        let site = try YAML.read(Array("x:\n  a: 1\n  b: 2\n".utf8), file: "site")
        let problems = try FileChecks(places: places).problems(
            of: plan, changed: plan.ordered, site: site, planner: planner)
        #expect(problems.count == 1, "\(problems)")
        #expect(problems.first?.hasPrefix("error: site:2:") == true, "\(problems)")
        #expect(problems.first?.contains("x.key") == true, "\(problems)")
    }
}
