import ArgumentParser
import Documents
import Files
import Glibc
import ImageBuilder
import Processes
import Releases
import Updates

struct ReleaseCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "release",
        abstract: "Publish images as signed files that boxes upgrade from.",
        discussion: """
            A repository is a folder of plain files, signed as The Update Framework has it: any web server, CDN or USB stick may hold
            it, and none of them has to be trusted. Who can sign what: docs/releases.md.

              vcpe release init updates --lab                 a repository with one key a role, for a lab
              vcpe release add branch-office --to updates     publish what vcpe build made and vcpe test proved
              vcpe release status updates                     what stands, until when, and who signs
              vcpe release serve updates                      for a lab

            Keys lie in files under a passphrase: --passphrase-file, the variable VCPE_PASSPHRASE, or asked for. A change
            that needs more signatures than there are keys at hand waits in REPO/unsigned; vcpe release sign adds further ones.
            """,
        subcommands: [
            Initialize.self, Key.self, Add.self, Channel.self, Director.self, Direct.self, Status.self, Sign.self,
            Discard.self, Resign.self, Rotate.self, Revoke.self, Expire.self, Serve.self, Cost.self,
        ])

    /// The repository, and the keys that are at hand.
    struct Access: ParsableArguments {
        @Argument(help: "The folder of the repository.")
        var repository: String

        @OptionGroup var signing: Signing
    }

    struct Signing: ParsableArguments {
        @Option(
            help: ArgumentHelp("A folder of keys; may be given several times. Else REPO.keys.", valueName: "folder"))
        var keys: [String] = []

        @Option(help: ArgumentHelp("A file whose first line is the keys' passphrase.", valueName: "file"))
        var passphraseFile: String?

        func passphrase(isNew: Bool = false) throws -> String {
            if let passphraseFile {
                let text = String(decoding: try FileSystem.read(passphraseFile), as: UTF8.self)
                return try checked(String(text.prefix { $0 != "\n" }), isNew)
            }
            if let text = getenv("VCPE_PASSPHRASE") { return try checked(String(cString: text), isNew) }
            guard isatty(STDIN_FILENO) == 1, let first = getpass("Passphrase of the keys: ") else {
                throw ReleaseFailure(
                    "no passphrase", hint: "--passphrase-file FILE, the variable VCPE_PASSPHRASE, or a terminal")
            }
            let text = String(cString: first)
            if isNew, let second = getpass("Once more: "), String(cString: second) != text {
                throw ReleaseFailure("these were two passphrases")
            }
            return try checked(text, isNew)
        }

        private func checked(_ text: String, _ isNew: Bool) throws -> String {
            guard !isNew || text.utf8.count >= 8 else {
                throw ReleaseFailure("a passphrase of \(text.utf8.count) bytes", hint: "8 at least")
            }
            return text
        }

        func folder(of repository: String) throws -> KeyFolder {
            try KeyFolder(keys.isEmpty ? ["\(repository).keys"] : keys, passphrase: passphrase())
        }
    }

    static func say(_ outcome: ReleaseRepository.Outcome, _ repository: String, _ done: String) {
        switch outcome {
        case .published: print(done)
        case .waiting(let roles):
            let list = roles.sorted { $0.key < $1.key }.map { "\($0.key) for \($0.value) more" }
            print("waits for signatures: \(list.joined(separator: ", "))")
            print("  next: vcpe release sign \(repository) --keys FOLDER, by those who have them")
        }
    }

    /// `2-of-3`, as people say it.
    struct Quorum: ExpressibleByArgument {
        var threshold: Int
        var keys: Int

        init(_ threshold: Int, of keys: Int) { (self.threshold, self.keys) = (threshold, keys) }

        init?(argument: String) {
            let parts = argument.split(separator: "-")
            guard parts.count == 3, parts[1] == "of", let threshold = Int(parts[0]), let keys = Int(parts[2]),
                threshold > 0, keys >= threshold, keys <= 32
            else { return nil }
            self.init(threshold, of: keys)
        }
    }

    struct Initialize: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "init", abstract: "Make a repository and its keys.",
            discussion: """
                Root and targets are offline: several people sign, each with a key of their own. They make them by `vcpe release key`
                and hand over the .pub files (--root-key, --targets-key); without those the keys are made here, in --keys. Snapshot and
                timestamp are online: every change is signed by them, so their keys stay with whoever publishes.
                """)

        @OptionGroup var access: Access
        @Option(help: "Root keys: how many sign, of how many.")
        var root: Quorum?
        @Option(help: "Keys of targets and of the first channel: how many sign, of how many.")
        var targets: Quorum?
        @Option(help: "A public key of root; may be given several times.")
        var rootKey: [String] = []
        @Option(help: "A public key of targets and of the first channel; may be given several times.")
        var targetsKey: [String] = []
        @Option(help: "The first channel.")
        var channel = "stable"
        @Flag(help: "One key a role: whoever has the disk can sign anything.")
        var lab = false

        func run() throws {
            try ReleaseRepository.checkIsNew(access.repository)
            let passphrase = try access.signing.passphrase(isNew: true)
            let folder = access.signing.keys.first ?? "\(access.repository).keys"
            try FileSystem.makeDirectory(folder)
            guard chmod(folder, 0o700) == 0 else { throw SystemError("chmod", folder) }
            func keys(_ name: String, _ quorum: Quorum, _ given: [String]) throws -> ReleaseRepository.Keys {
                guard given.isEmpty else {
                    guard given.count >= quorum.threshold else {
                        throw ReleaseFailure("\(given.count) keys of \(name), and \(quorum.threshold) must sign")
                    }
                    return .init(try given.map(SigningKey.readPublic), threshold: quorum.threshold)
                }
                let made = try (1...quorum.keys).map { number in
                    let key = try SigningKey.make()
                    try key.write("\(folder)/\(name)-\(number).key", passphrase: passphrase)
                    return key.publicKey
                }
                return .init(made, threshold: quorum.threshold)
            }
            let root = root ?? (lab ? Quorum(1, of: 1) : Quorum(3, of: 5))
            let targets = targets ?? (lab ? Quorum(1, of: 1) : Quorum(2, of: 3))
            if root.threshold < 2 || targets.threshold < 2 {
                Console.error(
                    "warning: \(root.threshold) of root and \(targets.threshold) of targets sign: one stolen key is enough to publish "
                        + "anything. For a lab only")
            }
            let owners = try keys("targets", targets, targetsKey)
            var roles = ["root": try keys("root", root, rootKey), "targets": owners]
            for role in ["snapshot", "timestamp"] { roles[role] = try keys(role, Quorum(1, of: 1), []) }
            let folders = access.signing.keys.isEmpty ? [folder] : access.signing.keys
            let (_, outcome) = try ReleaseRepository.make(
                access.repository, roles: roles, channel: channel,
                channelKeys: targetsKey.isEmpty ? try keys(channel, targets, []) : owners,
                signing: KeyFolder(folders, passphrase: passphrase), now: time(nil))
            ReleaseCommand.say(
                outcome, access.repository, "\(access.repository) is a repository, its keys are in \(folder)")
            if rootKey.isEmpty, root.threshold > 1 {
                print("  next: move the keys of root and targets to as many people, and off this machine")
            }
        }
    }

    struct Add: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "add", abstract: "Publish a built image.",
            discussion: """
                Takes what vcpe build left in out/NAME: the root filesystem, the UKI, the manifest and the bill of materials; and makes the
                files by which boxes come there from earlier releases. Refuses an image whose proofs have not passed for this very manifest.
                """)

        @Argument(help: "The image's name.")
        var name: String
        @Option(help: "The folder of the repository.")
        var to: String
        @Option(help: "The channel.")
        var channel = "stable"
        @OptionGroup var built: BuiltImageOptions
        @OptionGroup var signing: Signing
        @Option(help: "How hard zstd works, 1 to 19.")
        var compression = 19
        @Flag(help: "Boxes install nothing any more that was released before this one.")
        var floor = false
        @Option(help: "How many earlier releases get a patch of their own to this one.")
        var deltas = 3

        func run() async throws {
            let image = try BuiltImage(name, profile: built.profile, output: built.output)
            let release = try Release(image)
            var repository = try ReleaseRepository(to, now: time(nil))
            try repository.check(channel: channel)
            let outcome = try await repository.add(
                image, release, to: channel, deltas: deltas, level: Int32(compression), isFloor: floor,
                signing: try signing.folder(of: to))
            ReleaseCommand.say(outcome, to, "\(channel)/\(release.place) is published")
        }
    }

    struct Channel: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "channel", abstract: "Hand a channel on to another team's keys.")

        @OptionGroup var access: Access
        @Option(help: "Its name.")
        var name: String
        @Option(help: "A public key of the team; may be given several times.")
        var key: [String]
        @Option(help: "How many of them must sign.")
        var threshold = 1

        func run() throws {
            var repository = try ReleaseRepository(access.repository, now: time(nil))
            let outcome = try repository.addChannel(
                name, .init(try key.map(SigningKey.readPublic), threshold: threshold),
                signing: access.signing.folder(of: access.repository))
            ReleaseCommand.say(outcome, access.repository, "\(access.repository) has the channel \(name)")
        }
    }

    struct Status: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "status", abstract: "Show roles, their keys, and until when they hold.")

        @Argument(help: "The folder of the repository.")
        var repository: String
        @Flag(help: "As JSON.")
        var json = false

        func run() throws {
            let now = time(nil)
            let found = try ReleaseRepository(repository, now: now, onlyReads: true)
            let status = found.status
            if json {
                return print(
                    JSON.list(
                        status.map { role in
                            [
                                "role": .text(role.role), "version": .integer(role.version),
                                "expires": .text(UTC.text(of: role.expires)), "keys": .texts(role.keys),
                                "threshold": .integer(role.threshold), "missing-signatures": .integer(role.missing),
                            ]
                        }
                    ).pretty, terminator: "")
            }
            for role in status {
                let days = (role.expires - now + 86_399) / 86_400
                let holds =
                    role.version == 0
                    ? "is not published yet"
                    : role.expires <= now ? "is over since \(-days) days" : "holds \(days) days"
                let keys = role.keys.map { String($0.prefix(12)) }.joined(separator: " ")
                let waits = role.missing > 0 ? ", a change waits for \(role.missing) signatures" : ""
                let name = role.role + String(repeating: " ", count: max(1, 12 - role.role.count))
                let version = role.role == Direction.role ? "" : "version \(role.version), \(holds), "
                print("\(name)\(version)\(role.threshold) of \(role.keys.count): \(keys)\(waits)")
            }
            for (group, says) in found.directions {
                switch says {
                case .success(let direction):
                    let list = direction.releases.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }
                    print(
                        "  group \(group): \(list.joined(separator: ", ")), counter \(direction.counter), holds "
                            + "\((direction.expires - now + 86_399) / 86_400) days")
                case .failure(let failure): print("  group \(group): boxes refuse it: \(failure)")
                }
            }
        }
    }

    struct Serve: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "serve", abstract: "Serve a repository over HTTP, for a lab.",
            discussion: "By busybox's httpd, which knows ranges. Ends with Control-C.")

        @Argument(help: "The folder of the repository.")
        var repository: String
        @Option(help: "The port.")
        var port = 8000
        @Option(help: "The address to listen on.")
        var address = "127.0.0.1"

        func run() throws {
            guard FileSystem.exists("\(repository)/metadata/timestamp.json") else {
                throw ReleaseFailure(
                    "\(repository) is no published repository", hint: "vcpe release init \(repository)")
            }
            guard let busybox = ["/bin/busybox", "/usr/bin/busybox"].first(where: FileSystem.exists) else {
                throw ReleaseFailure("there is no busybox", hint: "apt-get install busybox")
            }
            Console.error("http://\(address):\(port)/metadata and /targets; Control-C ends it")
            throw Command.become(busybox, ["httpd", "-f", "-p", "\(address):\(port)", "-h", repository])
        }
    }

    struct Cost: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "cost", abstract: "Say what boxes would fetch to come from one build to another.",
            discussion: """
                Makes the deltas of two builds of an image, root and UKI, installs each as a box would, and checks what came out.

                  patch    from exactly that build
                  blocks   from any, by the new one's hash tree
                  full     all of it, compressed
                """)

        @Argument(help: "The image's name.")
        var name: String
        @Option(help: "The folder of the outputs that boxes have.")
        var from: String
        @OptionGroup var built: BuiltImageOptions
        @Flag(help: "As JSON.")
        var json = false

        func run() async throws {
            let costs = try await DeltaComparison.measure(
                from: BuiltImage(name, profile: built.profile, output: from),
                to: BuiltImage(name, profile: built.profile, output: built.output))
            if json {
                return print(
                    JSON.list(
                        costs.map {
                            [
                                "way": .text($0.way), "bytes": .integer($0.bytes), "uki-bytes": .integer($0.ukiBytes),
                                "requests": .integer($0.requests), "milliseconds": .integer($0.milliseconds),
                            ]
                        }
                    ).pretty, terminator: "")
            }
            let full = max(costs.last?.bytes ?? 1, 1)
            for cost in costs {
                let share = cost.bytes * 1000 / full
                let name = cost.way + String(repeating: " ", count: max(1, 8 - cost.way.count))
                print(
                    "\(name)\(cost.bytes) bytes (UKI \(cost.ukiBytes)) in \(cost.requests) requests, "
                        + "\(share / 10).\(share % 10) % of the full one, installed in \(cost.milliseconds) ms")
            }
        }
    }
}
