import Documents
import Files
import Glibc
import PluginKit

/// Documents that were committed: they are active, or were.
public struct Commit: Sendable, Hashable {
    /// Counted from 1 for the life of the box.
    public var number: Int
    /// Seconds since 1970 by the box's clock, which may have been wrong.
    public var time: Int
    /// Who gave it, by the socket's own word.
    public var user: String
    /// The user's role; nil for a source that is no user, and for a commit of an older release.
    var role: Role?
    public var comment: String
    /// All documents as they were given.
    var documents: SiteDocuments
    /// Those that it changed.
    public var changed: [SiteDocument]
    /// The first of them; empty for one that it removed.
    public var site: String { changed.first.flatMap { documents[$0] } ?? "" }
    /// Lines of the plan that came and that went.
    public var added: Int
    public var removed: Int
    /// How long planning took, keeping it on the disk before the first change, and applying it.
    public var planMilliseconds: Int
    public var journalMilliseconds = 0
    public var applyMilliseconds: Int
    /// The versions of the plugins that planned it, by name.
    public var versions: [String: String] = [:]
    /// Why it was rolled back; nil for one that is active or was.
    public var outcome: String?

    /// Without the document.
    var summary: JSON {
        .object([
            "number": .integer(number), "time": .integer(time), "user": .text(user),
            "role": role.map { .text($0.rawValue) }, "comment": .text(comment),
            "changed": .texts(changed.map(\.rawValue)),
            "added": .integer(added), "removed": .integer(removed), "plan-milliseconds": .integer(planMilliseconds),
            "journal-milliseconds": .integer(journalMilliseconds),
            "apply-milliseconds": .integer(applyMilliseconds), "rolled-back": outcome.map { .text($0) },
        ])
    }

    /// What is known only when it was applied; and what ``CommitStore/prune(but:)`` needs to know,
    /// so that it reads no documents.
    fileprivate var after: JSON {
        .object([
            "changed": .texts(changed.map(\.rawValue)), "role": role.map { .text($0.rawValue) },
            "journal-milliseconds": .integer(journalMilliseconds), "apply-milliseconds": .integer(applyMilliseconds),
            "rolled-back": outcome.map { .text($0) },
        ])
    }

    fileprivate static func changed(_ json: JSON) -> [SiteDocument] {
        (json["changed"]?.list ?? []).compactMap { $0.text.flatMap { SiteDocument(rawValue: $0) } }
    }

    fileprivate static func role(_ json: JSON) -> Role? { json["role"]?.text.flatMap { Role(rawValue: $0) } }

    fileprivate mutating func take(after json: JSON) {
        journalMilliseconds = json["journal-milliseconds"]?.integer ?? journalMilliseconds
        applyMilliseconds = json["apply-milliseconds"]?.integer ?? applyMilliseconds
        outcome = json["rolled-back"]?.text ?? outcome
    }

    var json: JSON {
        var entries = summary.object ?? [:]
        entries["documents"] = documents.json
        entries["versions"] = .object(versions.mapValues { .text($0) })
        return .object(entries)
    }

    init(
        number: Int, user: String, comment: String, documents: SiteDocuments, changed: [SiteDocument], added: Int,
        removed: Int, planMilliseconds: Int
    ) {
        (self.number, time, self.user, self.comment) = (number, Glibc.time(nil), user, comment)
        (self.documents, self.changed, self.added, self.removed) = (documents, changed, added, removed)
        (self.planMilliseconds, applyMilliseconds) = (planMilliseconds, 0)
    }

    init?(_ json: JSON) {
        guard let number = json["number"]?.integer, let time = json["time"]?.integer, let user = json["user"]?.text,
            let comment = json["comment"]?.text, let documents = json["documents"]
        else { return nil }
        (self.number, self.time, self.user, self.comment) = (number, time, user, comment)
        self.documents = SiteDocuments(documents)
        changed = Self.changed(json)
        role = Self.role(json)
        added = json["added"]?.integer ?? 0
        removed = json["removed"]?.integer ?? 0
        planMilliseconds = json["plan-milliseconds"]?.integer ?? 0
        applyMilliseconds = json["apply-milliseconds"]?.integer ?? 0
        outcome = json["rolled-back"]?.text
        versions = json["versions"]?.object?.compactMapValues(\.text) ?? [:]
    }
}

/// Which commit the box follows, and what may become of it. It is the journal, too: on the disk before the first change.
struct Head: Sendable, Hashable {
    /// A commit that is being applied, or that waits for its confirmation.
    struct Pending: Sendable, Hashable {
        var commit: Int
        /// The boot that it belongs to: the next boot rolls it back.
        var boot: String
        /// When it is rolled back, in milliseconds of the kernel's time; nil while it is being
        /// applied.
        var until: Int?
    }

    /// Nil for the factory's document.
    var commit: Int?
    var pending: Pending?
    /// The version of the image that followed it last.
    fileprivate(set) var release: String?

    var json: JSON {
        .object([
            "commit": commit.map { .integer($0) }, "release": release.map { .text($0) },
            "pending": pending.map {
                .object([
                    "commit": .integer($0.commit), "boot": .text($0.boot), "until": $0.until.map { .integer($0) },
                ])
            },
        ])
    }

    init(commit: Int? = nil, pending: Pending? = nil) { (self.commit, self.pending) = (commit, pending) }

    init(_ json: JSON) {
        commit = json["commit"]?.integer
        release = json["release"]?.text
        if let value = json["pending"], let number = value["commit"]?.integer, let boot = value["boot"]?.text {
            pending = Pending(commit: number, boot: boot, until: value["until"]?.integer)
        }
    }
}

/// The commits on the data partition: a file each, and one that says which of them is active. Each
/// is written whole or not at all and carries a checksum; a damaged file is kept under another
/// name, and reported.
struct CommitStore {
    /// Commits that are kept.
    static let kept = 50
    /// Bytes that they may have together: history must not fill what others live on.
    var most = 64 << 20

    let folder: String
    /// The version of the image that writes here; nil for one without.
    let release: String?

    init(folder: String, release: String?) { (self.folder, self.release) = (folder, release) }

    private var headPath: String { "\(folder)/head" }
    private func path(_ number: Int) -> String { "\(folder)/\(number)" }

    // MARK: - Files with a checksum

    private func write(_ json: JSON, to path: String) throws {
        try FileSystem.makeDirectory(folder)
        // A commit has its documents, which may be megabytes.
        var body: [UInt8] = []
        json.write(into: &body)
        body.append(UInt8(ascii: "\n"))
        try FileSystem.replace(path, with: Array("\(Checksum.of(body.dropLast())) ".utf8) + body, mode: 0o600)
        // The name has to outlive a power cut like the contents.
        try FileSystem.syncDirectory(folder)
    }

    /// Nil for a file that isn't there.
    ///
    /// - Throws: for one that is damaged; it is kept aside under another name.
    private func read(_ path: String) throws -> JSON? {
        guard FileSystem.exists(path) else { return nil }
        let text = String(decoding: try FileSystem.read(path), as: UTF8.self)
        let words = text.split(separator: " ", maxSplits: 1)
        let body = words.count == 2 && words[1].hasSuffix("\n") ? String(words[1].dropLast()) : ""
        if words.count == 2, Checksum.of(body) == words[0], let json = try? JSON.parse(body.utf8) { return json }
        try FileSystem.rename(path, to: path + ".damaged")
        throw EngineError("\(path) is damaged; it is kept as \(FileSystem.name(of: path)).damaged")
    }

    // MARK: - Commits

    /// - Throws: when it is damaged, or was: it is not known then which commit is active.
    func head() throws -> Head {
        if let json = try read(headPath) { return Head(json) }
        guard FileSystem.exists(headPath + ".damaged") else { return Head() }
        throw EngineError("\(headPath) is damaged; it is kept as head.damaged")
    }

    /// The active commit, and beside it the last one that was active under this release: another
    /// release may have the box meanwhile.
    func setHead(_ head: Head) throws {
        var head = head
        head.release = release
        try write(head.json, to: headPath)
        if let release, head.pending == nil { try setHead(head, of: release) }
    }

    /// The commit that was active last under a release.
    func setHead(_ head: Head, of release: String) throws { try write(head.json, to: headPath(of: release)) }

    /// A version has no slash (`docs/image-definition.md`); `vcpe-updater` knows this name.
    private func headPath(of release: String) -> String { "\(headPath).\(release)" }

    /// The commit that was active last under a release; nil when it never had the box, or was
    /// installed anew since.
    func head(of release: String) throws -> Head? { try read(headPath(of: release)).map { Head($0) } }

    /// Commits that a release may come back to.
    private var heads: Set<Int> {
        let names = ((try? FileSystem.list(folder)) ?? []).filter { $0.hasPrefix("head.") && !$0.hasSuffix(".damaged") }
        return Set(names.compactMap { (try? read("\(folder)/\($0)"))?["commit"]?.integer })
    }

    /// - Throws: for one that isn't there, or is damaged.
    func commit(_ number: Int) throws -> Commit {
        guard let json = try read(path(number)), var commit = Commit(json) else {
            throw EngineError("there is no commit \(number); vcpectl history lists them")
        }
        if let after = try? read(afterPath(number)) { commit.take(after: after) }
        return commit
    }

    /// What became of a commit: beside it, so that its document is written once.
    private func afterPath(_ number: Int) -> String { "\(path(number)).after" }

    func add(_ commit: Commit) throws { try write(commit.json, to: path(commit.number)) }

    func setAfter(_ commit: Commit) throws { try write(commit.after, to: afterPath(commit.number)) }

    func remove(_ number: Int) throws {
        try FileSystem.remove(path(number))
        try FileSystem.remove(afterPath(number))
    }

    /// Of all that are kept, oldest first.
    var numbers: [Int] { ((try? FileSystem.list(folder)) ?? []).compactMap { Int($0) }.sorted() }

    /// - Throws: when commits between one and the next that is kept are missing: at a time between
    ///   the two,
    ///   one of them may have been active.
    func checkComplete(after number: Int) throws {
        guard let next = numbers.first(where: { $0 > number }), next != number + 1 else { return }
        let missing = next == number + 2 ? "commit \(number + 1) is" : "commits \(number + 1) to \(next - 1) are"
        throw EngineError("\(missing) not kept any more, and may have been active at that time")
    }

    /// One that no commit ever had: also not one whose file is damaged.
    var nextNumber: Int {
        let all = ((try? FileSystem.list(folder)) ?? []).compactMap { name in
            Int(name.split(separator: ".").first ?? "")
        }
        return (all.max() ?? 0) + 1
    }

    /// Removes old commits, and what a crash left half written. The newest commits of each document
    /// have an equal share of the room: one owner's commits can't push those of another out.
    /// Commits of operators, which plugins' commands make, count for none of them, and have a
    /// tenth. The newest of all have what the shares leave.
    func prune(but head: Head) throws {
        guard FileSystem.exists(folder) else { return }
        try FileSystem.removeLeftovers(in: folder)
        let stored = numbers.reversed().map { number in
            (number: number, size: Int((try? File(path(number)).status().st_size) ?? 0))
        }
        guard stored.count > Self.kept || stored.reduce(0, { $0 + $1.size }) > most else { return }
        var keeps = heads.union([head.commit, head.pending?.commit].compactMap { $0 })
        let classes = Dictionary(uniqueKeysWithValues: stored.map { ($0.number, self.classes(of: $0.number)) })
        let owners = SiteDocument.allCases.map { (RetentionClass.owner($0), SiteDocument.allCases.count) }
        for (retentionClass, share) in owners + [(.operators, 10)] {
            var (count, size) = (0, 0)
            for commit in stored where classes[commit.number]?.contains(retentionClass) == true {
                (count, size) = (count + 1, size + commit.size)
                if count > Self.kept / share || size > most / share { break }
                keeps.insert(commit.number)
            }
        }
        let kept = stored.filter { keeps.contains($0.number) }
        var (count, size) = (kept.count, kept.reduce(0) { $0 + $1.size })
        for commit in stored where !keeps.contains(commit.number) {
            (count, size) = (count + 1, size + commit.size)
            // Of the others, all that are older than the first without room.
            if count > Self.kept || size > most { try remove(commit.number) }
        }
    }

    /// Commits whose newest have a share of the room.
    private enum RetentionClass: Hashable {
        case owner(SiteDocument)
        case operators
    }

    /// Those of a commit, by its role and the documents that it changed. One that was never applied
    /// has nothing beside its own file.
    private func classes(of number: Int) -> Set<RetentionClass> {
        let after = (try? read(afterPath(number))) ?? nil
        guard let json = after ?? (try? read(path(number))) ?? nil else { return [] }
        if Commit.role(json) == .operator { return [.operators] }
        return Set(Commit.changed(json).map { .owner($0) })
    }
}
