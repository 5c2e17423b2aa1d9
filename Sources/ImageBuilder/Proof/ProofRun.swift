import Documents
import Files
import Glibc
import Planning
import PluginKit
import Processes

/// Boots an image between a LAN and a WAN and runs its proofs.
public struct ProofRun {
    /// What is said while it runs.
    public enum Event: Sendable {
        case note(String)
        case result(ProofResult)
    }

    /// What came of it.
    public struct Outcome: Sendable {
        public var results: [ProofResult]
        /// Packets of the flood that crossed though they must not; nil without plugins to make a policy.
        public var crossed: Int
        /// From the machine's start to the first packet that was forwarded, seconds.
        public var firstForwarded: Double?
        public var passed: Bool
        /// Of the canonical manifest: names what was proved.
        public var digest: String
    }

    let definition: Definition
    let image: BuiltImage
    let plan: [Resource]

    /// - Parameters:
    ///   - name: of an image that is built.
    ///   - options: those that it was built with.
    public init(_ name: String, options: ImageBuild.Options) throws {
        let build = try ImageBuild(name, options: options) { _ in }
        definition = build.definition
        image = try BuiltImage(name, profile: options.profile, output: options.output)
        guard !definition.proofs.isEmpty else {
            throw BuildFailure("\(name) names no proofs", hint: "proofs: in its definition, docs/image-definition.md")
        }
        plan = try build.planFactorySite()
    }

    /// A kernel that died says nothing about the proofs: it is an error, whatever they say.
    ///
    /// - Parameter folder: for what is written on the way: disk, events, console.
    public func run(in folder: String, accelerator: Accelerator, observe: (Event) -> Void) throws -> Outcome {
        let result = Result { try prove(in: folder, accelerator: accelerator, observe: observe) }
        let console = (try? FileSystem.read("\(folder)/console")) ?? []
        if let fault = KernelFault(console: String(decoding: console, as: UTF8.self)) {
            throw BuildFailure("the machine's kernel died: \(fault.line)", hint: "\(folder)/console has the rest")
        }
        return try result.get()
    }

    private func prove(in folder: String, accelerator: Accelerator, observe: (Event) -> Void) throws -> Outcome {
        try FileSystem.makeDirectory(folder)
        let network = try ProofNetwork(plan: plan, folder: folder)
        let disk = "\(folder)/disk.raw"
        try Command("cp", ["--sparse=always", image.raw, disk]).check()
        var machine = try network.machine(
            .direct(
                kernel: try image.kernel(in: folder), initramfs: image.initramfs, commandLine: try image.commandLine()),
            disk: disk, of: image, in: folder)
        machine.accelerator = accelerator
        observe(.note("\(image.raw) with \(accelerator.rawValue), between a LAN and a WAN of its own"))

        let flood = try Flood(network)
        defer { flood.stop() }
        let start = Clock.seconds
        let process = try Command(
            QEMU.find(), machine.arguments() + ["-display", "none", "-no-reboot", "-serial", "file:\(folder)/console"]
        ).start(output: File("\(folder)/qemu", O_WRONLY | O_CREAT | O_TRUNC), inheriting: network.taps)
        defer { process.kill() }
        func events() -> String {
            (try? FileSystem.read("\(folder)/events")).map { String(decoding: $0, as: UTF8.self) } ?? ""
        }
        // Until the LAN is forwarded; without that, as long as a box may take, and proofs say what is wrong.
        while Clock.seconds < start + 60, flood.now.firstForwarded == nil, process.poll() == nil { usleep(20_000) }
        func checkAlive() throws {
            guard process.poll() != nil else { return }
            let said = String(decoding: try FileSystem.read("\(folder)/qemu"), as: UTF8.self)
            throw BuildFailure(
                "the machine ended: \(said.suffix(500))", hint: "\(folder)/console has what the box said")
        }
        try checkAlive()
        let first = flood.now.firstForwarded.map { $0 - start }
        observe(
            .note(first.map { "first packet forwarded after \(tenths($0)) s" } ?? "nothing was forwarded within 60 s"))
        // Services that policy lets in come a moment later than policy.
        for _ in 0..<100 where !events().contains("coldplugged") { usleep(50_000) }
        let probing = Probing(network: network, boxOnWAN: flood.now.source)
        var results: [ProofResult] = []
        for proof in definition.proofs {
            try checkAlive()
            let result: ProofResult
            do {
                result = try probing.run(proof)
            } catch {
                result = ProofResult(proof: proof, passed: false, seen: "\(error)")
            }
            observe(.result(result))
            results.append(result)
        }
        try checkAlive()
        let counts = flood.now
        let crossed = counts.fromWAN + counts.unmasqueraded
        let sent = counts.sent.values.reduce(0, +)
        observe(.note("\(sent) packets thrown at the box from power-on: \(crossed) crossed against policy"))
        return Outcome(
            results: results, crossed: crossed, firstForwarded: first,
            passed: crossed == 0 && sent > 0 && results.allSatisfy(\.passed), digest: try image.manifestDigest())
    }

    private func tenths(_ seconds: Double) -> String {
        let value = Int((seconds * 10).rounded())
        return "\(value / 10).\(value % 10)"
    }

    /// The result beside the image, with the digest of what was proved: a release demands it.
    public func write(_ outcome: Outcome) throws -> String {
        let path = "\(image.folder)/\(image.stem).proofs.json"
        let document: JSON = [
            "image": .text(definition.name), "version": .text(definition.version), "profile": .text(image.profile),
            "manifest": .text(outcome.digest), "uki": .text(try image.ukiDigest()),
            "passed": .boolean(outcome.passed), "crossed": .integer(outcome.crossed),
            "first-forwarded-milliseconds": outcome.firstForwarded.map { .integer(Int($0 * 1000)) } ?? .null,
            "proofs": .list(
                outcome.results.map {
                    ["name": .text($0.proof.name), "passed": .boolean($0.passed), "seen": .text($0.seen)]
                }),
        ]
        try FileSystem.replace(path, with: document.pretty)
        return path
    }
}
