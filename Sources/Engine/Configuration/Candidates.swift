import Documents
import Files
import PluginKit

/// A document that operators work on before they commit it: one for all of its owner's, as Junos
/// has it. It lies on /run, and goes with a restart of the box.
struct Candidate {
    var text: String
    /// The commit that was active when the work on it began; nil for the factory's document.
    var base: Int?
    /// Who changed it last.
    var user: String

    private var json: JSON {
        .object(["site": .text(text), "base": base.map { .integer($0) }, "user": .text(user)])
    }

    init(text: String, base: Int?, user: String) { (self.text, self.base, self.user) = (text, base, user) }

    /// Nil when there is none.
    init?(at path: String) {
        guard let bytes = try? FileSystem.read(path), let json = try? JSON.parse(bytes), let text = json["site"]?.text
        else { return nil }
        self.init(text: text, base: json["base"]?.integer, user: json["user"]?.text ?? "")
    }

    func save(to path: String) throws { try FileSystem.replace(path, with: json.line + "\n", mode: 0o600) }
}

extension Configuration {
    private func candidate(of document: SiteDocument) -> Candidate? {
        Candidate(at: places.candidate(of: document))
    }

    /// The active text of a document; empty for one that is none.
    func text(of document: SiteDocument) -> String { siteReader.text(of: document, in: documents) }

    /// What operators work on: the active text, when no candidate is there.
    func candidateText(of document: SiteDocument) -> String { candidate(of: document)?.text ?? text(of: document) }

    /// A document as it may be shown.
    func shown(_ text: String) -> String {
        guard let node = try? YAML.read(Array(text.utf8), file: "site"), node.hasSecrets else { return text }
        return node.masked.yaml
    }

    /// The effective document as it may be shown: as it was written, where no other one is merged
    /// with it.
    func shownSite(withOrigins: Bool, at path: DocumentPath) throws -> String {
        if !withOrigins, path.steps.isEmpty, documents.given.allSatisfy({ $0 == .provider }) {
            return shown(text(of: .provider))
        }
        guard let part = site.masked.value(at: path) else {
            throw EngineError("\(path): the document has nothing there")
        }
        return withOrigins ? part.yamlWithOrigins : part.yaml
    }

    /// A document with the secrets that a user saw masked: in the active one, or in the candidate.
    /// A mask never means another owner's secret.
    ///
    /// - Throws: for a mask in a place where no secret is known.
    func meant(_ text: String, as document: SiteDocument, name: String, isCandidate: Bool = false) throws -> String {
        let seen = isCandidate ? candidateText(of: document) : self.text(of: document)
        return try SecretMasks.meant(
            text, name: name, seen: try YAML.read(Array(seen.utf8), file: document.rawValue))
    }

    func setCandidate(_ text: String, of document: SiteDocument, user: String) throws {
        // What can't be read again must not become the candidate.
        _ = try YAML.read(Array(text.utf8), file: "candidate")
        let base = candidate(of: document).map(\.base) ?? activeCommit
        try Candidate(text: text, base: base, user: user).save(to: places.candidate(of: document))
    }

    /// Makes changes to the candidate, all or none. A document that was changed so is written anew: comments are lost.
    func edit(_ edits: [JSON], of document: SiteDocument, user: String) throws {
        var node = try YAML.read(Array(candidateText(of: document).utf8), file: "candidate")
        for edit in edits {
            let path = try DocumentPath(edit["path"]?.text ?? "")
            switch edit["edit"]?.text {
            case "set":
                guard let value = edit["value"]?.text else { throw EngineError("set wants a value, as YAML") }
                node = try node.setting(try YAML.read(Array(value.utf8), file: "the value"), at: path)
            case "delete": node = try node.removing(at: path)
            default: throw EngineError("edits are set and delete, found \(edit.line)")
            }
        }
        try setCandidate(node.yaml, of: document, user: user)
    }

    func discardCandidate(of document: SiteDocument) throws { try FileSystem.remove(places.candidate(of: document)) }

    /// The candidate, to be committed.
    ///
    /// - Parameter isForced: also when another commit came meanwhile, which it undoes.
    func candidateChange(of document: SiteDocument, user: String, isForced: Bool) throws -> Change {
        guard let candidate = candidate(of: document) else {
            throw EngineError("there is nothing to commit: set, delete, edit and load make a candidate")
        }
        guard isForced || isCurrent(candidate, of: document) else {
            throw EngineError(
                "the candidate was begun from \(Self.name(candidate.base)), and \(Self.name(activeCommit)) is active "
                    + "now; vcpectl diff shows what a commit would change, --force makes it, vcpectl discard begins anew"
            )
        }
        return try change(candidate.text, as: document, name: "candidate", user: user)
    }

    /// Removes a candidate that was committed. One that was edited meanwhile goes on from that
    /// commit.
    func candidateIsCommitted(_ text: String, of document: SiteDocument) {
        guard var candidate = candidate(of: document) else { return }
        if candidate.text == text {
            try? discardCandidate(of: document)
            return
        }
        candidate.base = activeCommit
        try? candidate.save(to: places.candidate(of: document))
    }

    /// Whether a candidate's document is as it was when the work on it began. Commits of other
    /// documents don't count.
    private func isCurrent(_ candidate: Candidate, of document: SiteDocument) -> Bool {
        if candidate.base == activeCommit { return true }
        let before = candidate.base.map { try? store.commit($0).documents } ?? SiteDocuments()
        return before.map { $0[document] == documents[document] } ?? false
    }

    /// What differs between two texts of a document: the active one and the candidate, or two
    /// commits.
    func difference(of document: SiteDocument, from old: Int?, to new: Int?) throws -> [String] {
        func committed(_ number: Int) throws -> String {
            siteReader.text(of: document, in: try store.commit(number).documents)
        }
        let before = try old.map(committed) ?? text(of: document)
        let after = try new.map(committed) ?? (old == nil ? candidateText(of: document) : text(of: document))
        return LineDifference.unified(from: shown(before), to: shown(after))
    }
}
