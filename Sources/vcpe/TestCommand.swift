import ArgumentParser
import Documents
import Files
import ImageBuilder
import Releases

struct TestCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "test",
        abstract: "Prove a built image with real packets.",
        discussion: """
            Boots the image in QEMU between a LAN and a WAN that are made for it, throws packets at both sides from power-on, and
            runs the proofs of its definition: who sends what to whom, and what must be seen where. The result is written
            beside the image, with the digest of its manifest. Needs root, or a user namespace in which /dev/net/tun
            may be opened; and dnsmasq, which plays the provider.

            With --upgrade-from it has a box come from an earlier build to this one instead, by itself and under traffic: from
            a repository of the run's own, by the firmware, three starts at most. Before that it resets the machine once, to compare; then it gives the
            box a release whose kernel panics. It says how long nothing was forwarded each time, on the terminal and in NAME.upgrade.json.

              vcpe build branch-office --output previous        (an earlier version of it)
              vcpe test branch-office --upgrade-from previous

            Exit codes: 0 all proved, 1 not.
            """)

    @Argument(help: "The image's name.")
    var name: String

    @OptionGroup var built: BuiltImageOptions

    @OptionGroup var image: ImageOptions

    @Option(help: "The folder of the box's own executables.")
    var box = ".build/box"

    @Option(help: ArgumentHelp("The folder of an earlier build's outputs.", valueName: "folder"))
    var upgradeFrom: String?

    @Flag(help: "The result as JSON on standard output.")
    var json = false

    func run() async throws {
        var options = ImageBuild.Options()
        options.images = image.images
        options.output = built.output
        options.profile = built.profile
        options.box = box
        if let upgradeFrom { return try await upgrade(from: upgradeFrom, options) }
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

    private func upgrade(from previous: String, _ options: ImageBuild.Options) async throws {
        let old = try BuiltImage(name, profile: built.profile, output: previous)
        let proof = try UpgradeProof(name, from: old, options: options)
        let folder = "\(proof.new.folder)/.upgrade"
        try FileSystem.remove(folder)
        try FileSystem.makeDirectory(folder)
        let isQuiet = json
        let say = { (text: String) in if !isQuiet { print(text) } }
        let releases = try LabRepository(in: folder)
        try await releases.publish(old)
        let version = try await releases.publish(proof.new)
        let bad = try LabRepository.spoiled(proof.new, version: "\(version).bad", in: folder)
        let accelerator = try Accelerator.working(
            qemu: QEMU.find(), kernel: proof.new.kernel(in: folder), cache: .standard)
        let publishBad = try await releases.prepare(bad)
        let path = "\(proof.new.folder)/\(proof.new.stem).upgrade.json"
        // What an earlier run said is of an earlier build.
        try FileSystem.remove(path)
        let outcome = try proof.run(
            in: folder, repository: releases.folder, trusted: releases.trusted, accelerator: accelerator,
            publishBad: publishBad, observe: say)
        func milliseconds(_ seconds: Double) -> JSON { .integer(Int(seconds * 1000)) }
        let document: JSON = [
            "image": .text(name), "from": .text(try Release(old, isProved: false).version), "to": .text(version),
            "manifest": .text(try proof.new.manifestDigest()), "passed": .boolean(outcome.crossed == 0),
            "crossed": .integer(outcome.crossed),
            "sent": .integer(outcome.sent), "start-milliseconds": milliseconds(outcome.start),
            "reset-milliseconds": milliseconds(outcome.reset),
            "upgrade-milliseconds": milliseconds(outcome.upgrade),
            "fall-back-milliseconds": milliseconds(outcome.fallBack),
        ]
        try FileSystem.replace(path, with: document.pretty)
        if json { print(document.pretty, terminator: "") }
        guard outcome.crossed == 0 else { throw BuildFailure("packets crossed against policy") }
        say("the upgrade holds; \(path)")
    }
}
