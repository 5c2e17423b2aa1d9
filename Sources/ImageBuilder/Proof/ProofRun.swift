import Addresses
import Digests
import Disks
import Documents
import Files
import Glibc
import PluginKit
import Processes
import Slots

/// Boots an image between a LAN and a WAN as a box boots it, and runs its proofs: `docs/proofs.md`.
public struct ProofRun {
    /// Progress of a run.
    public enum Event: Sendable {
        case note(String)
        case control(ProofRecord.Check)
        case result(ProofResult)
    }

    let definition: Definition
    let image: BuiltImage
    let plan: [Resource]
    private let hardware: VirtualMachine.Hardware
    /// The path of the certificate that the image is signed for.
    private let certificate: String?

    /// - Parameters:
    ///   - name: of an image that is built.
    ///   - options: those that it was built with.
    public init(_ name: String, options: ImageBuild.Options) throws {
        let build = try ImageBuild(name, options: options) { _ in }
        definition = build.definition
        image = try BuiltImage(name, profile: options.profile, output: options.output)
        guard !definition.proofs.isEmpty else {
            throw BuildFailure("\(name) has no proofs", hint: "proofs: in its definition, docs/proofs.md")
        }
        let profile = image.profile
        guard let hardware = build.profiles.first(where: { $0.name == profile })?.machine else {
            throw BuildFailure(
                "\(image.raw) was built for the profile \(profile), \(name) has "
                    + build.profiles.map(\.name).joined(separator: ", "), hint: "vcpe build \(name)")
        }
        self.hardware = hardware
        certificate = definition.secureBoot.map { "\(options.images)/\($0.certificate.value)" }
        plan = try build.planFactorySite()
    }

    /// The record's path, beside the image.
    public var path: String { "\(image.folder)/\(image.stem).proofs.json" }

    /// Seconds that a box has to boot and apply its policy, unless the operator chooses another
    /// limit.
    public static func timeout(_ accelerator: Accelerator) -> Double { accelerator == .tcg ? 180 : 90 }

    /// Runs everything, and writes the record. An earlier record is removed first: it must not
    /// outlive a run that fails.
    ///
    /// - Parameters:
    ///   - folder: for the disk, the events and the console's text.
    ///   - timeout: seconds for the boot; ``timeout(_:)`` when nil.
    /// - Throws: ``BuildFailure`` when the machine's kernel crashed: then the proofs are no
    ///   evidence about the image.
    public func run(
        in folder: String, accelerator: Accelerator, timeout: Double? = nil, observe: (Event) -> Void
    ) throws -> ProofRecord {
        try FileSystem.remove(path)
        let result = Result {
            try prove(
                in: folder, accelerator: accelerator, timeout: timeout ?? Self.timeout(accelerator), observe: observe)
        }
        let console = (try? FileSystem.read("\(folder)/console")) ?? []
        if let fault = KernelFault(console: String(decoding: console, as: UTF8.self)) {
            throw BuildFailure("the machine's kernel crashed: \(fault.line)", hint: "\(folder)/console")
        }
        let record = try result.get()
        try FileSystem.replace(path, with: record.json.pretty)
        return record
    }

    private func prove(
        in folder: String, accelerator: Accelerator, timeout: Double, observe: (Event) -> Void
    ) throws -> ProofRecord {
        try FileSystem.makeDirectory(folder)
        let network = try ProofNetwork(plan: plan, folder: folder)
        let disk = "\(folder)/disk.raw"
        try Command("cp", ["--sparse=always", image.raw, disk]).check()
        let firmware = try OVMF.makeVariables("\(folder)/variables", certificate: certificate)
        var machine = try network.machine(firmware, disk: disk, hardware, in: folder)
        machine.accelerator = accelerator
        var record = ProofRecord(
            image: definition.name, version: definition.version, profile: image.profile, started: time(nil), ended: 0,
            machine: .init(
                firmware: "uefi", loaderEntry: "", secureBoot: false, accelerator: accelerator.rawValue,
                disk: hardware.disk.rawValue, network: hardware.network.rawValue),
            digests: [:])
        observe(
            .note(
                "\(image.raw) with \(accelerator.rawValue), \(hardware.disk.rawValue) disk, UEFI"
                    + (certificate == nil ? "" : " with Secure Boot") + "; the box has \(Int(timeout)) s to boot"))

        let traffic = try ProbeTraffic(
            network, policy: ProbePolicy(definition.proofs, lan: network.side(.lan).network4))
        defer { traffic.stop() }
        let start = Clock.seconds
        let process = try Command(
            QEMU.find(), machine.arguments() + ["-display", "none", "-no-reboot", "-serial", "file:\(folder)/console"]
        ).start(output: File("\(folder)/qemu", O_WRONLY | O_CREAT | O_TRUNC), inheriting: network.taps)
        defer { process.kill() }
        let box = RunningBox(
            process: process, events: BoxEvents(path: "\(folder)/events"), folder: folder, start: start,
            deadline: start + timeout)
        // While the firmware runs.
        record.digests = try image.digests()
        func control(_ check: ProofRecord.Check) {
            record.controls.append(check)
            observe(.control(check))
        }
        control(try partsOfDisk(record.digests))
        let boot = BootControls(
            image: "\(definition.name) \(definition.version)", isSigned: certificate != nil,
            hasEngine: !definition.plugins.isEmpty)
        for check in try boot.run(box, &record.machine, observe) { control(check) }
        let hasBooted = record.controls.allSatisfy { $0.status == .passed }
        if hasBooted { try awaitForwarding(network, traffic, box, accelerator, observe) }
        let addresses = try addresses(network, traffic)
        try prove(network, addresses, box, hasBooted: hasBooted, &record, observe)
        for endpoint in sides {
            control(try reach(endpoint, network, addresses[endpoint] ?? nil, isTried: hasBooted, record.proofs))
        }
        control(box.runsToTheEnd)
        let counts = traffic.now
        record.traffic = counts.tallies.map {
            .init(kind: $0.kind, from: $0.from, sent: $0.sent, arrived: $0.arrived, leaked: $0.leaked)
        }
        record.missedFrames = counts.missed
        record.firstForwardedMilliseconds = counts.firstForwarded.map { Int(($0 - start) * 1000) }
        record.ended = time(nil)
        observe(
            .note(
                "\(record.sent) probe packets of \(record.traffic.count / 2) kinds sent from power-on, "
                    + "\(record.leaked) leaked"))
        return record
    }

    // MARK: - Controls

    /// Checks that the boot disk has the root and the UKI that a release publishes.
    private func partsOfDisk(_ digests: [String: String]) throws -> ProofRecord.Check {
        let name = "the disk holds the root and the UKI"
        let disk = try File(image.raw)
        let table = try PartitionTable.read(disk)
        guard let root = table["root-a"], let esp = table["esp"] else {
            return .init(name, .failed, seen: "\(image.raw) has no partitions root-a and esp")
        }
        let size = Int(try File(image.root).status().st_size)
        var hash = SHA256()
        for offset in stride(from: 0, to: min(size, root.size), by: 1 << 20) {
            hash.update(try disk.read(min(1 << 20, size - offset), at: root.offset + offset))
        }
        guard hash.finish().hex == digests["root"] else {
            return .init(name, .failed, seen: "root-a of \(image.raw) differs from \(image.root)")
        }
        let volume = try FATVolume(DiskRegion(of: disk, offset: esp.offset, size: esp.size))
        let entries = try volume.list("EFI/Linux").filter { !$0.isFolder }
        for entry in entries where SHA256.hash(try volume.read("EFI/Linux/\(entry.name)")).hex == digests["uki"] {
            return .init(name, .passed, seen: "root-a, EFI/Linux/\(entry.name)")
        }
        return .init(name, .failed, seen: "no file in EFI/Linux of \(image.raw) is \(image.uki)")
    }

    /// Waits for the LAN's first packet on the WAN, where the proofs say that the LAN may send
    /// there. It needs the box's address; where that is known and nothing arrives, policy may allow
    /// other packets only.
    private func awaitForwarding(
        _ network: ProofNetwork, _ traffic: ProbeTraffic, _ box: RunningBox, _ accelerator: Accelerator,
        _ observe: (Event) -> Void
    ) throws {
        let mayForward = definition.proofs.contains {
            $0.from == .lan && $0.to == .wan && $0.family == .ipv4 && $0.outcome == .answered
        }
        guard mayForward else { return }
        let end = Clock.seconds + (accelerator == .tcg ? 60 : 20)
        var known: Double?
        while Clock.seconds < end, box.isRunning {
            if let first = traffic.now.firstForwarded {
                return observe(.note("first packet forwarded after \(tenths(first - box.start)) s"))
            }
            if known == nil, try network.side(.wan).box4 ?? network.leasedAddress() != nil { known = Clock.seconds }
            if let known, Clock.seconds > known + 25 { break }
            usleep(20_000)
        }
        observe(.note("no probe packet was forwarded"))
    }

    /// The sides that the proofs use.
    private var sides: [Proof.Endpoint] {
        let named = definition.proofs.flatMap { [$0.from, $0.to, $0.arrivesAt].compactMap { $0 } }
        return [.lan, .wan].filter { named.contains($0) }
    }

    /// The box's IPv4 addresses by side, from the plan or the DHCP lease; the source of forwarded
    /// packets as a last resort.
    private func addresses(_ network: ProofNetwork, _ traffic: ProbeTraffic) throws -> [Proof.Endpoint: IPAddress?] {
        [
            .lan: try network.side(.lan).box4,
            .wan: try network.side(.wan).box4 ?? network.leasedAddress() ?? traffic.now.source,
        ]
    }

    /// Checks that packets of a side reach the box and return. Otherwise "dropped" would prove
    /// nothing.
    private func reach(
        _ endpoint: Proof.Endpoint, _ network: ProofNetwork, _ address: IPAddress?, isTried: Bool,
        _ proofs: [ProofRecord.Check]
    ) throws -> ProofRecord.Check {
        let name = "the box answers on the \(endpoint.rawValue)"
        guard isTried else { return .init(name, .skipped, seen: "the box has not booted") }
        for (proof, check) in zip(definition.proofs, proofs)
        where proof.from == endpoint && proof.outcome != .dropped && check.status == .passed {
            return .init(name, .passed, seen: "proof \"\(proof.name)\"")
        }
        let answer = try NeighbourProbe(network, endpoint).ask(address, seconds: 10)
        return .init(
            name, answer == nil ? .failed : .passed, seen: answer ?? "no answer to ARP and neighbour discovery")
    }

    // MARK: - Proofs

    private func prove(
        _ network: ProofNetwork, _ addresses: [Proof.Endpoint: IPAddress?], _ box: RunningBox, hasBooted: Bool,
        _ record: inout ProofRecord, _ observe: (Event) -> Void
    ) throws {
        let probing = Probing(network: network, boxOnWAN: addresses[.wan] ?? nil)
        for proof in definition.proofs {
            guard hasBooted, box.isRunning else {
                let why = hasBooted ? box.end : "the box has not booted"
                record.proofs.append(.init(proof.name, .skipped, seen: why))
                continue
            }
            let result: ProofResult
            do {
                result = try probing.run(proof)
            } catch {
                result = ProofResult(proof: proof, passed: false, seen: "\(error)")
            }
            observe(.result(result))
            record.proofs.append(
                .init(
                    proof.name, result.passed ? .passed : .failed, seen: result.seen,
                    milliseconds: Int(result.seconds * 1000)))
        }
    }

    private func tenths(_ seconds: Double) -> String {
        let value = Int((seconds * 10).rounded())
        return "\(value / 10).\(value % 10)"
    }
}

extension BuiltImage {
    /// Digests of the parts that proofs and releases refer to: `manifest`, `uki`, `root`, `raw`.
    /// The image was verified when it was found, so the digests in the manifest are those of the
    /// files. The digest of `raw` covers its data and their offsets (``OutputDigest``).
    public func digests() throws -> [String: String] {
        let outputs = manifest.outputs.mapValues(\.digest.hex)
        return [
            "manifest": try manifestDigest(), "uki": outputs[.uki], "root": outputs[.root], "raw": outputs[.raw],
        ].compactMapValues { $0 }
    }
}
