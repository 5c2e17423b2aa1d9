import ArgumentParser
import Files
import Glibc
import ImageBuilder
import Releases

/// Commands for the keys of roles and channels.
extension ReleaseCommand {
    struct Key: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "key", abstract: "Make a key pair: FILE, the private key, and FILE.pub.",
            discussion: """
                A passphrase needs at least 16 bytes, 8 of them different; with --online at least 8 bytes.

                  vcpe release key ann/ann.key --owner 'Ann Example'

                For a key in a token, an HSM or a key service, FILE is a program NAME.signer. It reads
                the bytes to sign on standard input and prints the signature. --pem gives its public key;
                the command writes only FILE.pub.

                  vcpe release key bob/bob.signer --pem bob.pem --owner 'Bob Example'
                """)

        @Argument(help: "The file for the private key; its name ends in .key, or in .signer with --pem.")
        var file: String
        @Option(help: ArgumentHelp("The public key of the program FILE, in PEM.", valueName: "file"))
        var pem: String?
        @Option(help: "The owner's name, which reviews and status show. Default: the name of the file.")
        var owner: String?
        @Flag(help: "The key is for snapshot or timestamp: a job opens it, so scrypt uses less memory.")
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
            commandName: "channel", abstract: "Add a channel that another team's keys sign.",
            discussion: """
                  vcpe release channel updates --name edge --key team1.pub --key team2.pub --threshold 2
                """)

        @OptionGroup var access: Access
        @Option(help: "The channel's name.")
        var name: String
        @Option(help: "A public key of the team; may be given several times.")
        var key: [String]
        @Option(help: "How many of the keys must sign.")
        var threshold = 1
        @OptionGroup var confirmation: Confirmation

        func run() throws {
            if threshold < 2 { ReleaseCommand.warnOfOneKey("channel \(name)", "publish on it") }
            var repository = try access.open()
            let outcome = try repository.addChannel(
                name, .init(try key.map(SigningKey.readPublic), threshold: threshold),
                signing: confirmation.session(access.keys()))
            ReleaseCommand.report(outcome, access.repository, "\(access.repository) has the channel \(name)")
        }
    }

    static func warnOfOneKey(_ role: String, _ action: String) {
        BuildConsole.error(
            "warning: \(role): the threshold is 1, so one stolen key can \(action); --threshold 2 is safer")
    }

    struct Rotate: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "rotate", abstract: "Replace a key of a role.",
            discussion: """
                  vcpe release rotate updates --role root --old 55b9f3 --new dan.key.pub
                """)

        @OptionGroup var access: Access
        @Option(help: "The role or channel.")
        var role: String
        @Option(help: "The first digits of the identifier of the old key.")
        var old: String
        @Option(help: "The .pub file of the new key.")
        var new: String
        @OptionGroup var confirmation: Confirmation

        func run() throws {
            var repository = try access.open()
            let outcome = try repository.replaceKey(
                old, of: role, by: SigningKey.readPublic(new), signing: confirmation.session(access.keys()))
            ReleaseCommand.report(outcome, access.repository, "\(role): the key \(old) is replaced")
        }
    }

    struct Revoke: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "revoke", abstract: "Remove a key from a role: its signatures no longer count.",
            discussion: """
                  vcpe release revoke updates --role targets --key 55b9f3
                """)

        @OptionGroup var access: Access
        @Option(help: "The role or channel.")
        var role: String
        @Option(help: "The first digits of the key's identifier.")
        var key: String
        @OptionGroup var confirmation: Confirmation

        func run() throws {
            var repository = try access.open()
            let outcome = try repository.replaceKey(
                key, of: role, by: nil, signing: confirmation.session(access.keys()))
            ReleaseCommand.report(outcome, access.repository, "\(role): the key \(key) is removed")
        }
    }
}
