import Documents
import Files

/// The document that operators work on before they commit it: one for all of them, as Junos has it. It lies on /run, and
/// goes with a restart of the box.
struct Candidate {
    var text: String
    /// The commit that stood when the work on it began; nil for the factory's document.
    var base: Int?
    /// Who changed it last.
    var user: String

    private var json: JSON {
        .object(["site": .text(text), "base": base.map { .integer($0) }, "user": .text(user)])
    }

    init(text: String, base: Int?, user: String) { (self.text, self.base, self.user) = (text, base, user) }

    /// Nil when nobody works on one.
    init?(at path: String) {
        guard let bytes = try? FileSystem.read(path), let json = try? JSON.parse(bytes), let text = json["site"]?.text
        else { return nil }
        self.init(text: text, base: json["base"]?.integer, user: json["user"]?.text ?? "")
    }

    func save(to path: String) throws { try FileSystem.replace(path, with: json.line + "\n", mode: 0o600) }
}

extension Engine {
    /// The commit that is followed now, whether it is known to stand or not.
    var followed: Int? { head.pending?.commit ?? head.commit }

    private var candidate: Candidate? { Candidate(at: places.candidate) }

    /// What operators work on: what stands, when nobody has begun.
    var candidateText: String { candidate?.text ?? siteText }

    /// A document as it may be shown.
    func shown(_ text: String) -> String {
        guard let node = try? YAML.read(Array(text.utf8), file: "site"), node.hasSecrets else { return text }
        return node.masked.yaml
    }

    /// A document as it was meant by somebody who saw another masked: of what is followed, or the candidate.
    ///
    /// - Throws: for a mask in a place where nothing is known to stand.
    func meant(_ text: String, name: String, isCandidate: Bool = false) throws -> String {
        try SecretMasks.meant(
            text, name: name,
            seen: isCandidate ? try YAML.read(Array(candidateText.utf8), file: "candidate") : site)
    }

    func setCandidate(_ text: String, user: String) throws {
        // What can't be read again must not become the candidate.
        _ = try YAML.read(Array(text.utf8), file: "candidate")
        let base = candidate.map(\.base) ?? followed
        try Candidate(text: text, base: base, user: user).save(to: places.candidate)
    }

    /// Makes changes to the candidate, all or none. A document that was changed so is written anew: comments are lost.
    func edit(_ edits: [JSON], user: String) throws {
        var node = try YAML.read(Array(candidateText.utf8), file: "candidate")
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
        try setCandidate(node.yaml, user: user)
    }

    func discardCandidate() throws { try FileSystem.remove(places.candidate) }

    /// Commits what was worked on.
    ///
    /// - Parameter isForced: also when another commit came meanwhile, which it takes back.
    func commitCandidate(user: String, comment: String, confirm: Int?, isForced: Bool) throws -> Committed {
        guard let candidate else {
            throw EngineError("there is nothing to commit: set, delete, edit and load make a candidate")
        }
        guard isForced || candidate.base == followed else {
            throw EngineError(
                "the candidate was begun from \(Self.name(candidate.base)), and \(Self.name(followed)) is followed now; "
                    + "vcpectl diff shows what a commit would change, --force makes it, vcpectl discard begins anew")
        }
        let done = try commit(candidate.text, name: "candidate", user: user, comment: comment, confirm: confirm)
        try? discardCandidate()
        return done
    }

    /// What differs between two documents: what is followed and the candidate, or two commits.
    func difference(from old: Int?, to new: Int?) throws -> [String] {
        let before = try old.map { try store.commit($0).site } ?? siteText
        let after = try new.map { try store.commit($0).site } ?? (old == nil ? candidateText : siteText)
        return LineDifference.unified(from: shown(before), to: shown(after))
    }

    /// What a commit changed of the one before it that is kept; all of it, when there is none.
    func changes(of commit: Commit) -> [String] {
        let before = store.numbers.last { $0 < commit.number }.flatMap { try? store.commit($0).site }
        return LineDifference.unified(from: shown(before ?? ""), to: shown(commit.site))
    }
}
