import Documents
import Files
import Glibc
import PluginKit

/// The audit log of the box: what changed it, what was refused, and who it was (`docs/audit.md`).
///
/// Records of administrators and of the box lie in another file than those of other users, so that
/// these can't push those out. A user's records are limited in their rate: beyond it, those of a
/// kind are counted, and become one record.
final class AuditLog {
    /// Bounds of the log.
    struct Bounds {
        /// Bytes of each of the four files.
        var bytes = 512 << 10
        /// Records of a user at once, and the milliseconds after which one more is allowed.
        var burst = 60
        var pause = 2000
        /// Milliseconds that records are counted before their number is written.
        var counting = 10_000
        /// Kinds that are told apart while they are counted.
        var kinds = 64
    }

    /// What records that are counted together have in common.
    private struct Kind: Hashable {
        var subject: AuditSubject
        var what: String
        var outcome: AuditRecord.Outcome
    }

    private struct Allowance {
        var records: Int
        /// In milliseconds of the kernel's time.
        var since: Int
    }

    private let bounds: Bounds
    private let administrators: AuditFile
    private let others: AuditFile
    private let now: () -> Int
    private let milliseconds: () -> Int
    private var last: Int
    private var allowances: [Int?: Allowance] = [:]
    private var counted: [Kind: AuditRecord] = [:]
    /// When what is counted is written, in milliseconds of the kernel's time.
    private(set) var due: Int?
    /// Reported once until the log can be written again.
    private var isBroken = false

    /// - Parameters:
    ///   - now: seconds since 1970.
    ///   - milliseconds: the kernel's time.
    init(
        folder: String, bounds: Bounds = Bounds(), now: @escaping () -> Int,
        milliseconds: @escaping () -> Int = { Uptime.milliseconds }
    ) {
        (self.bounds, self.now, self.milliseconds) = (bounds, now, milliseconds)
        administrators = AuditFile(path: "\(folder)/administrators", most: bounds.bytes)
        others = AuditFile(path: "\(folder)/others", most: bounds.bytes)
        last = (administrators.records + others.records).map(\.number).max() ?? 0
    }

    /// What programs do often.
    private static let isOften: Set<String> = ["feed-change", "login", "logout"]

    /// Adds a record.
    func add(
        _ subject: AuditSubject, _ what: String, _ details: String = "", _ outcome: AuditRecord.Outcome,
        reason: String = ""
    ) {
        let record = AuditRecord(time: now(), subject, what, details, outcome, reason: reason)
        // What changed the box is never counted together with something else: a change is slow by
        // itself.
        if outcome == .done && !Self.isOften.contains(what) || isAllowed(subject) { return write(record) }
        var kind = Kind(subject: subject, what: what, outcome: outcome)
        if counted[kind] == nil, counted.count >= bounds.kinds {
            // The user is kept, the request is not.
            kind.what = "others"
            kind.subject.origin = ""
        }
        if counted[kind] == nil, counted.count >= 2 * bounds.kinds {
            kind.subject = .box("others")
        }
        if var known = counted[kind] {
            known.count += 1
            known.time = record.time
            counted[kind] = known
        } else {
            var record = record
            (record.subject, record.what) = (kind.subject, kind.what)
            counted[kind] = record
        }
        due = due ?? milliseconds() + bounds.counting
    }

    /// Writes what was counted, when it is due.
    func step() {
        guard let due, milliseconds() >= due else { return }
        flush()
    }

    /// Writes what was counted.
    func flush() {
        for record in counted.values.sorted(by: { ($0.time, $0.what) < ($1.time, $1.what) }) { write(record) }
        (counted, due) = ([:], nil)
    }

    /// The records that match, oldest first.
    func records(_ query: AuditQuery) -> [AuditRecord] {
        let all = (administrators.records + others.records).filter(query.matches)
        return all.sorted { $0.number < $1.number }.suffix(query.most)
    }

    /// A bucket of records for each user that fills again with time.
    private func isAllowed(_ subject: AuditSubject) -> Bool {
        let now = milliseconds()
        var allowance = allowances[subject.uid] ?? Allowance(records: bounds.burst, since: now)
        let more = (now - allowance.since) / bounds.pause
        allowance.records = min(bounds.burst, allowance.records + more)
        allowance.since = allowance.records == bounds.burst ? now : allowance.since + more * bounds.pause
        let isAllowed = allowance.records > 0
        if isAllowed { allowance.records -= 1 }
        allowances[subject.uid] = allowance
        return isAllowed
    }

    private func write(_ record: AuditRecord) {
        var record = record
        last += 1
        record.number = last
        // Records without a user are the box's own.
        let isOthers = record.subject.uid != nil && record.subject.role != .administrator
        do {
            try (isOthers ? others : administrators).append(record)
            isBroken = false
        } catch {
            // The record is in the engine's log at least.
            if !isBroken { Log.say("the audit log can't be written: \(error)") }
            isBroken = true
            Log.say("audit: \(record.json.line)")
        }
    }
}
