import ArgumentParser
import Documents
import Files
import Glibc
import ImageBuilder
import Releases

struct TestCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "test",
        abstract: "Test a built image with real packets.",
        discussion: """
            Boots the image in QEMU through UEFI, its loader and its UKI, with Secure Boot on if the image is signed,
            between a LAN and a WAN that only the test uses. Sends probe packets of every kind to both ports from
            power-on, and runs the proofs of the definition. Writes the result to NAME.proofs.json beside the image,
            which "vcpe release add" requires; docs/proofs.md describes it.

            Needs root, or a user namespace in which /dev/net/tun can be opened, and dnsmasq for the provider's side.

              vcpe test branch-office --profile virtio

            With --upgrade-from, a box upgrades itself under traffic from an earlier build to this one. The test makes
            the repository for that. It first resets the machine once, for comparison. Finally it offers a release
            whose kernel panics, and the box must fall back. Prints how long the box did not forward in each step, and
            writes that to NAME.upgrade.json.

              vcpe build branch-office --output previous        (an earlier version of it)
              vcpe test branch-office --upgrade-from previous

            Exit codes: 0 everything passed, 1 something failed.
            """)

    @Argument(help: "The image's name.")
    var name: String

    @OptionGroup var built: BuiltImageOptions

    @OptionGroup var image: ImageOptions

    @Option(help: "The folder of the box's own executables.")
    var box = ".build/box"

    @Option(help: ArgumentHelp("The folder of an earlier build's outputs.", valueName: "folder"))
    var upgradeFrom: String?

    @Option(
        help: ArgumentHelp(
            "Limit for the boot; with --upgrade-from, for each step. Default: depends on the accelerator.",
            valueName: "seconds"))
    var timeout: Int?

    @OptionGroup var acceleration: AcceleratorOptions

    @Option(help: ArgumentHelp("Write the result as JUnit XML, too.", valueName: "file"))
    var junit: String?

    @Flag(help: "Print the result as JSON on standard output; progress goes to standard error.")
    var json = false

    func validate() throws {
        if let timeout, !(1...86_400).contains(timeout) {
            throw ValidationError("--timeout \(timeout): allowed are 1 to 86400 seconds")
        }
    }

    func run() async throws {
        var options = ImageBuild.Options()
        options.images = image.images
        options.output = built.output
        options.profile = built.profile
        options.box = box
        let begin = time(nil)
        do {
            if let upgradeFrom {
                try await upgrade(from: upgradeFrom, options)
            } else {
                try prove(options)
            }
        } catch let failure as FailedRun {
            throw BuildFailure(failure.message, hint: failure.hint)
        } catch {
            // CI must not read the file of an earlier run.
            var report = JUnitReport(suite: name, started: begin)
            report.add(.init("vcpe test", .failed, seen: "\(error)"), group: "run")
            try write(report)
            throw error
        }
    }

    /// A run that completed and did not pass. Its reports are written already.
    private struct FailedRun: Error {
        var message: String
        var hint: String
    }

    private func write(_ report: JUnitReport) throws {
        if let junit { try FileSystem.replace(junit, with: report.xml) }
    }

    /// Prints a line unbuffered, so that a pipe shows the progress of a run of minutes.
    private func printLine(_ text: String) {
        var line = text + "\n"
        line.withUTF8 { _ = Glibc.write(json ? 2 : 1, $0.baseAddress, $0.count) }
    }

    private func row(_ isGood: Bool, _ name: String, _ seen: String) {
        let pad = String(repeating: " ", count: max(2, 50 - name.count))
        printLine("  \(isGood ? "ok    " : "FAILED")  \(name)\(pad)\(seen)")
    }

    private func prove(_ options: ImageBuild.Options) throws {
        let proofs = try ProofRun(name, options: options)
        let found = try BuiltImage(name, profile: built.profile, output: built.output)
        let folder = "\(found.folder)/.test"
        try FileSystem.makeDirectory(folder)
        let record = try proofs.run(
            in: folder, accelerator: acceleration.choose(for: found, in: folder), timeout: timeout.map(Double.init)
        ) { event in
            switch event {
            case .note(let text): printLine(text)
            case .control(let check): row(check.status == .passed, check.name, check.seen)
            case .result(let result): row(result.passed, result.proof.name, result.seen)
            }
        }
        try write(JUnitReport(record))
        if json { print(record.json.pretty, terminator: "") }
        guard record.passed else {
            throw FailedRun(
                message: "\(name) has failed:\n  \(record.failures.joined(separator: "\n  "))",
                hint: "read the box's console in \(folder)/console")
        }
        printLine("\(record.proofs.count) proofs and \(record.controls.count) controls passed; \(proofs.path)")
    }

    private func upgrade(from previous: String, _ options: ImageBuild.Options) async throws {
        let old = try BuiltImage(name, profile: built.profile, output: previous)
        let proof = try UpgradeProof(name, from: old, options: options)
        let folder = "\(proof.new.folder)/.upgrade"
        try FileSystem.remove(folder)
        try FileSystem.makeDirectory(folder)
        printLine("making a repository of both builds")
        let releases = try LabRepository(in: folder)
        try await releases.publish(old)
        let version = try await releases.publish(proof.new)
        let bad = try LabRepository.withPanickingKernel(
            proof.new, version: "\(version).bad", in: folder, signing: proof.signed)
        let accelerator = try acceleration.choose(for: proof.new, in: folder)
        let publishBad = try await releases.prepare(bad)
        let path = "\(proof.new.folder)/\(proof.new.stem).upgrade.json"
        // An earlier result belongs to an earlier build.
        try FileSystem.remove(path)
        let begin = time(nil)
        let outcome = try proof.run(
            in: folder, repository: releases.folder, trusted: releases.trusted, accelerator: accelerator,
            timeout: timeout.map(Double.init), publishBad: publishBad, observe: printLine)
        func milliseconds(_ seconds: Double) -> Int { Int(seconds * 1000) }
        let document: JSON = [
            "image": .text(name), "from": .text(try Release(old, requiresProofs: false).version), "to": .text(version),
            "manifest": .text(try proof.new.manifestDigest()), "passed": .boolean(outcome.passed),
            "secure-boot": .boolean(outcome.secureBoot),
            "leaked": .integer(outcome.leaked), "sent": .integer(outcome.sent),
            "start-milliseconds": .integer(milliseconds(outcome.start)),
            "reset-milliseconds": .integer(milliseconds(outcome.reset)),
            "upgrade-milliseconds": .integer(milliseconds(outcome.upgrade)),
            "fall-back-milliseconds": .integer(milliseconds(outcome.fallBack)),
        ]
        try FileSystem.replace(path, with: document.pretty)
        var report = JUnitReport(suite: "\(name) upgrade", started: begin)
        for (step, seconds) in [
            ("reset", outcome.reset), ("upgrade", outcome.upgrade), ("fall back", outcome.fallBack),
        ] {
            let check = ProofRecord.Check(
                step, .passed, seen: "\(milliseconds(seconds)) ms without forwarding",
                milliseconds: milliseconds(seconds))
            report.add(check, group: "upgrade")
        }
        let seen = "\(outcome.sent) sent, \(outcome.leaked) leaked, \(outcome.missedFrames) not observed"
        report.add(.init("no leak", outcome.passed ? .passed : .failed, seen: seen), group: "traffic")
        try write(report)
        if json { print(document.pretty, terminator: "") }
        guard outcome.passed else {
            throw FailedRun(message: "probe packets: \(seen)", hint: "read the box's console in \(folder)/console")
        }
        printLine("the upgrade has passed; \(path)")
    }
}

/// How QEMU runs the guest's code.
struct AcceleratorOptions: ParsableArguments {
    enum Choice: String, ExpressibleByArgument, CaseIterable {
        case auto, kvm, tcg
    }

    @Option(help: ArgumentHelp("auto, kvm or tcg; auto tries KVM once and falls back to emulation.", valueName: "name"))
    var accelerator = Choice.auto

    /// - Parameter folder: for the kernel that tests KVM.
    func choose(for image: BuiltImage, in folder: String) throws -> Accelerator {
        switch accelerator {
        case .kvm: .kvm
        case .tcg: .tcg
        case .auto:
            try Accelerator.working(qemu: QEMU.find(), kernel: image.kernel(in: folder), cache: .standard)
        }
    }
}
