import ArgumentParser
import Glibc
import Releases
import Updates

/// Who hands releases out to groups of boxes.
extension ReleaseCommand {
    struct Director: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "director", abstract: "Name the keys of who hands releases out to groups of boxes.",
            discussion: """
                The director signs no release: it chooses among those of the channels, by vcpe release direct. A box whose site names a group
                installs only what both say. Its keys may lie on the fleet's own server.
                """)

        @OptionGroup var access: Access
        @Option(help: "A public key of the director; may be given several times.")
        var key: [String]
        @Option(help: "How many of them must sign.")
        var threshold = 1

        func run() throws {
            var repository = try ReleaseRepository(access.repository, now: time(nil))
            let outcome = try repository.addDirector(
                .init(try key.map(SigningKey.readPublic), threshold: threshold),
                signing: access.signing.folder(of: access.repository))
            ReleaseCommand.say(outcome, access.repository, "\(access.repository) has a director")
        }
    }

    struct Direct: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "direct", abstract: "Say which release a group of boxes is to run.",
            discussion: """
                Writes REPO/director/GROUP.json, which any server may hold. Boxes of the group (upgrade: {group: GROUP} in their sites) install that
                release and no other, within the window if there is one; they never go back to an older one. Each box looks once an hour: a window is
                an hour long at least, and has an hour in common with the one of the box's site, where that has one.

                  vcpe release direct updates north --image branch-office --release 1.0.1 --window 02:00-04:30
                """)

        @Argument(help: "The folder of the repository.")
        var repository: String
        @Argument(help: "The group.")
        var group: String
        @Option(help: "The image.")
        var image: String
        @Option(help: "Its release.")
        var release: String
        @Option(
            help: "When boxes may restart into it by themselves, in UTC, such as 22:30-04:00. Else their sites say so.")
        var window: Window?
        @Option(help: "Days that it holds.")
        var days = 90
        @OptionGroup var signing: Signing

        func validate() throws {
            guard (1...3650).contains(days) else { throw ValidationError("--days \(days): allowed are 1 to 3650") }
            if let window, window.value.length < MaintenanceWindow.least {
                throw ValidationError("--window: boxes look once an hour; allowed are windows of an hour and more")
            }
            let isPlain = group.utf8.first.map { $0 != 0x2D && $0 != 0x2E } ?? false
            guard isPlain, group.utf8.count <= 64,
                group.allSatisfy({ $0.isASCII && ($0.isLetter || $0.isNumber || "-.".contains($0)) })
            else {
                throw ValidationError("\"\(group)\": allowed are letters, digits, hyphens and dots, 64 at most")
            }
        }

        func run() throws {
            let (path, direction) = try ReleaseRepository(repository, now: time(nil)).direct(
                group, image: image, to: release, window: window?.value, days: days,
                signing: signing.folder(of: repository))
            print("\(path): the group \(group) is to run \(release) of \(image), counter \(direction.counter)")
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
