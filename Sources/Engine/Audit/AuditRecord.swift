import Documents
import PluginKit

/// The user or the part of the box that made a request.
struct AuditSubject: Hashable {
    var user: String
    /// Nil for what is no user of the box, such as a stick.
    var uid: Int?
    /// Nil for a user without one.
    var role: Role?
    /// Where the request came from: `ssh ADDRESS PORT`, `console TTY`, `service NAME`; empty where
    /// that is unknown.
    var origin: String

    /// The box itself, or what is plugged into it.
    static func box(_ name: String, origin: String = "") -> AuditSubject {
        AuditSubject(user: name, uid: nil, role: nil, origin: origin)
    }
}

/// A line of the audit log.
struct AuditRecord: Hashable {
    enum Outcome: String, CaseIterable {
        /// It was done.
        case done
        /// The role does not allow it, or a signature is missing.
        case refused
        /// It was allowed, and did not succeed.
        case failed
    }

    /// Counted from 1 for the life of the box: a gap tells that records are gone.
    var number = 0
    /// Seconds since 1970 by the box's clock.
    var time: Int
    var subject: AuditSubject
    /// The request, such as `commit`, `login` or `upgrade install`.
    var what: String
    /// What it concerns, without secrets and without documents.
    var details = ""
    var outcome: Outcome
    /// Why it was refused, or failed.
    var reason = ""
    /// How many of the same kind the record stands for.
    var count = 1

    /// Bytes of the details and of the reason, and of each other text.
    static let (mostDetails, mostReason, mostWord) = (300, 300, 64)

    var json: JSON {
        .object([
            "number": .integer(number), "time": .integer(time), "user": .text(subject.user),
            "uid": subject.uid.map { .integer($0) }, "role": subject.role.map { .text($0.rawValue) },
            "origin": subject.origin.isEmpty ? nil : .text(subject.origin), "what": .text(what),
            "details": details.isEmpty ? nil : .text(details), "outcome": .text(outcome.rawValue),
            "reason": reason.isEmpty ? nil : .text(reason), "count": count == 1 ? nil : .integer(count),
        ])
    }

    init(
        time: Int, _ subject: AuditSubject, _ what: String, _ details: String = "", _ outcome: Outcome,
        reason: String = ""
    ) {
        (self.time, self.subject, self.what, self.outcome) = (time, subject, what.cut(to: Self.mostWord), outcome)
        self.subject.user = subject.user.cut(to: Self.mostWord)
        self.subject.origin = subject.origin.cut(to: Self.mostWord)
        self.details = details.cut(to: Self.mostDetails)
        self.reason = reason.cut(to: Self.mostReason)
    }

    init?(_ json: JSON) {
        guard let number = json["number"]?.integer, let time = json["time"]?.integer, let user = json["user"]?.text,
            let what = json["what"]?.text, let outcome = json["outcome"]?.text.flatMap(Outcome.init)
        else { return nil }
        self.init(
            time: time,
            AuditSubject(
                user: user, uid: json["uid"]?.integer, role: json["role"]?.text.flatMap { Role(rawValue: $0) },
                origin: json["origin"]?.text ?? ""),
            what, json["details"]?.text ?? "", outcome, reason: json["reason"]?.text ?? "")
        self.number = number
        count = json["count"]?.integer ?? 1
    }
}

/// Which records an administrator asks for.
struct AuditQuery {
    var user: String?
    var what: String?
    var outcome: AuditRecord.Outcome?
    /// Seconds since 1970.
    var since: Int?
    /// Records with greater numbers alone.
    var after: Int?
    /// Of those that match, the newest.
    var most = 100

    private static let largest = 1000

    /// - Throws: what of a request is not allowed.
    init(_ json: JSON = [:]) throws {
        (user, what) = (json["user"]?.text, json["what"]?.text)
        (since, after) = (json["since"]?.integer, json["after"]?.integer)
        if let name = json["outcome"]?.text {
            guard let outcome = AuditRecord.Outcome(rawValue: name) else {
                throw EngineError.unknown("outcome", name, AuditRecord.Outcome.allCases.map(\.rawValue))
            }
            self.outcome = outcome
        }
        if let number = json["most"] {
            guard let most = number.integer, (1...Self.largest).contains(most) else {
                throw EngineError("most is a number from 1 to \(Self.largest), found \(number.line)")
            }
            self.most = most
        }
    }

    func matches(_ record: AuditRecord) -> Bool {
        // The words of a request, such as `upgrade install`, are found by the first of them.
        (user.map { record.subject.user == $0 } ?? true)
            && (what.map { record.what == $0 || record.what.hasPrefix($0 + " ") } ?? true)
            && (outcome.map { record.outcome == $0 } ?? true) && (since.map { record.time >= $0 } ?? true)
            && (after.map { record.number > $0 } ?? true)
    }
}

extension String {
    /// Its beginning of at most so many bytes: one character may have any number of them.
    func cut(to bytes: Int) -> String {
        utf8.count <= bytes ? self : String(decoding: utf8.prefix(bytes), as: UTF8.self)
    }
}
