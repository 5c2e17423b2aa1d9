import ArgumentParser
import Files
import Glibc
import ImageBuilder
import Releases

/// The life of keys, and of what they have signed.
extension ReleaseCommand {
    struct Key: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "key", abstract: "Make a key pair: FILE, which stays with its owner, and FILE.pub.")

        @Argument(help: "Where the private key goes; it ends in .key.")
        var file: String
        @OptionGroup var signing: Signing

        func validate() throws {
            guard file.hasSuffix(".key") else { throw ValidationError("\(file): a name that ends in .key") }
        }

        func run() throws {
            let key = try SigningKey.make()
            try key.write(file, passphrase: signing.passphrase(isNew: true))
            print("\(file).pub is the key \(key.identifier)")
        }
    }

    struct Sign: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "sign", abstract: "Add the signatures of the keys at hand to what waits for them.")

        @OptionGroup var access: Access

        func run() throws {
            let outcome = try ReleaseRepository.sign(
                access.repository, with: access.signing.folder(of: access.repository), now: time(nil))
            ReleaseCommand.say(outcome, access.repository, "\(access.repository) is published")
        }
    }

    struct Discard: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "discard", abstract: "Forget a change that waits for signatures.")

        @Argument(help: "The folder of the repository.")
        var repository: String

        func run() throws {
            try ReleaseRepository.discard(repository)
            print("what waited is forgotten")
        }
    }

    struct Resign: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "resign", abstract: "Sign metadata anew, so that they hold longer.",
            discussion: """
                Without --role the timestamp and the snapshot, for a job that runs every day: boxes refuse installs when the timestamp is
                over, and keep running. With --role another role too; --days says how long it holds then.
                """)

        @OptionGroup var access: Access
        @Option(help: "A role; may be given several times.")
        var role: [String] = []
        @Option(help: "Days that they hold.")
        var days: Int?

        func validate() throws {
            if let days, !(1...3650).contains(days) { throw ValidationError("--days \(days): allowed are 1 to 3650") }
        }

        func run() throws {
            var repository = try ReleaseRepository(access.repository, now: time(nil))
            let outcome = try repository.resign(role, days: days, signing: access.signing.folder(of: access.repository))
            ReleaseCommand.say(outcome, access.repository, "\(access.repository) is signed anew")
        }
    }

    struct Expire: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "expire", abstract: "Have a channel's releases hold no longer: the emergency stop.",
            discussion: """
                The channel is signed once more, to be over at once: a box that asks from then on installs nothing of it, and goes on with what it
                runs. Nothing is lost: vcpe release resign --role CHANNEL lets boxes go on.
                """)

        @OptionGroup var access: Access
        @Option(help: "The channel.")
        var channel: String

        func run() throws {
            var repository = try ReleaseRepository(access.repository, now: time(nil))
            let outcome = try repository.expire(
                channel, signing: access.signing.folder(of: access.repository))
            ReleaseCommand.say(outcome, access.repository, "\(channel) is over: no box installs anything of it")
        }
    }

    struct Rotate: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "rotate", abstract: "Put another key in the place of one of a role's.")

        @OptionGroup var access: Access
        @Option(help: "The role or channel.")
        var role: String
        @Option(help: "The first digits of the key that goes.")
        var old: String
        @Option(help: "The .pub file of the key that comes.")
        var new: String

        func run() throws {
            var repository = try ReleaseRepository(access.repository, now: time(nil))
            let outcome = try repository.replaceKey(
                old, of: role, by: SigningKey.readPublic(new), signing: access.signing.folder(of: access.repository))
            ReleaseCommand.say(outcome, access.repository, "\(role) has another key")
        }
    }

    struct Revoke: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "revoke", abstract: "Take a key from a role: it signs nothing more.")

        @OptionGroup var access: Access
        @Option(help: "The role or channel.")
        var role: String
        @Option(help: "The first digits of the key that goes.")
        var key: String

        func run() throws {
            var repository = try ReleaseRepository(access.repository, now: time(nil))
            let outcome = try repository.replaceKey(
                key, of: role, by: nil, signing: access.signing.folder(of: access.repository))
            ReleaseCommand.say(outcome, access.repository, "\(role) has a key less")
        }
    }
}
