import Accounts
import Callers
import Documents
import PluginKit

/// A request that gets into the audit log once it has been carried out, or was refused.
struct AuditedRequest {
    var subject: AuditSubject
    var what: String
    var details: String

    init(_ subject: AuditSubject, _ what: String, _ details: String = "") {
        (self.subject, self.what, self.details) = (subject, what, details)
    }
}

extension EngineError {
    /// A request that the caller's role does not allow.
    init(refusal: String) {
        self.init(refusal)
        isRefusal = true
    }
}

extension Engine {
    /// Adds what came of a request.
    func audit(_ result: Result<JSON, any Error>, of connection: ClientConnection) {
        guard let request = connection.audited else { return }
        connection.audited = nil
        switch result {
        case .success(let answer):
            let commit = answer["commit"]?.integer.map { " commit=\($0)" } ?? ""
            audit.add(request.subject, request.what, hidden(request.details + commit), .done)
        case .failure(let error):
            let isRefusal = (error as? EngineError)?.isRefusal == true
            audit.add(
                request.subject, request.what, hidden(request.details), isRefusal ? .refused : .failed,
                reason: hidden("\(error)"))
        }
    }

    func hidden(_ text: String) -> String {
        // Of an error the first lines tell what it was.
        let lines = text.cut(to: 4000).split(separator: "\n").prefix(2).joined(separator: "; ")
        return configuration.hidingSecrets([lines.cut(to: 1000)])[0]
    }

    /// A record of another program of the box, which its service has the right to add.
    func note(_ json: JSON, of caller: Caller) throws -> JSON {
        guard case .service(let service) = caller.origin, Self.auditors.contains(service) else {
            throw EngineError(refusal: "audit records are added by the services \(Self.auditors.sorted())")
        }
        guard let what = json["what"]?.text, let outcome = json["outcome"]?.text.flatMap(AuditRecord.Outcome.init)
        else { throw EngineError("a record has what and an outcome") }
        var subject = AuditSubject.box(service)
        if let uid = json["uid"]?.integer.flatMap({ UInt32(exactly: $0) }) {
            subject = AuditSubject(
                user: Caller.name(of: uid), uid: Int(uid), role: Caller.role(of: uid),
                origin: CallerOrigin.text(of: Int32(clamping: json["process"]?.integer ?? 0)))
        }
        audit.add(
            subject, what, hidden(json["details"]?.text ?? ""), outcome, reason: hidden(json["reason"]?.text ?? ""))
        return [:]
    }

    /// Services that may add records: that of vcpe-updater.
    private static let auditors: Set<String> = ["upgrade-updater"]
}

extension ClientConnection {
    /// For the audit log: as long as the process lives, its number is its own.
    var subject: AuditSubject {
        AuditSubject(
            user: caller.name, uid: Int(caller.user), role: role, origin: CallerOrigin.text(of: caller.process))
    }
}
