import Documents
import Files
import Netlink
import PluginKit

/// The facts of the box: those that the engine observes, and those that services report.
///
/// Reports lie on /run, so that an engine that starts again has them; a box that restarts has none.
final class FactStore {
    /// A report of a service.
    struct Report: Equatable {
        /// Nil for one that was removed: a report that was made before must not bring it back.
        var value: JSON?
        /// When it ends, in milliseconds of the kernel's time; nil for one without an end.
        var ends: Int?
        /// When the reporter was called, in the same. A reporter that had to wait for an engine must
        /// not replace a later report.
        var made: Int
        /// Empty for a report of root.
        var service: String
    }

    private let path: String
    /// By collection and name.
    private(set) var reports: [String: [String: Report]] = [:]
    private var isSaved = true
    /// Changes with what is reported, and not with ends alone.
    private(set) var revision = 0

    /// Bounds of what one service can make the engine keep: objects, bytes of each, and of all.
    static let (mostReports, mostBytes, mostBytesInAll) = (1000, 16 << 10, 256 << 10)

    init(places: Places) {
        path = "\(places.state)/facts"
        guard let bytes = try? FileSystem.read(path), let json = try? JSON.parse(bytes) else { return }
        reports = (json.object ?? [:]).mapValues { ($0.object ?? [:]).compactMapValues { Report($0) } }
    }

    /// When the next report ends, in milliseconds of the kernel's time.
    var nextEnd: Int? { reports.values.flatMap(\.values).compactMap(\.ends).min() }

    /// What services report of some collections, without what has ended.
    func reported(_ wanted: Set<String>) -> Facts {
        let now = Uptime.milliseconds
        return Facts(
            reports.filter { wanted.contains($0.key) }.mapValues { objects in
                objects.filter { $0.value.ends.map { $0 > now } ?? true }.compactMapValues(\.value)
            })
    }

    /// Takes a report.
    ///
    /// - Returns: false for one that is older than what is known.
    /// - Throws: ``EngineError`` for one that can't be kept.
    @discardableResult
    func take(_ report: Report, _ collection: String, _ name: String) throws -> Bool {
        guard !name.isEmpty, name.utf8.count <= 255 else {
            throw EngineError("the name of a fact has 1 to 255 bytes, found \(name.utf8.count)")
        }
        if let value = report.value {
            let bytes = value.line.utf8.count
            guard bytes <= Self.mostBytes else {
                throw EngineError("\(name) in \(collection): it has \(bytes) bytes, allowed are \(Self.mostBytes)")
            }
            if let objection = FactCollections.objection(to: value, in: collection) {
                throw EngineError("\(name) in \(collection): \(objection)")
            }
        }
        if let known = reports[collection]?[name] {
            try checkOwner(known, of: name, collection, report.service)
            if known.made > report.made { return false }
        } else {
            let count = reports.values.reduce(0) { $0 + $1.values.count { $0.service == report.service } }
            guard count < Self.mostReports else {
                throw EngineError("\(report.service) has \(count) facts, and \(Self.mostReports) are allowed")
            }
        }
        if let value = report.value {
            let changed = collection
            let others = reports.flatMap { collection, objects in
                objects.filter { $0.value.service == report.service && ($0.key != name || collection != changed) }
            }
            let bytes = others.reduce(value.line.utf8.count) { $0 + ($1.value.value?.line.utf8.count ?? 0) }
            guard bytes <= Self.mostBytesInAll else {
                throw EngineError(
                    "\(report.service) has \(bytes) bytes of facts, and \(Self.mostBytesInAll) are allowed")
            }
        }
        change { $0[collection, default: [:]][name] = report }
        return true
    }

    /// Removes a report, if it is there. What was made before is ignored from then on, for as long as a
    /// reporter may have waited for an engine.
    func remove(_ collection: String, _ name: String, by service: String, made: Int) throws {
        let end = Uptime.milliseconds + 1000 * FactReport.patienceOfAdapters
        try take(.init(value: nil, ends: end, made: made, service: service), collection, name)
    }

    private func checkOwner(_ known: Report, of name: String, _ collection: String, _ service: String) throws {
        let isOver = known.value == nil || known.ends.map { $0 <= Uptime.milliseconds } ?? false
        guard known.service == service || service.isEmpty || isOver else {
            throw EngineError("\(name) in \(collection) is a report of the service \(known.service)")
        }
    }

    /// Forgets what services have reported that are planned no more.
    func keep(services: Set<String>) {
        keep { $0.service.isEmpty || services.contains($0.service) }
    }

    /// Forgets what has ended.
    ///
    /// - Returns: true when something has.
    func forgetEnded() -> Bool {
        let now = Uptime.milliseconds
        guard let end = nextEnd, end <= now else { return false }
        keep { $0.ends.map { $0 > now } ?? true }
        return true
    }

    private func keep(_ isKept: (Report) -> Bool) {
        change { reports in reports = reports.mapValues { $0.filter { isKept($0.value) } } }
        save()
    }

    private func change(_ body: (inout [String: [String: Report]]) -> Void) {
        let before = reports
        body(&reports)
        reports = reports.filter { !$0.value.isEmpty }
        if reports == before { return }
        isSaved = false
        if reports.mapValues({ $0.mapValues(\.value) }) != before.mapValues({ $0.mapValues(\.value) }) { revision += 1 }
    }

    /// Writes what has changed. What can't be written is valid nevertheless, until the engine ends.
    func save() {
        if isSaved { return }
        let json = JSON.object(reports.mapValues { .object($0.mapValues(\.json)) })
        do {
            try FileSystem.replace(path, with: json.line + "\n", mode: 0o600)
        } catch {
            Log.say("facts can't be written: \(error)")
        }
        isSaved = true
    }
}

extension FactStore.Report {
    fileprivate var json: JSON {
        .object([
            "value": value, "ends": ends.map { .integer($0) }, "made": .integer(made), "service": .text(service),
        ])
    }

    fileprivate init?(_ json: JSON) {
        guard let made = json["made"]?.integer, let service = json["service"]?.text else { return nil }
        self.init(value: json["value"], ends: json["ends"]?.integer, made: made, service: service)
    }
}
