import Clocks
import Documents
import Files
import Glibc
import Netlink
import Planning
import PluginKit
import Terminals

/// Where things are; a test runs the engine with places of its own.
public struct Places: Sendable {
    /// Gone with a restart of the box.
    public var run = "/run/vcpe"
    /// Kept.
    public var data = "/data"
    /// One folder a plugin.
    public var plugins = "/usr/lib/vcpe/plugins"
    public var factorySite = "/usr/lib/vcpe/site.yaml"
    public var modprobe = "/usr/lib/vcpe/modprobe"
    public var initSocket = "/run/vcpe/init.sock"
    public var logs = "/run/log"
    /// Terminals and disks.
    public var devices = "/dev"
    /// A document that the machine that emulates the box gives it (QEMU's fw_cfg).
    public var firmwareSite = "/sys/firmware/qemu_fw_cfg/by_name/opt/org.vcpe.site/raw"
    /// Its signature.
    public var firmwareSignature = "/sys/firmware/qemu_fw_cfg/by_name/opt/org.vcpe.site.sig/raw"
    /// Whose signatures a document from outside must have on a box that has one, as ssh-keygen's allowed_signers.
    public var siteKeys = "/usr/lib/vcpe/site-keys"

    /// What the image is; not there in a test.
    public var image = "/usr/lib/vcpe/image"

    public init() {}

    /// The image's version.
    var release: String? { imageWord("version") }
    /// Whether also a box without a document takes only one that is signed.
    var requiresSiteKeys: Bool { imageWord("site-keys-required") == "yes" }
    /// Whether documents may come from disks and sticks.
    var hasStickSites: Bool { imageWord("usb-sites") != "no" }
    /// The networks that are the box's own (RFC 4193); nil on a box without a machine ID.
    var uniqueLocalPrefix: IPPrefix? {
        (try? FileSystem.read("\(run)/machine-id")).flatMap { bytes in
            UniqueLocalPrefix.of(machineID: String(decoding: bytes.prefix { $0 != 0x0A }, as: UTF8.self))
        }
    }
    private func imageWord(_ name: String) -> String? { (try? FileSystem.words(image))?[name] }

    /// The link to the folder of the engine's unit files.
    public var units: String { "\(run)/units" }
    /// In folders of their own, which a service with a view of its own sees alone; a restart of the
    /// engine makes new sockets in them.
    public var socket: String { "\(run)/api/engine.sock" }
    /// Where services report facts.
    public var reportSocket: String { "\(run)/report/report.sock" }
    /// Their names for people and scripts.
    var socketLinks: [(path: String, target: String)] {
        [("\(run)/report.sock", "report/report.sock"), ("\(run)/engine.sock", "api/engine.sock")]
    }
    var state: String { "\(run)/engine" }
    var appliedState: String { "\(state)/applied" }
    /// Names the disk from outside that is being read.
    var outsideTried: String { "\(state)/outside" }
    /// Who is logged in, and with which role.
    var sessions: String { "\(state)/sessions" }
    func candidate(of document: SiteDocument) -> String { "\(state)/candidate-\(document.rawValue)" }
    /// The EFI system partition of the disk that was booted from, as PID 1 found it.
    var espDevice: String? { bootWord("esp") }

    /// What PID 1 has noted of this start; nil for nothing.
    func bootWord(_ name: String) -> String? { (try? FileSystem.words("\(run)/boot"))?[name] }

    /// The operators' documents.
    var commits: String { "\(data)/vcpe/commits" }
    /// What operators have put into sets.
    var feeds: String { "\(data)/vcpe/feeds" }
    /// What daemons kept in formats of other releases.
    var states: String { "\(data)/\(Self.states)" }
    /// The same below /data.
    static let states = "vcpe/states"
    var secrets: String { "\(data)/vcpe/secrets" }
    /// Says that everything but what protects against rollback goes, with the next start.
    var resetMark: String { "\(data)/vcpe/factory-reset" }
    var audit: String { "\(data)/\(Self.audit)" }
    /// The same below /data; plugin system's rsyslog reads it.
    static let audit = "vcpe/audit"
    /// The latest time that was known.
    var clock: String { "\(data)/vcpe/clock" }
}

extension Places {
    /// The plugins of this box.
    ///
    /// - Parameter forPreviews: whether they run beside those of the engine.
    func planner(forPreviews: Bool = false) throws -> Planner {
        try Planner(folder: plugins, forPreviews: forPreviews)
    }

    var pidOne: InitClient { InitClient(socket: initSocket) }
    var serviceLogs: ServiceLogs { ServiceLogs(folder: logs) }
    var consoles: Consoles { Consoles(folder: devices) }

    /// The facts of some collections.
    func facts(
        _ routes: RouteSocket, _ reported: FactStore, _ wanted: Set<String>, probes: [String: Facts.ProbeState] = [:]
    ) throws -> Facts {
        let observed = try Observation(places: self, routes: routes).facts(wanted, probes: probes)
        return Facts(observed.collections.merging(reported.reported(wanted).collections) { $1 })
    }
}

/// Why the engine can't do as it was asked.
public struct EngineError: Error, Sendable, CustomStringConvertible {
    public var description: String
    /// Whether the caller may not do it; else it could not be done.
    var isRefusal = false

    public init(_ description: String) { self.description = description }
}

/// What the engine tells people: lines on standard error, which PID 1 keeps, and a terminal may
/// show.
public enum Log {
    public static func say(_ text: String) {
        var line = TerminalText.lines(text) + "\n"
        line.withUTF8 { _ = Glibc.write(2, $0.baseAddress, $0.count) }
    }
}

/// The box's own clock, which all of the engine uses.
typealias Uptime = Clocks.Uptime
