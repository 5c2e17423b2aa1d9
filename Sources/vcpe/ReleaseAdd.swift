import ArgumentParser
import Documents
import Files
import Glibc
import ImageBuilder
import Releases

/// Commands that add releases to a channel, and remove them.
extension ReleaseCommand {
    struct Add: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "add", abstract: "Publish a built image.",
            discussion: """
                Publishes outputs of vcpe build in out/NAME: the root filesystem, the UKI, the manifest
                and the bill of materials. Makes deltas, so that boxes download only what differs from
                earlier releases. Refuses an image whose proofs did not pass for exactly this build.

                  vcpe release add branch-office --to updates --channel stable
                """)

        @Argument(help: "The image's name.")
        var name: String
        @Option(help: "The folder of the repository.")
        var to: String
        @Option(help: "The channel.")
        var channel = "stable"
        @OptionGroup var built: BuiltImageOptions
        @OptionGroup var signing: Signing
        @OptionGroup var confirmation: Confirmation
        @Option(help: "The compression level of zstd, 1 to 19.")
        var compression = 19
        @Flag(help: "Make the release a floor: from then on boxes install no older release.")
        var floor = false
        @Option(help: "The number of earlier releases from which boxes can upgrade by a patch.")
        var deltas = 3

        func validate() throws {
            guard (1...19).contains(compression) else {
                throw ValidationError("--compression \(compression): allowed are 1 to 19")
            }
            guard (0...100).contains(deltas) else { throw ValidationError("--deltas \(deltas): allowed are 0 to 100") }
        }

        func run() async throws {
            let folder = "\(built.output)/\(name)"
            // If the folder is missing, BuiltImage reports that below.
            let lock =
                FileSystem.exists(folder)
                ? try OutputLock(folder) { BuildConsole.error("waiting for a build in \(folder) to finish") } : nil
            defer { withExtendedLifetime(lock) {} }
            let image = try BuiltImage(name, profile: built.profile, output: built.output)
            let release = try Release(image)
            var repository = try ReleaseRepository(to, now: time(nil))
            try repository.check(channel: channel)
            let outcome = try await repository.add(
                image, release, to: channel, deltas: deltas, level: Int32(compression), isFloor: floor,
                signing: confirmation.session(signing.keys(of: to)))
            ReleaseCommand.report(outcome, to, "\(channel)/\(release.path) is published")
        }
    }

    struct Withdraw: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "withdraw", abstract: "Remove a release from a channel.",
            discussion: """
                Boxes no longer install the release. Boxes that run it keep running it until a newer one
                is released. Its version is never used again. vcpe release prune removes the files.

                  vcpe release withdraw updates 1.0.2 --image branch-office
                """)

        @OptionGroup var access: Access
        @Argument(help: "The release's version.")
        var version: String
        @Option(help: "The image.")
        var image: String
        @Option(help: "The hardware profile. Default: all.")
        var profile: String?
        @Option(help: "The channel.")
        var channel = "stable"
        @OptionGroup var confirmation: Confirmation

        func run() throws {
            var repository = try access.open()
            let outcome = try repository.withdraw(
                version, of: image, profile: profile, from: channel, signing: confirmation.session(access.keys()))
            ReleaseCommand.report(
                outcome, access.repository, "\(channel): \(image) \(version) is withdrawn, boxes no longer install it")
        }
    }

    struct Prune: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "prune", abstract: "Remove old releases, and files that boxes no longer need.",
            discussion: """
                With --keep N, removes all but the newest N releases of each image and profile from the
                channel; the channel's keys must sign that. Keeps releases that a group is directed to,
                and the newest floor.
                Then removes old metadata and the files of removed releases. It waits --grace-days before
                that, because a box may still be reading them. Keeps all versions of root.

                  vcpe release prune updates --keep 5
                """)

        @OptionGroup var access: Access
        @Option(help: "The number of releases to keep of each image and profile, 1 or more. Default: all.")
        var keep: Int?
        @Option(help: "The channel for --keep.")
        var channel = "stable"
        @Option(help: "Days to keep a file after the last reference to it. Default: the timestamp's period.")
        var graceDays: Int?
        @Flag(help: "Only list what would be removed.")
        var dryRun = false
        @OptionGroup var confirmation: Confirmation

        func validate() throws {
            if let keep, keep < 1 { throw ValidationError("--keep \(keep): allowed are 1 and more") }
            if let graceDays, !(0...3650).contains(graceDays) {
                throw ValidationError("--grace-days \(graceDays): allowed are 0 to 3650")
            }
        }

        func run() throws {
            var repository = try access.open()
            if let keep {
                let old = try repository.oldReleases(keep: keep, in: channel)
                for release in old {
                    print("\(channel)/\(release.path)\(dryRun ? "" : " is removed from the channel")")
                }
                if !dryRun, !old.isEmpty {
                    let outcome = try repository.dropOldReleases(
                        keep: keep, from: channel, signing: confirmation.session(access.keys()))
                    ReleaseCommand.report(outcome, access.repository, "\(channel): \(old.count) releases are removed")
                }
            }
            let garbage = try repository.garbage(grace: graceDays.map { $0 * 86_400 })
            if dryRun { for file in garbage.files { print(file) } } else { try repository.remove(garbage) }
            print("\(garbage.files.count) files\(dryRun ? "" : " removed"), \(Size.text(garbage.bytes))")
        }
    }

    struct Cost: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "cost", abstract: "Print what a box downloads to upgrade from one build to another.",
            discussion: """
                Makes the deltas between two builds of an image, for root and UKI, installs each as a box
                does, and compares the result with the new build.

                  patch    from exactly that build
                  blocks   from any build, by the new build's hash tree
                  full     the whole image, compressed

                  vcpe release cost branch-office --from previous
                """)

        @Argument(help: "The image's name.")
        var name: String
        @Option(help: "The output folder of the old build, which boxes run.")
        var from: String
        @OptionGroup var built: BuiltImageOptions
        @Flag(help: "Print JSON.")
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
                                "method": .text($0.method), "bytes": .integer($0.bytes),
                                "uki-bytes": .integer($0.ukiBytes), "requests": .integer($0.requests),
                                "milliseconds": .integer($0.milliseconds),
                            ]
                        }
                    ).pretty, terminator: "")
            }
            let full = max(costs.last?.bytes ?? 1, 1)
            for cost in costs {
                let share = cost.bytes * 1000 / full
                let name = cost.method + String(repeating: " ", count: max(1, 8 - cost.method.count))
                print(
                    "\(name)\(cost.bytes) bytes (UKI \(cost.ukiBytes)) in \(cost.requests) requests, "
                        + "\(share / 10).\(share % 10) % of the full one, installed in \(cost.milliseconds) ms")
            }
        }
    }
}
