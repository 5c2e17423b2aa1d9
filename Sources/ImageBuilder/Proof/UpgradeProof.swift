import Disks
import Documents
import Files
import Glibc
import PluginKit
import Processes

/// A box that upgrades itself from one build to another under traffic; then it gets a release whose
/// kernel panics, and must fall back. The result is how long nothing was forwarded.
///
/// The machine boots through UEFI. If the definition has `secure-boot`, Secure Boot is on, and the
/// release whose kernel panics, which is an edit of the new one, is signed with the definition's
/// key.
public struct UpgradeProof {
    /// The result.
    public struct Outcome: Sendable {
        /// Whether the firmware verified the signatures of each release that booted.
        public var secureBoot = false
        /// From power-on to the first forwarded packet, in seconds: a boot, the firmware's part
        /// included.
        public var start = 0.0
        /// Seconds without forwarding during a reset of the machine.
        public var reset = 0.0
        /// Seconds without forwarding during the upgrade.
        public var upgrade = 0.0
        /// Seconds without forwarding while the box tried the bad release and fell back.
        public var fallBack = 0.0
        /// Probe packets by kind.
        public var traffic: [ProofRecord.Traffic] = []
        /// Frames that the test did not observe for lack of memory.
        public var missedFrames = 0

        public var sent: Int { traffic.reduce(0) { $0 + $1.sent } }
        public var leaked: Int { traffic.reduce(0) { $0 + $1.leaked } }
        public var passed: Bool {
            missedFrames == 0 && !traffic.isEmpty && traffic.allSatisfy { $0.leaked == 0 && $0.sent > 0 }
        }
    }

    public let new: BuiltImage
    let old: BuiltImage
    private let plan: [Resource]
    private let hardware: VirtualMachine.Hardware
    private let proofs: [Proof]
    /// The factory's document.
    private let site: Node
    /// The definition's key; nil for an image that is not signed.
    private let signing: Authenticode?
    /// The path of its certificate.
    private let certificate: String?

    /// - Parameters:
    ///   - name: of an image that is built.
    ///   - old: an earlier build of it, which the box starts with.
    ///   - options: those that it was built with.
    public init(_ name: String, from old: BuiltImage, options: ImageBuild.Options) throws {
        let build = try ImageBuild(name, options: options) { _ in }
        guard build.definition.plugins.contains(where: { $0.name.value == "upgrade" }), let site = build.definition.site
        else {
            throw BuildFailure(
                "\(name) has \(build.definition.site == nil ? "no site" : "no plugin upgrade"), an upgrade needs both",
                hint: "plugins: [upgrade] and site: in its definition, docs/upgrades.md")
        }
        let path = "\(options.images)/\(site.value)"
        self.site = try YAML.read(try FileSystem.read(path), file: path)
        self.old = old
        let new = try BuiltImage(name, profile: options.profile, output: options.output)
        self.new = new
        hardware = build.profiles.first { $0.name == new.profile }?.machine ?? VirtualMachine.Hardware()
        proofs = build.definition.proofs
        plan = try build.planFactorySite()
        let keys = build.definition.secureBoot
        certificate = keys.map { "\(options.images)/\($0.certificate.value)" }
        signing = try keys.map {
            try Authenticode(key: $0.key, certificate: $0.certificate, folder: options.images)
        }
        for image in [old, new] where signing != nil {
            if PortableExecutable.isSigned(try FileSystem.read(image.uki)) { continue }
            throw BuildFailure(
                "\(image.uki): found no signature, and \(name) has secure-boot: the firmware would refuse it",
                hint: "build it with secure-boot: and the same key")
        }
    }

    /// Signs an edited kernel image of the new build as the build does.
    public func signed(_ kernelImage: [UInt8]) throws -> [UInt8] {
        guard let signing else { return kernelImage }
        return try signing.sign(Authenticode.unsigned(kernelImage))
    }

    /// The box's site document: the factory's, with releases from the run's own server at any time
    /// of day.
    private func document() throws -> String {
        // A box installs within the first three quarters of its window: all of them, if it opened
        // 18 hours ago.
        let from = ((time(nil) - 18 * 3600 - 600) % 86_400 + 86_400) % 86_400 / 60
        func clock(_ minute: Int) -> String {
            let (hour, minute) = (minute / 60 % 24, minute % 60)
            return "\"\(hour / 10)\(hour % 10):\(minute / 10)\(minute % 10)\""
        }
        let upgrade = """
            repository: \(Self.address)
            health-time: 5
            window: {from: \(clock(from)), to: \(clock(from + 1439))}
            """
        return try site.setting(
            YAML.read(Array(upgrade.utf8), file: "upgrade"), at: DocumentPath("upgrade")
        ).yaml
    }

    private static let port = 8080
    private static var address: String { "http://\(ProofNetwork.knownName.address):\(port)" }

    /// - Parameters:
    ///   - folder: for the disk, the events and the console's text.
    ///   - repository: a folder of signed files with both builds.
    ///   - trusted: the box's folder `/data/vcpe/upgrade/tuf` for this repository.
    ///   - timeout: seconds for each step; 600 under emulation and 300 with KVM when nil.
    ///   - publishBad: adds a release whose kernel panics.
    ///   - observe: called with the progress, in words.
    public func run(
        in folder: String, repository: String, trusted: String, accelerator: Accelerator, timeout: Double? = nil,
        publishBad: () throws -> Void,
        observe: (String) -> Void
    ) throws -> Outcome {
        let versions = (old: try Self.version(old), new: try Self.version(new))
        let seconds: Double = timeout ?? (accelerator == .tcg ? 600 : 300)
        guard versions.old != versions.new else {
            throw BuildFailure("both builds are \(versions.new)", hint: "set another version: in the definition")
        }
        let network = try ProofNetwork(plan: plan, folder: folder)
        let server = try serve(repository, in: network)
        defer { server.kill() }
        var machine = try prepare(in: folder, trusted: trusted, network: network)
        machine.accelerator = accelerator
        let firmware = certificate == nil ? "UEFI" : "UEFI with Secure Boot"
        observe("\(versions.old) from \(old.raw) with \(accelerator.rawValue), \(firmware)")

        let traffic = try ProbeTraffic(network, policy: ProbePolicy(proofs, lan: network.side(.lan).network4))
        defer { traffic.stop() }
        let monitor = try Monitor(descriptor: 3 + network.taps.count)
        let begin = Clock.seconds
        let process = try Command(
            QEMU.find(),
            machine.arguments() + monitor.arguments + ["-display", "none", "-serial", "file:\(folder)/console"]
        ).start(
            output: File("\(folder)/qemu", O_WRONLY | O_CREAT | O_TRUNC),
            inheriting: network.taps + [monitor.machineEnd])
        defer { process.kill() }
        let box = ObservedBox(folder: folder)
        /// Waits until `body` returns true, with a note every 30 seconds.
        func wait(_ what: String, _ body: () -> Bool) throws {
            let begin = Clock.seconds
            var next = begin + 30
            while !body() {
                guard process.poll() == nil, Clock.seconds < begin + seconds else {
                    throw BuildFailure(
                        process.poll() == nil
                            ? "nothing within \(Int(seconds)) s, expected: \(what)"
                            : "the machine ended, expected: \(what)",
                        hint: "\(folder)/console and \(folder)/events")
                }
                if Clock.seconds >= next {
                    next += 30
                    observe("\(Int(Clock.seconds - begin)) of \(Int(seconds)) s: waiting until \(what)")
                }
                usleep(50_000)
            }
        }
        try wait("\(versions.old) forwards") { traffic.now.firstForwarded != nil }
        var outcome = Outcome()
        outcome.start = (traffic.now.firstForwarded ?? 0) - begin
        observe("it forwards \(Self.text(outcome.start)) s after power-on")
        try wait("\(versions.old) is marked good") { box.events.versions == [versions.old] && box.events.isGood }
        traffic.resetPauses()

        // The pause of a plain boot under the same traffic: an upgrade cannot be faster.
        try monitor.reset()
        try wait("\(versions.old) runs again") { box.events.versions == [versions.old, versions.old] }
        let first = traffic.now.forwarded
        try wait("\(versions.old) forwards again") { traffic.now.forwarded > first + 10 }
        outcome.reset = traffic.now.longestPause
        observe("a reset of the machine: \(Self.text(outcome.reset)) s without forwarding")
        traffic.resetPauses()

        let starts = [versions.old, versions.old, versions.new]
        try wait("\(versions.new) is installed and runs") { box.events.versions == starts }
        // During the trial: the box checks for releases again when it has marked this one good.
        try publishBad()
        try wait("\(versions.new) is marked good") { box.events.isGood }
        let isForwarding = traffic.now.forwarded
        try wait("\(versions.new) forwards") { traffic.now.forwarded > isForwarding + 10 }
        outcome.upgrade = traffic.now.longestPause
        observe("\(versions.new) runs and was marked good: \(Self.text(outcome.upgrade)) s without forwarding")
        traffic.resetPauses()

        try wait("a release whose kernel panics was booted three times") { box.panics == 3 }
        try wait("\(versions.new) runs again") { box.events.versions == starts + [versions.new] }
        let before = traffic.now.forwarded
        try wait("\(versions.new) forwards again") { traffic.now.forwarded > before + 10 }
        guard box.panics == 3 else {
            throw BuildFailure("the bad release was booted \(box.panics) times, expected are 3")
        }
        outcome.secureBoot = box.events.all.allSatisfy {
            $0["event"]?.text != "up" || $0["secure-boot"]?.text == "on"
        }
        guard outcome.secureBoot || certificate == nil else {
            throw BuildFailure("a release booted without Secure Boot", hint: "\(folder)/events")
        }
        outcome.fallBack = traffic.now.longestPause
        observe(
            "a release whose kernel panics was booted three times, then \(versions.new) again: "
                + "\(Self.text(outcome.fallBack)) s without forwarding"
        )
        let counts = traffic.now
        outcome.traffic = counts.tallies.map {
            .init(kind: $0.kind, from: $0.from, sent: $0.sent, arrived: $0.arrived, leaked: $0.leaked)
        }
        outcome.missedFrames = counts.missed
        observe("\(outcome.sent) probe packets sent from power-on, \(outcome.leaked) leaked")
        return outcome
    }

    private static func version(_ image: BuiltImage) throws -> String {
        let head = try File("\(image.folder)/\(image.stem).manifest").read(1000, at: 0)
        return String(decoding: head, as: UTF8.self).prefix { $0 != "\n" }.split(separator: " ").dropFirst(2).first.map(
            String.init) ?? ""
    }

    private static func text(_ seconds: Double) -> String {
        let tenths = Int((seconds * 10).rounded())
        return "\(tenths / 10).\(tenths % 10)"
    }

    /// QEMU's monitor, by a pair of sockets.
    private struct Monitor {
        let machineEnd: File
        private let ownEnd: File
        let arguments: [String]

        /// - Parameter descriptor: the descriptor of the machine's end in QEMU.
        init(descriptor: Int) throws(SystemError) {
            var ends: [Int32] = [-1, -1]
            guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue) | O_CLOEXEC, 0, &ends) == 0 else {
                throw SystemError("socketpair", "QEMU's monitor")
            }
            (ownEnd, machineEnd) = (
                File(descriptor: ends[0], path: "QEMU's monitor"), File(descriptor: ends[1], path: "QEMU's monitor")
            )
            arguments = ["-chardev", "socket,id=monitor,fd=\(descriptor)", "-mon", "chardev=monitor,mode=readline"]
        }

        func reset() throws(SystemError) {
            let text = "system_reset\n"
            guard send(ownEnd.descriptor, text, text.utf8.count, Int32(MSG_NOSIGNAL)) == text.utf8.count else {
                throw SystemError("send", "QEMU's monitor")
            }
        }
    }

    /// The box's events and console output so far.
    private struct ObservedBox {
        let folder: String

        var events: BoxEvents { BoxEvents(path: "\(folder)/events") }

        var panics: Int {
            let bytes = (try? FileSystem.read("\(folder)/console")) ?? []
            return String(decoding: bytes, as: UTF8.self).split(whereSeparator: \.isNewline).filter {
                $0.contains("Kernel panic - not syncing")
            }.count
        }
    }

    /// A web server in the WAN.
    private func serve(_ repository: String, in network: ProofNetwork) throws -> RunningProcess {
        guard let busybox = ["/bin/busybox", "/usr/bin/busybox"].first(where: FileSystem.exists) else {
            throw BuildFailure("there is no busybox, which serves the releases", hint: "apt-get install busybox")
        }
        let address = "\(ProofNetwork.knownName.address):\(Self.port)"
        let log = try File("/dev/null", O_WRONLY)
        return try network.namespace(.wan).run {
            try Command(busybox, ["httpd", "-f", "-p", address, "-h", try FileSystem.realPath(repository)]).start(
                output: log)
        }
    }

    /// A machine with the old build's disk, whose data partition trusts the run's repository.
    private func prepare(in folder: String, trusted: String, network: ProofNetwork) throws -> VirtualMachine {
        guard let mke2fs = ["/usr/sbin/mke2fs", "/sbin/mke2fs"].first(where: FileSystem.exists) else {
            throw BuildFailure(
                "there is no mke2fs, which formats the data partition", hint: "apt-get install e2fsprogs")
        }
        let (disk, seed) = ("\(folder)/disk.raw", "\(folder)/data")
        try Command("cp", ["--sparse=always", old.raw, disk]).check()
        guard let data = try PartitionTable.read(try File(disk))["data"] else {
            throw BuildFailure("\(old.raw) has no data partition")
        }
        try FileSystem.remove(seed)
        try FileSystem.makeDirectory("\(seed)/vcpe/upgrade")
        try Command("cp", ["-r", trusted, "\(seed)/vcpe/upgrade/tuf"]).check()
        try Command(
            mke2fs,
            [
                "-q", "-F", "-t", "ext4", "-L", "data", "-d", seed, "-E", "offset=\(data.offset)", disk,
                "\(data.size >> 10)k",
            ]
        ).check()
        try FileSystem.replace("\(folder)/site.yaml", with: try document())
        let firmware = try OVMF.makeVariables("\(folder)/variables", certificate: certificate)
        var machine = try network.machine(firmware, disk: disk, hardware, in: folder)
        machine.site = "\(folder)/site.yaml"
        machine.extra = ["-device", "i6300esb"]
        return machine
    }
}
