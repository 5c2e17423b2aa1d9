import ArgumentParser
import Documents
import Files
import ImageBuilder

struct TestCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "test",
        abstract: "Prove a built image with real packets.",
        discussion: """
            Boots the image in QEMU between a LAN and a WAN that are made for it, throws packets at both sides from power-on, and
            runs the proofs of its definition: who sends what to whom, and what must be seen where. The result is written
            beside the image, with the digest of its manifest. Needs root, or a user namespace in which /dev/net/tun
            may be opened; and dnsmasq, which plays the provider.

            Exit codes: 0 all proved, 1 not.
            """)

    @Argument(help: "The image's name.")
    var name: String

    @OptionGroup var built: BuiltImageOptions

    @OptionGroup var image: ImageOptions

    @Option(help: "The folder of the box's own executables.")
    var box = ".build/box"

    @Flag(help: "The result as JSON on standard output.")
    var json = false

    func run() throws {
        var options = ImageBuild.Options()
        options.images = image.images
        options.output = built.output
        options.profile = built.profile
        options.box = box
        let proofs = try ProofRun(name, options: options)
        let found = try BuiltImage(name, profile: built.profile, output: built.output)
        let folder = "\(found.folder)/.test"
        try FileSystem.makeDirectory(folder)
        let accelerator = try Accelerator.working(qemu: QEMU.find(), kernel: found.kernel(in: folder), cache: .standard)
        let isQuiet = json
        let outcome = try proofs.run(in: folder, accelerator: accelerator) { event in
            if isQuiet { return }
            switch event {
            case .note(let text): print(text)
            case .result(let result):
                let width = 48
                let name = result.proof.name
                let pad = String(repeating: " ", count: max(1, width - name.count))
                print("  \(result.passed ? "ok    " : "FAILED")  \(name)\(pad)\(result.seen)")
            }
        }
        let path = try proofs.write(outcome)
        if json { print(String(decoding: try FileSystem.read(path), as: UTF8.self), terminator: "") }
        let failed = outcome.results.filter { !$0.passed }.count
        guard outcome.passed else {
            throw BuildFailure(
                failed > 0 ? "\(failed) of \(outcome.results.count) proofs failed" : "packets crossed against policy",
                hint: "\(folder)/console has what the box said")
        }
        if !json { print("\(outcome.results.count) proofs hold; \(path)") }
    }
}
