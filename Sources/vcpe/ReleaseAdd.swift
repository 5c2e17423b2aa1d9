import ArgumentParser
import Documents
import Files
import Glibc
import ImageBuilder
import Releases

/// Releases come into a channel and go out of it.
extension ReleaseCommand {
    struct Add: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "add", abstract: "Publish a built image.",
            discussion: """
                Takes what vcpe build left in out/NAME: the root filesystem, the UKI, the manifest and
                the bill of materials; and makes the files by which boxes get there from earlier
                releases. Refuses an image whose proofs have not passed for this very build.
                """)

        @Argument(help: "The image's name.")
        var name: String
        @Option(help: "The folder of the repository.")
        var to: String
        @Option(help: "The channel.")
        var channel = "stable"
        @OptionGroup var built: BuiltImageOptions
        @OptionGroup var signing: Signing
        @OptionGroup var agreement: Agreement
        @Option(help: "zstd's compression level, 1 to 19.")
        var compression = 19
        @Flag(help: "From then on boxes install nothing that was released before this release.")
        var floor = false
        @Option(help: "How many earlier releases get a patch of their own to this one.")
        var deltas = 3

        func validate() throws {
            guard (1...19).contains(compression) else {
                throw ValidationError("--compression \(compression): allowed are 1 to 19")
            }
            guard (0...100).contains(deltas) else { throw ValidationError("--deltas \(deltas): allowed are 0 to 100") }
        }

        func run() async throws {
            let folder = "\(built.output)/\(name)"
            // Without the folder there is no image, which BuiltImage reports.
            let lock =
                FileSystem.exists(folder)
                ? try OutputLock(folder) { Console.error("waiting for a build in \(folder) to finish") } : nil
            defer { withExtendedLifetime(lock) {} }
            let image = try BuiltImage(name, profile: built.profile, output: built.output)
            let release = try Release(image)
            var repository = try ReleaseRepository(to, now: time(nil))
            try repository.check(channel: channel)
            let outcome = try await repository.add(
                image, release, to: channel, deltas: deltas, level: Int32(compression), isFloor: floor,
                signing: agreement.session(signing.keys(of: to)))
            ReleaseCommand.report(outcome, to, "\(channel)/\(release.place) is published")
        }
    }

    struct Withdraw: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "withdraw", abstract: "Remove a release from a channel.",
            discussion: """
                No box installs the release from then on; boxes that run it go on with it until a newer
                one is released. Its version is never used again. vcpe release prune removes the files.

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
        @OptionGroup var agreement: Agreement

        func run() throws {
            var repository = try access.open()
            let outcome = try repository.withdraw(
                version, of: image, profile: profile, from: channel, signing: agreement.session(access.keys()))
            ReleaseCommand.report(
                outcome, access.repository, "\(channel): \(image) \(version) is withdrawn, no box installs it")
        }
    }

    struct Prune: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "prune", abstract: "Remove old releases, and files that no box needs.",
            discussion: """
                With --keep, removes all but the newest N releases of each image and profile from the
                channel, which its keys must sign. Releases that a group is directed to, and the newest
                floor, stay.
                Then removes old metadata and the files of removed releases, but not before --grace-days
                have passed since: a box may still be reading them. All versions of root stay.
                """)

        @OptionGroup var access: Access
        @Option(help: "Releases of each image and profile that stay, 1 or more. Default: all.")
        var keep: Int?
        @Option(help: "The channel for --keep.")
        var channel = "stable"
        @Option(help: "Days that a file stays after nothing new names it. Default: the timestamp's period.")
        var graceDays: Int?
        @Flag(help: "Only list what would be removed.")
        var dryRun = false
        @OptionGroup var agreement: Agreement

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
                        keep: keep, from: channel, signing: agreement.session(access.keys()))
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
            commandName: "cost", abstract: "Print what a box fetches to get from one build to another.",
            discussion: """
                Makes the deltas of two builds of an image, for root and UKI, installs each as a box would,
                and compares the result with the new build.

                  patch    from exactly that build
                  blocks   from any build, by the new one's hash tree
                  full     all of it, compressed
                """)

        @Argument(help: "The image's name.")
        var name: String
        @Option(help: "The output folder of the build that boxes have.")
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
