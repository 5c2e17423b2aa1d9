import ArgumentParser
import Files
import Glibc
import Updates

/// The box's TUF client as a command, for tests against other projects' servers and suites.
@main struct VCPETUF: ParsableCommand {
    enum Verb: String, CaseIterable, ExpressibleByArgument { case `init`, refresh, download }

    static let configuration = CommandConfiguration(
        commandName: "vcpe-tuf", abstract: "Reads a repository of The Update Framework (TUF) as a box does.",
        discussion: """
            Examples:
              vcpe-tuf --metadata-dir trusted init root.json
              vcpe-tuf --metadata-dir trusted \\
                  --metadata-url https://updates.example.com/metadata refresh
              vcpe-tuf --metadata-dir trusted \\
                  --metadata-url https://updates.example.com/metadata \\
                  --target-name lab/1.2/root --target-base-url https://updates.example.com/targets \\
                  --target-dir . download

            With --in-days a monitoring job detects early that a role will expire:
              vcpe-tuf --metadata-dir fresh --in-days 3 --metadata-url URL refresh

            Exits with 0 if everything was valid, else with 1 and the reason.
            """)

    @Option(help: "The folder of trusted metadata.") var metadataDir: String
    @Option(help: "The address of the repository's metadata.") var metadataUrl: String?
    @Option(help: "The path of a target.") var targetName: String?
    @Option(help: "The address of the repository's targets.") var targetBaseUrl: String?
    @Option(help: "The folder for the target.") var targetDir: String?
    @Option(help: "Seconds below 1000 bytes a second after which a request fails.") var stallTime = 30
    @Option(help: "Check expiry dates as if it were that many days later.") var inDays = 0
    @Argument(help: "init, refresh or download.") var verb: Verb
    @Argument(help: "For init: the root.json to trust.") var root: String?

    func validate() throws {
        guard (0...3650).contains(inDays) else { throw ValidationError("--in-days \(inDays): allowed are 0 to 3650") }
    }

    func run() throws {
        switch verb {
        case .`init`:
            guard let root else { throw ValidationError("init needs the root.json file to trust") }
            try UpdateClient.initialize(metadataDir, root: try FileSystem.read(root))
        case .refresh:
            var client = try client()
            try client.refresh()
        case .download:
            guard let targetName, let targetBaseUrl, let targetDir else {
                throw ValidationError("download needs --target-name, --target-base-url and --target-dir")
            }
            var client = try client()
            try client.refresh()
            print(try client.download(targetName, from: targetBaseUrl, into: targetDir))
        }
    }

    private func client() throws -> UpdateClient {
        guard let metadataUrl else { throw ValidationError("\(verb.rawValue) needs --metadata-url") }
        return try UpdateClient(
            folder: metadataDir, source: HTTPSource(Repository([metadataUrl], options: .init(stallTime: stallTime))),
            now: time(nil) + 86_400 * inDays)
    }

    /// Callers expect exit codes 0 and 1 only.
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
