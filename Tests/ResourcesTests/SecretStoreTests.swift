@testable import Engine
import Files
import Glibc
import PluginKit
import Processes
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
}
