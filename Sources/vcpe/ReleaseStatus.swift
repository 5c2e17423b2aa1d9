import ArgumentParser
import Documents
import Files
import Glibc
import ImageBuilder
import Processes
import Releases
import Updates

/// Commands that show a repository's state, and serve it.
extension ReleaseCommand {
    struct Status: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "status", abstract: "Show roles, their keys, expiry dates and waiting changes.",
            discussion: """
                  vcpe release status updates
                  vcpe release status updates --check
                """)

        @Argument(help: "The folder of the repository.")
        var repository: String
        @Flag(help: "Print JSON.")
        var json = false
        @Flag(help: "Exit with 1 if a role has expired or should be signed again now, for monitoring.")
        var check = false

        func run() throws {
            let now = time(nil)
            let found = try ReleaseRepository(repository, now: now, readOnly: true)
            let status = found.status
            if json {
                print(JSON.list(status.map { Self.json($0, now) }).pretty, terminator: "")
            } else {
                for role in status { print(Self.line(role, now)) }
                for (group, direction) in found.directions { print(Self.line(group, direction, now)) }
                for (group, missing) in found.missingOfDirections {
                    print("  group \(group): a direction needs \(missing) more signatures")
                }
            }
            if check, let due = status.first(where: { $0.isDue(now: now) }) {
                throw ReleaseFailure(
                    "\(due.role): expires \(UTC.text(of: due.expires)), so it should be signed again",
                    hint: "vcpe release resign \(repository) --role \(due.role)")
            }
        }

        private static func json(_ role: RoleStatus, _ now: Int) -> JSON {
            let keys: [JSON] = role.keys.map {
                [
                    "identifier": .text($0.identifier), "owner": $0.owner.map { .text($0) } ?? .null,
                    "signed": .boolean($0.hasSigned),
                ]
            }
            return [
                "role": .text(role.role), "version": .integer(role.version),
                "expires": .text(UTC.text(of: role.expires)), "keys": .list(keys),
                "threshold": .integer(role.threshold), "missing-signatures": .integer(role.missing),
                "pending": .boolean(role.isPending), "due": .boolean(role.isDue(now: now)),
            ]
        }

        private static func line(_ role: RoleStatus, _ now: Int) -> String {
            let days = (role.expires - now + 86_399) / 86_400
            let expiry =
                role.version == 0
                ? "not published yet" : role.expires <= now ? "expired \(-days) days ago" : "expires in \(days) days"
            let due = role.isDue(now: now) ? " (sign it again)" : ""
            let keys = role.keys.map { key in
                let signed = role.isPending && key.hasSigned ? " has signed" : ""
                return (key.owner.map { "\($0) " } ?? "") + key.identifier.prefix(12) + signed
            }
            let waits = role.isPending ? "; a change needs \(role.missing) more signatures" : ""
            let name = role.role + String(repeating: " ", count: max(1, 12 - role.role.count))
            let version = role.role == Direction.role ? "" : "version \(role.version), \(expiry)\(due), "
            return "\(name)\(version)\(role.threshold) of \(role.keys.count): \(keys.joined(separator: ", "))\(waits)"
        }

        private static func line(_ group: String, _ direction: Result<Direction, UpdateFailure>, _ now: Int) -> String {
            switch direction {
            case .success(let direction):
                let list = direction.releases.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }
                return "  group \(group): \(list.joined(separator: ", ")), counter \(direction.counter), expires in "
                    + "\((direction.expires - now + 86_399) / 86_400) days"
            case .failure(let failure): return "  group \(group): boxes refuse its direction: \(failure)"
            }
        }
    }

    struct Serve: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "serve", abstract: "Serve a repository over HTTP, for a lab.",
            discussion: """
                Uses busybox's httpd, which supports byte ranges. Ctrl-C stops it, and it ends when its
                terminal closes.

                  vcpe release serve updates --address 192.0.2.1 --port 8000
                """)

        @Argument(help: "The folder of the repository.")
        var repository: String
        @Option(help: "The TCP port.")
        var port = 8000
        @Option(help: "The address to listen on.")
        var address = "127.0.0.1"

        func validate() throws {
            guard (1...65_535).contains(port) else { throw ValidationError("--port \(port): allowed are 1 to 65535") }
        }

        func run() throws {
            guard FileSystem.exists("\(repository)/metadata/timestamp.json") else {
                throw ReleaseFailure(
                    "\(repository): not a published repository, metadata/timestamp.json is missing",
                    hint: "vcpe release init \(repository)")
            }
            guard let busybox = ["/bin/busybox", "/usr/bin/busybox"].first(where: FileSystem.exists) else {
                throw ReleaseFailure("busybox is not installed", hint: "apt-get install busybox")
            }
            BuildConsole.error("http://\(address):\(port)/metadata and /targets; Ctrl-C stops it")
            // Not in place of this process: httpd takes SIGHUP for a reload of its configuration,
            // and would outlive its terminal. As a child it ends with this process (``Children``).
            let ended = try Command(busybox, ["httpd", "-f", "-p", "\(address):\(port)", "-h", repository]).run()
            let reason = ended.errorText.split(separator: "\n").last.map { ": \($0)" } ?? ""
            throw ReleaseFailure(
                "\(address):\(port): httpd exited with \(ended.status)\(reason)",
                hint: "use another --port, or an address of this host")
        }
    }
}
