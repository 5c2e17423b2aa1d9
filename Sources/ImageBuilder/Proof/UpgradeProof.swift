import Disks
import Documents
import Files
import Glibc
import PluginKit
import Processes

/// A box under traffic that comes from one build to another by itself, as those at their sites do; then it is given a release whose kernel
/// panics, and must be back. What counts is how long nothing was forwarded.
public struct UpgradeProof {
    /// What came of it, in seconds.
    public struct Outcome: Sendable {
        /// From the machine's start to the first packet that was forwarded, seconds: a start, with all that the firmware does before.
        public var start = 0.0
        /// Seconds without forwarding: by a reset of the machine, by the upgrade, and by the release that is bad.
        public var (reset, upgrade, fallBack) = (0.0, 0.0, 0.0)
        /// Packets that crossed against policy meanwhile, of all that were sent.
        public var (crossed, sent) = (0, 0)
    }

    public let new: BuiltImage
    let old: BuiltImage
    private let plan: [Resource]
    /// The factory's document.
    private let site: Node

    /// - Parameters:
    ///   - name: of an image that is built.
    ///   - old: an earlier build of it, which boxes have.
    ///   - options: those that it was built with.
    public init(_ name: String, from old: BuiltImage, options: ImageBuild.Options) throws {
        let build = try ImageBuild(name, options: options) { _ in }
        guard build.definition.plugins.contains(where: { $0.name.value == "upgrade" }), let site = build.definition.site
        else {
            throw BuildFailure(
                "\(name) can't upgrade: it has \(build.definition.site == nil ? "no site" : "no plugin upgrade")",
                hint: "plugins: [upgrade] and site: in its definition, docs/upgrades.md")
        }
        let path = "\(options.images)/\(site.value)"
        self.site = try YAML.read(try FileSystem.read(path), file: path)
        self.old = old
        new = try BuiltImage(name, profile: options.profile, output: options.output)
        plan = try build.planFactorySite()
    }

    /// What the box follows: the factory's document, with releases from the run's own server, at any time of the day.
    private func document() throws -> String {
        // A box has its turn within three quarters of its window: of one that opened eighteen hours ago it has come.
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
    ///   - folder: for what is written on the way: disk, events, console.
    ///   - repository: a folder of signed files that has both builds.
    ///   - trusted: what the box knows of it before: its folder `/data/vcpe/upgrade/tuf`.
    ///   - publishBad: adds a release whose kernel panics.
    ///   - observe: is told what happens, for people.
    public func run(
        in folder: String, repository: String, trusted: String, accelerator: Accelerator,
        publishBad: () throws -> Void,
        observe: (String) -> Void
    ) throws -> Outcome {
        let versions = (old: try Self.version(old), new: try Self.version(new))
        // For each step; by emulation all takes longer.
        let seconds: Double = accelerator == .tcg ? 600 : 300
        guard versions.old != versions.new else {
            throw BuildFailure("both builds are \(versions.new)", hint: "another version: in the definition")
        }
        let network = try ProofNetwork(plan: plan, folder: folder)
        let server = try serve(repository, in: network)
        defer { server.kill() }
        var machine = try prepare(in: folder, trusted: trusted, network: network)
        machine.accelerator = accelerator
        observe("\(versions.old) from \(old.raw) with \(accelerator.rawValue), between a LAN and a WAN of its own")

        let flood = try Flood(network)
        defer { flood.stop() }
        let buttons = try Buttons(descriptor: 3 + network.taps.count)
        let begin = Clock.seconds
        let process = try Command(
            QEMU.find(),
            machine.arguments() + buttons.arguments + ["-display", "none", "-serial", "file:\(folder)/console"]
        ).start(
            output: File("\(folder)/qemu", O_WRONLY | O_CREAT | O_TRUNC),
            inheriting: network.taps + [buttons.machineEnd])
        defer { process.kill() }
        let story = Story(folder: folder)
        /// Until something has happened.
        func wait(_ what: String, _ body: () -> Bool) throws {
            let end = Clock.seconds + seconds
            while !body() {
                guard process.poll() == nil, Clock.seconds < end else {
                    throw BuildFailure(
                        process.poll() == nil
                            ? "\(Int(seconds)) s, and not yet: \(what)" : "the machine ended before: \(what)",
                        hint: "\(folder)/console and \(folder)/events have what the box said")
                }
                usleep(50_000)
            }
        }
        try wait("\(versions.old) forwards") { flood.now.firstForwarded != nil }
        var outcome = Outcome()
        outcome.start = (flood.now.firstForwarded ?? 0) - begin
        observe("it forwards \(Self.text(outcome.start)) s after power-on")
        try wait("\(versions.old) is found good") { story.starts == [versions.old] && story.isGood }
        flood.forgetPauses()

        // What a start costs under the same traffic, from hosts that know the box's addresses: no less can be asked of an upgrade.
        try buttons.reset()
        try wait("\(versions.old) runs again") { story.starts == [versions.old, versions.old] }
        let first = flood.now.forwarded
        try wait("\(versions.old) forwards again") { flood.now.forwarded > first + 10 }
        outcome.reset = flood.now.longestPause
        observe("a reset of the machine: \(Self.text(outcome.reset)) s without forwarding")
        flood.forgetPauses()

        let starts = [versions.old, versions.old, versions.new]
        try wait("\(versions.new) is installed and runs") { story.starts == starts }
        // While it is on trial: a box looks for releases again when it has found this one good.
        try publishBad()
        try wait("\(versions.new) is found good") { story.isGood }
        let isForwarding = flood.now.forwarded
        try wait("\(versions.new) forwards") { flood.now.forwarded > isForwarding + 10 }
        outcome.upgrade = flood.now.longestPause
        observe("\(versions.new) runs and was found good: \(Self.text(outcome.upgrade)) s without forwarding")
        flood.forgetPauses()

        try wait("a release whose kernel panics is started three times") { story.panics == 3 }
        try wait("\(versions.new) runs again") { story.starts == starts + [versions.new] }
        let before = flood.now.forwarded
        try wait("\(versions.new) forwards again") { flood.now.forwarded > before + 10 }
        guard story.panics == 3 else { throw BuildFailure("the bad release was started \(story.panics) times") }
        outcome.fallBack = flood.now.longestPause
        observe(
            "a release whose kernel panics was started three times, then \(versions.new) again: \(Self.text(outcome.fallBack)) s without forwarding"
        )
        let counts = flood.now
        (outcome.crossed, outcome.sent) = (counts.fromWAN + counts.unmasqueraded, counts.sent.values.reduce(0, +))
        observe("\(outcome.sent) packets thrown at the box from power-on: \(outcome.crossed) crossed against policy")
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

    /// The machine's buttons: QEMU's monitor at the other end of a pair of sockets.
    private struct Buttons {
        let machineEnd: File
        private let ownEnd: File
        let arguments: [String]

        /// - Parameter descriptor: that QEMU has the machine's end by.
        init(descriptor: Int) throws(SystemError) {
            var ends: [Int32] = [-1, -1]
            guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue) | O_CLOEXEC, 0, &ends) == 0 else {
                throw SystemError("socketpair", "QEMU's monitor")
            }
            (ownEnd, machineEnd) = (
                File(descriptor: ends[0], path: "QEMU's monitor"), File(descriptor: ends[1], path: "QEMU's monitor")
            )
            arguments = ["-chardev", "socket,id=buttons,fd=\(descriptor)", "-mon", "chardev=buttons,mode=readline"]
        }

        func reset() throws(SystemError) {
            let text = "system_reset\n"
            guard send(ownEnd.descriptor, text, text.utf8.count, Int32(MSG_NOSIGNAL)) == text.utf8.count else {
                throw SystemError("send", "QEMU's monitor")
            }
        }
    }

    /// What the box has said so far.
    private struct Story {
        let folder: String

        private func lines(_ name: String) -> [Substring] {
            let bytes = (try? FileSystem.read("\(folder)/\(name)")) ?? []
            return String(decoding: bytes, as: UTF8.self).split(whereSeparator: \.isNewline)
        }

        private var events: [JSON] { lines("events").compactMap { try? JSON.parse(Array($0.utf8)) } }
        /// Versions that came up, in their order.
        var starts: [String] {
            events.filter { $0["event"]?.text == "up" }.compactMap { $0["version"]?.text }
        }
        /// The start that was last has been found good.
        var isGood: Bool {
            let events = events
            let up = events.lastIndex { $0["event"]?.text == "up" } ?? 0
            return events[up...].contains { $0["event"]?.text == "good" }
        }
        var panics: Int { lines("console").filter { $0.contains("Kernel panic - not syncing") }.count }
    }

    /// A web server in the WAN.
    private func serve(_ repository: String, in network: ProofNetwork) throws -> RunningProcess {
        guard let busybox = ["/bin/busybox", "/usr/bin/busybox"].first(where: FileSystem.exists) else {
            throw BuildFailure("there is no busybox, which plays the web server", hint: "apt-get install busybox")
        }
        let place = "\(ProofNetwork.knownName.address):\(Self.port)"
        let log = try File("/dev/null", O_WRONLY)
        return try network.namespace(.wan).run {
            try Command(busybox, ["httpd", "-f", "-p", place, "-h", try FileSystem.realPath(repository)]).start(
                output: log)
        }
    }

    /// The disk, with a data partition that knows the run's repository, and a machine around it.
    private func prepare(in folder: String, trusted: String, network: ProofNetwork) throws -> VirtualMachine {
        guard let mke2fs = ["/usr/sbin/mke2fs", "/sbin/mke2fs"].first(where: FileSystem.exists) else {
            throw BuildFailure("there is no mke2fs", hint: "apt-get install e2fsprogs")
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
        try FileSystem.replace("\(folder)/variables", with: try FileSystem.read(OVMF.find(secureBoot: false).variables))
        var machine = try network.machine(
            .uefi(variables: "\(folder)/variables", secureBoot: false), disk: disk, of: old, in: folder)
        machine.site = "\(folder)/site.yaml"
        machine.extra = ["-device", "i6300esb"]
        return machine
    }
}
