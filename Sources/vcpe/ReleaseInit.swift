import ArgumentParser
import Files
import Glibc
import ImageBuilder
import Releases

extension ReleaseCommand {
    /// A threshold and a number of keys, written `2-of-3`.
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
            commandName: "init", abstract: "Create a repository and its keys.",
            discussion: """
                Root and targets are offline roles with several signers. Each signer makes a key with
                vcpe release key and hands over the .pub file (--root-key, --targets-key). Without these
                options this command makes the keys, in the folder of --keys.
                Snapshot and timestamp are online roles: every change needs their signatures, so
                their keys stay on the host that publishes.

                  vcpe release init updates --lab
                  vcpe release init updates --root 2-of-2 --targets 1-of-1 \\
                      --root-key ann.key.pub --root-key bob.key.pub --targets-key ann.key.pub
                """)

        @Argument(help: "The folder of the repository.")
        var repository: String
        @OptionGroup var signing: Signing
        @Option(help: "The threshold and the number of root keys, such as 3-of-5.")
        var root: Quorum?
        @Option(help: "The threshold and the number of keys of targets and of the first channel, such as 2-of-3.")
        var targets: Quorum?
        @Option(help: "A public key of root; may be given several times.")
        var rootKey: [String] = []
        @Option(help: "A public key of targets and of the first channel; may be given several times.")
        var targetsKey: [String] = []
        @Option(help: "The name of the first channel.")
        var channel = "stable"
        @Flag(help: "For labs: one key per role, and no confirmation. A stolen disk can sign anything.")
        var lab = false
        @OptionGroup var confirmation: Confirmation

        func run() throws {
            try ReleaseRepository.checkIsNew(repository)
            let folder = signing.keys.first ?? "\(repository).keys"
            let root = root ?? (lab ? Quorum(1, of: 1) : Quorum(3, of: 5))
            let targets = targets ?? (lab ? Quorum(1, of: 1) : Quorum(2, of: 3))
            if root.threshold < 2 || targets.threshold < 2 {
                BuildConsole.error(
                    "warning: the threshold of root is \(root.threshold), that of targets \(targets.threshold): one stolen "
                        + "key of a role with the threshold 1 can publish anything; for a lab only")
            }
            let passphrase = try signing.passphrase(isNew: true)
            let use: SigningKey.Use = lab ? .online : .offline
            try Passphrase.check(
                passphrase, for: rootKey.isEmpty || targetsKey.isEmpty ? use : .online)
            try FileSystem.makeDirectory(folder)
            guard chmod(folder, 0o700) == 0 else { throw SystemError("chmod", folder) }
            var made: [SigningKey] = []
            func keys(_ name: String, _ quorum: Quorum, _ given: [String], _ use: SigningKey.Use) throws
                -> ReleaseRepository.Keys
            {
                guard given.isEmpty else {
                    guard given.count == quorum.keys else {
                        throw ReleaseFailure(
                            "\(name): \(given.count) public keys are given, allowed are exactly \(quorum.keys)",
                            hint: "--\(name) \(quorum.threshold)-of-\(given.count), for example")
                    }
                    return .init(try given.map(SigningKey.readPublic), threshold: quorum.threshold)
                }
                let new = try (1...quorum.keys).map { number in
                    let key = try SigningKey.make(owner: "\(name)-\(number)")
                    try key.write("\(folder)/\(name)-\(number).key", passphrase: passphrase, use: use)
                    return key
                }
                made += new
                return .init(new.map(\.publicKey), threshold: quorum.threshold)
            }
            let owners = try keys("targets", targets, targetsKey, use)
            var roles = ["root": try keys("root", root, rootKey, use), "targets": owners]
            for role in ["snapshot", "timestamp"] { roles[role] = try keys(role, Quorum(1, of: 1), [], .online) }
            let channelKeys = targetsKey.isEmpty ? try keys(channel, targets, [], use) : owners
            let available = try KeyFolder(
                signing.keys.isEmpty ? [folder] : signing.keys, passphrase: passphrase, made: made)
            let (_, outcome) = try ReleaseRepository.make(
                repository, roles: roles, channel: channel, channelKeys: channelKeys,
                signing: lab ? .unattended(available) : confirmation.session(available), now: time(nil))
            ReleaseCommand.report(
                outcome, repository, "created \(repository), its keys are in \(folder)")
            if rootKey.isEmpty, root.threshold > 1 {
                print("  next: give each key of root and targets to a signer, and remove it from this machine")
            }
        }
    }
}
