import ArgumentParser
import Documents
import Files
import Glibc
import ImageBuilder
import Releases

struct ReleaseCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "release",
        abstract: "Publish images as signed files that boxes upgrade from.",
        discussion: """
            A repository is a folder of plain files, signed as The Update Framework (TUF) specifies.
            Any web server, CDN or USB stick can serve it, and boxes trust none of them.
            docs/releases.md lists which key signs what.

              vcpe release init updates --lab                 a repository with one key per role
              vcpe release add branch-office --to updates     publish what vcpe build made and
                                                              vcpe test proved
              vcpe release status updates                     roles, keys, expiry, waiting changes
              vcpe release show updates                       what a waiting change changes
              vcpe release serve updates                      an HTTP server for a lab

            Private keys are files that a passphrase encrypts. It comes from --passphrase-file,
            the variable VCPE_PASSPHRASE, or a prompt. Before offline keys sign, the command
            shows the change and asks for a confirmation. A change that lacks signatures is kept
            in REPO/unsigned: vcpe release sign adds signatures, and vcpe release publish
            publishes the change on the release host.
            """,
        subcommands: [
            Initialize.self, Key.self, Add.self, Withdraw.self, Prune.self, Channel.self, Director.self, Direct.self,
            Status.self, Show.self, Sign.self, Publish.self, Discard.self, Resign.self, Rotate.self, Revoke.self,
            Expire.self, Repair.self, Serve.self, Cost.self,
        ])

    /// A repository and the keys that may sign.
    struct Access: ParsableArguments {
        @Argument(help: "The folder of the repository.")
        var repository: String

        @Option(
            help: ArgumentHelp(
                "Your own copy of the first root that boxes trust. Default: the repository's copy.",
                valueName: "file"))
        var firstRoot: String?

        @OptionGroup var signing: Signing

        /// The bytes of `--first-root`.
        func root() throws -> [UInt8]? { try firstRoot.map(FileSystem.read) }

        func open() throws -> ReleaseRepository {
            try ReleaseRepository(repository, root: root(), now: time(nil))
        }

        func keys() throws -> KeyFolder { try signing.keys(of: repository) }
    }

    struct Signing: ParsableArguments {
        @Option(
            help: ArgumentHelp("A folder of keys; may be given several times. Default: REPO.keys.", valueName: "folder")
        )
        var keys: [String] = []

        @Option(help: ArgumentHelp("A file whose first line is the passphrase of the keys.", valueName: "file"))
        var passphraseFile: String?

        /// - Parameter isNew: whether to ask for the passphrase twice.
        func passphrase(isNew: Bool = false) throws -> String {
            if let passphraseFile {
                let text = String(decoding: try FileSystem.read(passphraseFile), as: UTF8.self)
                return String(text.prefix { $0 != "\n" })
            }
            if let text = getenv("VCPE_PASSPHRASE") { return String(cString: text) }
            guard isatty(STDIN_FILENO) == 1, let first = getpass("Passphrase of the keys: ") else {
                throw ReleaseFailure(
                    "no passphrase is given, and standard input is not a terminal for a prompt",
                    hint: "--passphrase-file FILE, or the variable VCPE_PASSPHRASE", reason: .noKey)
            }
            let text = String(cString: first)
            if isNew, let second = getpass("The same passphrase again: "), String(cString: second) != text {
                throw ReleaseFailure("the two passphrases differ", hint: "run the command again")
            }
            return text
        }

        func keys(of repository: String) throws -> KeyFolder {
            try KeyFolder(keys.isEmpty ? ["\(repository).keys"] : keys, passphrase: passphrase())
        }
    }

    /// How an operator or a job confirms a change that this command makes.
    struct Confirmation: ParsableArguments {
        @Flag(help: "Sign the changes of this command without asking; never signs changes that others made.")
        var yes = false

        func session(_ keys: KeyFolder) -> SigningSession {
            SigningSession(keys) { review in
                if yes, !review.includesWaiting { return true }
                return try ReleaseCommand.ask(review)
            }
        }
    }

    /// Shows a change and asks for the first digits of its digest as a confirmation.
    ///
    /// - Returns: false without a terminal, or for an empty answer.
    /// - Throws: ``ReleaseFailure`` for other digits.
    static func ask(_ review: ChangeReview) throws -> Bool {
        for line in review.lines { BuildConsole.error(line) }
        guard isatty(STDIN_FILENO) == 1 else { return false }
        print("Type the first 8 digits of the digest to sign, or nothing to leave it unsigned: ", terminator: "")
        fflush(nil)
        let answer = readLine() ?? ""
        if answer.isEmpty { return false }
        guard answer.utf8.count >= 8, review.digest.hex.hasPrefix(answer.lowercased()) else {
            throw ReleaseFailure(
                "\"\(answer)\" is not the beginning of the digest \(review.digest.hex.prefix(8))…; nothing was signed",
                hint: "run the command again", reason: .notConfirmed)
        }
        return true
    }

    /// Prints the outcome of a change.
    ///
    /// - Parameter done: the line to print if the change is published.
    static func report(_ outcome: ReleaseRepository.Outcome, _ repository: String, _ done: String) {
        switch outcome {
        case .published: print(done)
        case .complete:
            print("all offline roles are signed; not published: the online keys are not here")
            print("  next: vcpe release publish \(repository), on the host that has the online keys")
        case .waiting(let roles):
            let list = roles.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }
            print("not published: signatures are missing: \(list.joined(separator: ", "))")
            print("  next: vcpe release show \(repository), and vcpe release sign \(repository) --keys FOLDER")
        }
    }
}
