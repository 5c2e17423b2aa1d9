import ArgumentParser
import Documents
import Files
import ImageBuilder
import Processes
import Transfers

@main
struct VCPE: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "vcpe",
        abstract: "Builds virtual-CPE appliances: one YAML file to a bootable, verified disk image.",
        discussion: """
            A definition is images/NAME.yaml; its lock, images/NAME.lock, lists the Debian packages of the image.

              vcpe lock branch-office       resolve packages and write the lock
              vcpe build branch-office      make out/branch-office/branch-office.raw
              vcpe run branch-office        boot it in QEMU
              vcpe flash branch-office --to /dev/sdX

            Exit codes: 0 done, 1 failed, 64 wrong usage.
            """,
        subcommands: [
            LockCommand.self, BuildCommand.self, TestCommand.self, RunCommand.self, FlashCommand.self, SiteCommand.self,
            PluginCommand.self, ReleaseCommand.self,
            CacheCommand.self, DiffCommand.self, BootTimeCommand.self, ReferenceRootCommand.self,
        ])

    /// Runs the command; errors are one or more lines on standard error, and exit code 1.
    static func main() async {
        // A cancelled CI job signals this process only. Its children, such as compressors and
        // virtual machines, must not outlive it.
        Children.endWithThisProcess()
        Interruption.watch()
        do {
            var command = try parseAsRoot()
            if var asynchronous = command as? any AsyncParsableCommand {
                try await asynchronous.run()
            } else {
                try command.run()
            }
        } catch let error as BuildFailure {
            fail("\(error)")
        } catch let error as InvalidDocument {
            fail("\(error)")
        } catch let error as Fetching.Gone {
            fail("\(error)")
        } catch let error where isOfArgumentParser(error) {
            exit(withError: error)
        } catch {
            fail("error: \(error)")
        }
    }

    /// Whether the argument parser can show the error: a request for help, wrong usage, or an exit
    /// code. It assigns the code of a failure to all errors that it does not know.
    private static func isOfArgumentParser(_ error: any Error) -> Bool {
        error is ExitCode || exitCode(for: error) != .failure
    }

    private static func fail(_ text: String) -> Never {
        BuildConsole.error(text)
        exit(withError: ExitCode(1))
    }
}

/// Options of all commands that use the outputs of a build.
struct BuiltImageOptions: ParsableArguments {
    @Option(help: "The folder of the outputs.")
    var output = "out"

    @Option(help: "The hardware profile. Default: the image's first.")
    var profile: String?
}

/// Options of all commands that read a definition.
struct ImageOptions: ParsableArguments {
    @Option(help: "The folder of the definitions.")
    var images = "images"

    @Option(help: ArgumentHelp("Debian's main archive. Default: the host's mirror.", valueName: "url"))
    var mirror: String?

    @Option(
        help: ArgumentHelp(
            "Debian's security archive. Default: --mirror's address with \"-security\" appended.", valueName: "url"))
    var securityMirror: String?
}
