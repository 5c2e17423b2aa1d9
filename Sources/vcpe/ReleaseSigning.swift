import ArgumentParser
import Files
import Glibc
import ImageBuilder
import Releases

/// Commands that review, sign and publish changes.
extension ReleaseCommand {
    struct Show: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "show", abstract: "Show how a waiting change differs from what is published.",
            discussion: """
                Prints each difference of the signed parts: keys, thresholds, targets, expiry dates and
                any other field. Prints what boxes of each channel and group then get, and the digest of
                the change for vcpe release sign --confirm. Refuses a change whose versions do not follow
                the published ones. Needs no key.

                  vcpe release show updates --first-root 1.root.json
                """)

        @Argument(help: "The folder of the repository.")
        var repository: String
        @Option(
            help: ArgumentHelp(
                "Your own copy of the first root that boxes trust. Default: the repository's copy.", valueName: "file"))
        var firstRoot: String?
        @Flag(help: "As JSON.")
        var json = false

        func run() throws {
            let review = try ReleaseRepository.review(
                repository, root: firstRoot.map(FileSystem.read), now: time(nil))
            if json { return print(review.json.pretty, terminator: "") }
            print(review.lines.joined(separator: "\n"))
        }
    }

    struct Sign: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "sign", abstract: "Add the signatures of your keys to a waiting change.",
            discussion: """
                Shows the change, and signs it after you type the first digits of its digest. Without a
                terminal, --confirm DIGEST signs exactly the change that vcpe release show printed.
                Each signature is kept. The last signer needs no online key: if the online keys are not
                among --keys, vcpe release publish on the release host is the last step.

                  vcpe release sign updates --keys bob
                """)

        @OptionGroup var access: Access
        @Option(help: ArgumentHelp("The whole digest of the change, instead of a prompt.", valueName: "digest"))
        var confirm: String?

        func run() throws {
            let session = SigningSession(try access.keys()) { review in
                guard let confirm else {
                    guard try ReleaseCommand.ask(review) else {
                        throw ReleaseFailure(
                            "nothing was signed: the change was not confirmed",
                            hint: "--confirm \(review.digest.hex)", reason: .notConfirmed)
                    }
                    return true
                }
                guard confirm.lowercased() == review.digest.hex else {
                    throw ReleaseFailure(
                        "nothing was signed: --confirm is \(confirm), and the digest of the change is "
                            + review.digest.hex,
                        hint: "vcpe release show \(access.repository)", reason: .notConfirmed)
                }
                return true
            }
            let outcome = try ReleaseRepository.sign(
                access.repository, root: access.root(), with: session, now: time(nil))
            ReleaseCommand.report(outcome, access.repository, "\(access.repository) is published")
        }
    }

    struct Publish: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "publish", abstract: "Publish a change that all offline roles have signed.",
            discussion: """
                Signs snapshot and timestamp with the online keys, on the release host. Needs no offline
                key. An online key cannot change anything that offline roles sign.

                  vcpe release publish updates
                """)

        @OptionGroup var access: Access

        func run() throws {
            let outcome = try ReleaseRepository.publish(
                access.repository, root: access.root(), signing: access.keys(), now: time(nil))
            ReleaseCommand.report(outcome, access.repository, "\(access.repository) is published")
            if case .waiting = outcome { throw ExitCode(1) }
        }
    }

    struct Discard: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "discard", abstract: "Remove a change that waits for signatures.",
            discussion: """
                  vcpe release discard updates
                """)

        @Argument(help: "The folder of the repository.")
        var repository: String

        func run() throws {
            try ReleaseRepository.discard(repository)
            print("removed the waiting change and its signatures")
        }
    }

    struct Resign: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "resign", abstract: "Sign metadata again, with a later expiry date.",
            discussion: """
                Without --role, signs snapshot and timestamp; a job should run this every day. If the
                timestamp expires, boxes install nothing and keep running their release. The metadata
                records --days, so later versions of the role are valid that long, too.

                  vcpe release resign updates
                  vcpe release resign updates --role root --days 365
                """)

        @OptionGroup var access: Access
        @Option(help: "A role to sign; may be given several times.")
        var role: [String] = []
        @Option(help: "Days for which the roles are valid from now on.")
        var days: Int?
        @OptionGroup var confirmation: Confirmation

        func validate() throws {
            if let days, !(1...3650).contains(days) { throw ValidationError("--days \(days): allowed are 1 to 3650") }
        }

        func run() throws {
            var repository = try access.open()
            let outcome = try repository.resign(role, days: days, signing: confirmation.session(access.keys()))
            ReleaseCommand.report(outcome, access.repository, "\(access.repository) is signed again")
        }
    }

    struct Expire: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "expire", abstract: "Expire a channel at once, as an emergency stop.",
            discussion: """
                Signs the channel with an expiry date in the past: boxes install nothing from it and keep
                running their release. vcpe release resign --role CHANNEL ends the stop.

                  vcpe release expire updates --channel stable
                """)

        @OptionGroup var access: Access
        @Option(help: "The channel.")
        var channel: String
        @OptionGroup var confirmation: Confirmation

        func run() throws {
            var repository = try access.open()
            let outcome = try repository.expire(channel, signing: confirmation.session(access.keys()))
            ReleaseCommand.report(
                outcome, access.repository, "\(channel) has expired: boxes install nothing from it")
        }
    }

    struct Repair: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "repair", abstract: "Recreate a damaged snapshot or timestamp.",
            discussion: """
                Uses the newest intact version of each offline role, and version numbers above all that
                boxes can have seen. A damaged file of an offline role must be copied from a mirror or a
                backup.

                  vcpe release repair updates
                """)

        @OptionGroup var access: Access

        func run() throws {
            let repair = try ReleaseRepository.repair(
                access.repository, root: access.root(), signing: access.keys(), now: time(nil))
            for (file, reason) in repair.damaged.sorted(by: { $0.key < $1.key }) { print("\(file): \(reason)") }
            let versions = repair.versions.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }
            print("\(access.repository) is repaired: \(versions.joined(separator: ", "))")
        }
    }
}
