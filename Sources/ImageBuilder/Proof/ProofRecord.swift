import Addresses
import Documents
import Files
import Glibc

/// The results of a run of `vcpe test`, as in `NAME.proofs.json`: `docs/proofs.md`.
public struct ProofRecord: Sendable, Hashable {
    /// The result of one control or proof.
    public struct Check: Sendable, Hashable {
        public enum Status: String, Sendable, Hashable {
            case passed, failed
            /// Not tried, since the box did not boot.
            case skipped
        }

        public var name: String
        public var status: Status
        /// The observation, in words.
        public var seen: String
        public var milliseconds: Int

        public init(_ name: String, _ status: Status, seen: String, milliseconds: Int = 0) {
            (self.name, self.status, self.seen, self.milliseconds) = (name, status, seen, milliseconds)
        }
    }

    /// How the image was booted.
    public struct Machine: Sendable, Hashable {
        /// `uefi`: through the firmware, the loader and the UKI.
        public var firmware: String
        /// The entry that systemd-boot started, such as `vcpe-1.efi`.
        public var loaderEntry: String
        /// The firmware verified the signatures of the loader and the UKI.
        public var secureBoot: Bool
        /// `kvm` or `tcg`.
        public var accelerator: String
        public var disk: String
        public var network: String

        public init(
            firmware: String, loaderEntry: String, secureBoot: Bool, accelerator: String, disk: String, network: String
        ) {
            (self.firmware, self.loaderEntry, self.secureBoot) = (firmware, loaderEntry, secureBoot)
            (self.accelerator, self.disk, self.network) = (accelerator, disk, network)
        }
    }

    /// The probe packets of one kind from one side.
    public struct Traffic: Sendable, Hashable {
        public var kind: ProbePacket
        /// `lan` or `wan`.
        public var from: Proof.Endpoint
        public var sent: Int
        public var arrived: Int
        public var leaked: Int

        public init(kind: ProbePacket, from: Proof.Endpoint, sent: Int, arrived: Int, leaked: Int) {
            (self.kind, self.from, self.sent) = (kind, from, sent)
            (self.arrived, self.leaked) = (arrived, leaked)
        }
    }

    public static let format = 2

    public var image: String
    public var version: String
    /// The hardware profile.
    public var profile: String
    /// Seconds since 1970.
    public var started: Int
    public var ended: Int
    public var machine: Machine
    /// SHA-256 by part: `manifest`, `uki`, `root`, `raw`.
    public var digests: [String: String]
    /// Checks that the box booted, and that the test could detect a failure.
    public var controls: [Check] = []
    public var proofs: [Check] = []
    public var traffic: [Traffic] = []
    /// Frames that the test did not observe for lack of memory.
    public var missedFrames = 0
    /// From power-on to the first forwarded packet; nil when none was forwarded.
    public var firstForwardedMilliseconds: Int?

    public init(
        image: String, version: String, profile: String, started: Int, ended: Int, machine: Machine,
        digests: [String: String]
    ) {
        (self.image, self.version, self.profile) = (image, version, profile)
        (self.started, self.ended, self.machine, self.digests) = (started, ended, machine, digests)
    }

    public var sent: Int { traffic.reduce(0) { $0 + $1.sent } }
    public var leaked: Int { traffic.reduce(0) { $0 + $1.leaked } }

    /// The reasons why the run did not pass, one line each; empty when it passed.
    public var failures: [String] {
        var result = (controls + proofs).filter { $0.status != .passed }.map { "\($0.name): \($0.seen)" }
        if controls.isEmpty { result.append("no controls were run") }
        if proofs.isEmpty { result.append("no proofs were run") }
        if traffic.isEmpty { result.append("no probe packets were sent") }
        for row in traffic {
            if row.sent == 0 { result.append("\(row.label): no probe packet was sent") }
            if row.leaked > 0 { result.append("\(row.label): \(row.leaked) of \(row.sent) leaked") }
        }
        if missedFrames > 0 { result.append("\(missedFrames) frames were not observed") }
        return result
    }

    public var passed: Bool { failures.isEmpty }
}

extension ProofRecord.Traffic {
    /// `udp/ipv4 from wan`.
    public var label: String { "\(kind.form.rawValue)/\(kind.family) from \(from.rawValue)" }
}

// MARK: - JSON

extension ProofRecord {
    public var json: JSON {
        [
            "format": .integer(Self.format), "image": .text(image), "version": .text(version),
            "profile": .text(profile), "started": .text(UTC.text(of: started)), "ended": .text(UTC.text(of: ended)),
            "machine": [
                "firmware": .text(machine.firmware), "loader-entry": .text(machine.loaderEntry),
                "secure-boot": .boolean(machine.secureBoot), "accelerator": .text(machine.accelerator),
                "disk": .text(machine.disk), "network": .text(machine.network),
            ],
            "digests": .object(digests.mapValues { .text($0) }),
            "passed": .boolean(passed),
            "controls": .list(controls.map(Self.json)), "proofs": .list(proofs.map(Self.json)),
            "traffic": .list(traffic.map(Self.json)),
            "sent": .integer(sent), "leaked": .integer(leaked), "missed-frames": .integer(missedFrames),
            "first-forwarded-milliseconds": firstForwardedMilliseconds.map { .integer($0) } ?? .null,
        ]
    }

    private static func json(_ check: Check) -> JSON {
        [
            "name": .text(check.name), "status": .text(check.status.rawValue), "seen": .text(check.seen),
            "milliseconds": .integer(check.milliseconds),
        ]
    }

    private static func json(_ row: Traffic) -> JSON {
        [
            "kind": .text(row.kind.form.rawValue), "family": .text("\(row.kind.family)"),
            "from": .text(row.from.rawValue), "sent": .integer(row.sent), "arrived": .integer(row.arrived),
            "leaked": .integer(row.leaked),
        ]
    }

    /// - Throws: ``ProofRejection`` for another format.
    public init(_ json: JSON) throws(ProofRejection) {
        guard let format = json["format"]?.integer else { throw ProofRejection(.malformed("format")) }
        guard format == Self.format else { throw ProofRejection(.format(format)) }
        func text(_ key: String, in json: JSON?) throws(ProofRejection) -> String {
            guard let text = json?[key]?.text else { throw ProofRejection(.malformed(key)) }
            return text
        }
        func number(_ key: String, in json: JSON) throws(ProofRejection) -> Int {
            guard let number = json[key]?.integer, number >= 0 else { throw ProofRejection(.malformed(key)) }
            return number
        }
        func time(_ key: String) throws(ProofRejection) -> Int {
            let time = try text(key, in: json)
            guard time.contains("T"), let seconds = UTC.seconds(of: time) else { throw ProofRejection(.malformed(key)) }
            return seconds
        }
        let machine = json["machine"]
        guard let secureBoot = machine?["secure-boot"]?.boolean else { throw ProofRejection(.malformed("secure-boot")) }
        self.init(
            image: try text("image", in: json), version: try text("version", in: json),
            profile: try text("profile", in: json), started: try time("started"), ended: try time("ended"),
            machine: Machine(
                firmware: try text("firmware", in: machine), loaderEntry: try text("loader-entry", in: machine),
                secureBoot: secureBoot, accelerator: try text("accelerator", in: machine),
                disk: try text("disk", in: machine), network: try text("network", in: machine)),
            digests: (json["digests"]?.object ?? [:]).compactMapValues(\.text))
        for key in ["controls", "proofs"] {
            guard let list = json[key]?.list else { throw ProofRejection(.malformed(key)) }
            var checks: [Check] = []
            for item in list {
                guard let status = Check.Status(rawValue: try text("status", in: item)) else {
                    throw ProofRejection(.malformed("status"))
                }
                checks.append(
                    Check(
                        try text("name", in: item), status, seen: try text("seen", in: item),
                        milliseconds: try number("milliseconds", in: item)))
            }
            if key == "controls" { controls = checks } else { proofs = checks }
        }
        guard let rows = json["traffic"]?.list else { throw ProofRejection(.malformed("traffic")) }
        for row in rows {
            let family = IPAddress.Family.allCases.first { "\($0)" == row["family"]?.text }
            guard let form = ProbePacket.Form(rawValue: try text("kind", in: row)), let family,
                let from = Proof.Endpoint(rawValue: try text("from", in: row))
            else { throw ProofRejection(.malformed("traffic")) }
            traffic.append(
                Traffic(
                    kind: ProbePacket(form: form, family: family), from: from, sent: try number("sent", in: row),
                    arrived: try number("arrived", in: row), leaked: try number("leaked", in: row)))
        }
        missedFrames = try number("missed-frames", in: json)
        firstForwardedMilliseconds = json["first-forwarded-milliseconds"]?.integer
        guard let claim = json["passed"]?.boolean else { throw ProofRejection(.malformed("passed")) }
        guard claim == passed else { throw ProofRejection(.contradiction) }
    }
}
