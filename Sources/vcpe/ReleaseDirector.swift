import ArgumentParser
import Glibc
import Releases
import Updates

/// Commands for the director, which selects the release that a group of boxes runs.
extension ReleaseCommand {
    struct Director: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "director", abstract: "Set the keys that direct groups of boxes to releases.",
            discussion: """
                The director signs no releases: vcpe release direct chooses among those of the channels.
                A box whose site document has a group installs only what both the channel and the
                director have signed. The director's keys may be kept on the fleet's server.

                  vcpe release director updates --key fleet/director.key.pub
                """)

        @OptionGroup var access: Access
        @Option(help: "A public key of the director; may be given several times.")
        var key: [String]
        @Option(help: "How many of the keys must sign.")
        var threshold = 1
        @OptionGroup var confirmation: Confirmation

        func run() throws {
            if threshold < 2 { ReleaseCommand.warnOfOneKey("director", "choose each group's release") }
            var repository = try access.open()
            let outcome = try repository.addDirector(
                .init(try key.map(SigningKey.readPublic), threshold: threshold),
                signing: confirmation.session(access.keys()))
            ReleaseCommand.report(outcome, access.repository, "\(access.repository) has a director")
        }
    }

    struct Direct: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "direct", abstract: "Direct a group of boxes to a release.",
            discussion: """
                Writes REPO/director/GROUP.json, which any server may serve. Boxes of the group
                (upgrade: {group: GROUP} in their site documents) install only that release, within
                --window if it is given. They never install an older release than they ran before.
                Each box checks once an hour, so a window must be an hour long or more, and must overlap
                the window of the box's site document, if that has one, by an hour.
                If the director has a threshold above 1, the direction waits in REPO/unsigned until enough
                of its keys have signed it with vcpe release sign; the last signature publishes it.

                  vcpe release direct updates north --image branch-office --release 1.0.1 \\
                      --window 02:00-04:30
                """)

        @OptionGroup var access: Access
        @Argument(help: "The group.")
        var group: String
        @Option(help: "The image.")
        var image: String
        @Option(help: "The release's version.")
        var release: String
        @Option(help: "When boxes may restart unattended, in UTC, such as 22:30-04:00. Default: as in their sites.")
        var window: Window?
        @Option(help: "Days for which the direction is valid.")
        var days = 90
        @OptionGroup var confirmation: Confirmation

        func validate() throws {
            guard (1...3650).contains(days) else { throw ValidationError("--days \(days): allowed are 1 to 3650") }
            if let window, window.value.length < MaintenanceWindow.minimumLength {
                throw ValidationError("--window: allowed is one hour or more, since boxes check once an hour")
            }
            guard ReleaseRepository.isPlain(group) else {
                throw ValidationError(
                    "\"\(group)\": allowed are at most 64 letters, digits, hyphens and dots, the first no hyphen or dot"
                )
            }
        }

        func run() throws {
            var repository = try access.open()
            let outcome = try repository.direct(
                group, image: image, to: release, window: window?.value, days: days,
                signing: confirmation.session(access.keys()))
            switch outcome {
            case .published(let path, let direction):
                print("\(path): the group \(group) runs \(release) of \(image), counter \(direction.counter)")
            case .waiting(let missing):
                ReleaseCommand.report(.waiting(["\(Direction.role)/\(group)": missing]), access.repository, "")
            case .unconfirmed:
                throw ReleaseFailure(
                    "group \(group): nothing was signed: the direction was not confirmed", hint: "--yes",
                    reason: .notConfirmed)
            }
        }

        /// `22:30-04:00`.
        struct Window: ExpressibleByArgument {
            var value: MaintenanceWindow

            init?(argument: String) {
                let times = argument.split(separator: "-", omittingEmptySubsequences: false).map { text -> Int? in
                    let parts = text.split(separator: ":", omittingEmptySubsequences: false)
                    guard parts.map(\.count) == [2, 2], let hour = Int(parts[0]), let minute = Int(parts[1]),
                        (0...23).contains(hour), (0...59).contains(minute)
                    else { return nil }
                    return 3600 * hour + 60 * minute
                }
                guard times.count == 2, let from = times[0], let to = times[1], from != to else { return nil }
                value = MaintenanceWindow(from: from, to: to)
            }
        }
    }
}
