import ArgumentParser
import Files
import Glibc
import ImageBuilder
import Releases

/// Keys of roles and channels.
extension ReleaseCommand {
    struct Key: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "key", abstract: "Make a key pair: FILE, which stays with its owner, and FILE.pub.",
            discussion: """
                A passphrase has 16 bytes and 8 different ones at least; with --online 8 bytes.

                  vcpe release key ann/ann.key --owner 'Ann Example'

                For a key in a token, an HSM or a key service, FILE is a program, NAME.signer: it gets
                the bytes to sign on standard input and prints the signature. --pem is its public key,
                and only FILE.pub is written.

                  vcpe release key bob/bob.signer --pem bob.pem --owner 'Bob Example'
                """)

        @Argument(help: "Where the private key goes; the name ends in .key, or in .signer with --pem.")
        var file: String
        @Option(help: ArgumentHelp("The public key of the program FILE, in PEM.", valueName: "file"))
        var pem: String?
        @Option(help: "The owner's name, which reviews and status show. Default: the name of the file.")
        var owner: String?
        @Flag(help: "The key is for snapshot or timestamp: a job opens it, and less memory protects it.")
        var online = false
        @OptionGroup var signing: Signing

        func validate() throws {
            let suffix = pem == nil ? ".key" : ".signer"
            guard file.hasSuffix(suffix) else { throw ValidationError("\(file): the name must end in \(suffix)") }
            if let owner, owner.isEmpty || owner.utf8.count > 128 {
                throw ValidationError("--owner: allowed are 1 to 128 bytes")
            }
        }

        func run() throws {
            let name = owner ?? String(FileSystem.name(of: file).prefix { $0 != "." })
            if let pem {
                let key = try SigningKey.publicKey(pem: pem, owner: name)
                try FileSystem.replace(file + ".pub", with: key.pretty)
                return print("\(file).pub is the key \(SigningKey.identifier(of: key))")
            }
            let key = try SigningKey.make(owner: name)
            try key.write(file, passphrase: signing.passphrase(isNew: true), use: online ? .online : .offline)
            print("\(file).pub is the key \(key.identifier)")
        }
    }

    struct Channel: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "channel", abstract: "Add a channel that another team's keys sign.")

        @OptionGroup var access: Access
        @Option(help: "The channel's name.")
        var name: String
        @Option(help: "A public key of the team; may be given several times.")
        var key: [String]
        @Option(help: "How many of the keys must sign.")
        var threshold = 1
        @OptionGroup var agreement: Agreement

        func run() throws {
            if threshold < 2 { ReleaseCommand.warnOfOneKey("channel \(name)", "publish on it") }
            var repository = try access.open()
            let outcome = try repository.addChannel(
                name, .init(try key.map(SigningKey.readPublic), threshold: threshold),
                signing: agreement.session(access.keys()))
            ReleaseCommand.report(outcome, access.repository, "\(access.repository) has the channel \(name)")
        }
    }

    static func warnOfOneKey(_ role: String, _ deed: String) {
        Console.error("warning: \(role): the threshold is 1, so one stolen key can \(deed); --threshold 2 is safer")
    }

    struct Rotate: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "rotate", abstract: "Replace a key of a role.")

        @OptionGroup var access: Access
        @Option(help: "The role or channel.")
        var role: String
        @Option(help: "The first digits of the identifier of the old key.")
        var old: String
        @Option(help: "The .pub file of the new key.")
        var new: String
        @OptionGroup var agreement: Agreement

        func run() throws {
            var repository = try access.open()
            let outcome = try repository.replaceKey(
                old, of: role, by: SigningKey.readPublic(new), signing: agreement.session(access.keys()))
            ReleaseCommand.report(outcome, access.repository, "\(role): the key \(old) is replaced")
        }
    }

    struct Revoke: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "revoke", abstract: "Remove a key from a role: its signatures count no more.")

        @OptionGroup var access: Access
        @Option(help: "The role or channel.")
        var role: String
        @Option(help: "The first digits of the key's identifier.")
        var key: String
        @OptionGroup var agreement: Agreement

        func run() throws {
            var repository = try access.open()
            let outcome = try repository.replaceKey(
                key, of: role, by: nil, signing: agreement.session(access.keys()))
            ReleaseCommand.report(outcome, access.repository, "\(role): the key \(key) is removed")
        }
    }
}
