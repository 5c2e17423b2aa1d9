import Documents
import PluginKit

/// What is asked, and by whom.
struct EngineRequest {
    let json: JSON
    let user: String
    let role: Role
    let connection: ClientConnection

    func demand(_ least: Role, for what: String) throws {
        guard role >= least else {
            throw EngineError(
                refusal: "\(what) is for the role \(least.rawValue); \(user) has \(role.rawValue)")
        }
    }

    var name: String { json["name"]?.text ?? "site" }
    var comment: String { json["comment"]?.text ?? "" }

    /// The document that is meant: the one that the caller's role works on, unless the request
    /// names another.
    func document() throws -> SiteDocument { try namedDocument() ?? role.document }

    func namedDocument() throws -> SiteDocument? {
        guard let name = json["document"] else { return nil }
        guard let document = name.text.flatMap({ SiteDocument(rawValue: $0) }) else {
            throw EngineError.unknown(
                "document", name.text ?? name.line, SiteDocument.allCases.map(\.rawValue))
        }
        return document
    }

    /// The same for a change.
    ///
    /// - Throws: when the role may not change it.
    func changedDocument() throws -> SiteDocument {
        let document = try document()
        guard role.documents.contains(document) else {
            let own = role.documents.map(\.rawValue).sorted().joined(separator: ", ")
            throw EngineError(
                refusal: "\(user) has the role \(role.rawValue), which may change the document \(own) and not "
                    + "\(document.rawValue); leave out the document, or ask its owner")
        }
        return document
    }

    /// What the audit log says of the request: never its texts, which may hold secrets.
    var auditDetails: String {
        var details = Self.auditedKeys.compactMap { key -> String? in
            switch json[key] {
            case .text(let text)?: "\(key)=\(text)"
            case .integer(let number)?: "\(key)=\(number)"
            case .boolean(let flag)?: "\(key)=\(flag)"
            case .list(let items)?: "\(key)=\(items.compactMap(\.text).joined(separator: " "))"
            default: nil
            }
        }
        let paths = (json["edits"]?.list ?? []).compactMap { edit in
            edit["path"]?.text.map { "\(edit["edit"]?.text ?? "") \($0)" }
        }
        if !paths.isEmpty { details.append("edits=\(paths.joined(separator: ", "))") }
        return details.joined(separator: " ")
    }

    private static let auditedKeys = [
        "plugin", "command", "arguments", "deed", "name", "document", "number", "disk", "confirm", "force", "comment",
        "interface", "from", "to", "protocol", "port",
    ]

    func text(_ key: String) throws -> String {
        guard let text = json[key]?.text else { throw EngineError("the request wants the text \"\(key)\"") }
        return text
    }

    func number(_ key: String) throws -> Int {
        guard let number = json[key]?.integer else { throw EngineError("the request wants the number \"\(key)\"") }
        return number
    }

    /// How long a commit waits for its confirmation, at most a day; nil when it needs none.
    func confirm() throws -> Int? {
        guard let value = json["confirm"] else { return nil }
        guard let seconds = value.integer, (1...86_400).contains(seconds) else {
            throw EngineError("confirm is a number of seconds from 1 to 86400, found \(value.line)")
        }
        return seconds
    }

    func words() -> [String] { (json["arguments"]?.list ?? []).compactMap(\.text) }
}
