import ArgumentParser
import Files
import Glibc
import Updates

/// A client of TUF repositories over the library that boxes use, for tests with the servers and suites of others.
@main struct VCPETUF: ParsableCommand {
    enum Verb: String, CaseIterable, ExpressibleByArgument { case `init`, refresh, download }

    static let configuration = CommandConfiguration(
        commandName: "vcpe-tuf", abstract: "Reads a repository of The Update Framework as a box would",
        discussion: """
            Examples:
              vcpe-tuf --metadata-dir trusted init root.json
              vcpe-tuf --metadata-dir trusted --metadata-url https://updates.example.com/metadata refresh
              vcpe-tuf --metadata-dir trusted --metadata-url https://updates.example.com/metadata \\
                  --target-name lab/1.2/root --target-base-url https://updates.example.com/targets --target-dir . download

            Exits with 0 when all was as it is signed, else with 1 and the reason.
            """)

    @Option(help: "The folder of what is trusted.") var metadataDir: String
    @Option(help: "Where the repository's metadata are.") var metadataUrl: String?
    @Option(help: "The path of a target.") var targetName: String?
    @Option(help: "Where the repository's targets are.") var targetBaseUrl: String?
    @Option(help: "The folder that the target goes to.") var targetDir: String?
    @Option(help: "Seconds without data after which a server is given up.") var stallTime = 30
    @Argument(help: "init, refresh or download.") var verb: Verb
    @Argument(help: "For init: the root.json that is trusted from the start.") var root: String?

    func run() throws {
        switch verb {
        case .`init`:
            guard let root else { throw ValidationError("init wants the file of a root") }
            try UpdateClient.initialize(metadataDir, root: try FileSystem.read(root))
        case .refresh:
            var client = try client()
            try client.refresh()
        case .download:
            guard let targetName, let targetBaseUrl, let targetDir else {
                throw ValidationError("download wants --target-name, --target-base-url and --target-dir")
            }
            var client = try client()
            try client.refresh()
            print(try client.download(targetName, from: targetBaseUrl, into: targetDir))
        }
    }

    private func client() throws -> UpdateClient {
        guard let metadataUrl else { throw ValidationError("\(verb.rawValue) wants --metadata-url") }
        return try UpdateClient(
            folder: metadataDir, source: HTTPSource(Repository([metadataUrl], line: .init(stallTime: stallTime))),
            now: time(nil))
    }

    /// Callers look at 0 and 1 only.
    static func main() {
        do {
            var command = try parseAsRoot()
            try command.run()
        } catch {
            let code = exitCode(for: error)
            let text = Array((fullMessage(for: error) + "\n").utf8)
            _ = write(code == .success ? STDOUT_FILENO : STDERR_FILENO, text, text.count)
            Glibc.exit(code == .success ? 0 : 1)
        }
    }
}
