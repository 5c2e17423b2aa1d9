import Documents
import Files
import Glibc
import Planning
import PluginKit

/// What the commits on the disk say: at the start of the engine, and of earlier times.
extension Configuration {
    /// Finds out which documents are to be followed. A commit that was not confirmed is rolled back
    /// by a restart of the box, and one that was being applied when the engine crashed is rolled
    /// back in any case.
    func readSite() {
        do {
            head = try store.head()
            repairOwnHead()
            returnToOwnHead()
            if let pending = head.pending {
                let waits = pending.until.map { $0 > Uptime.milliseconds } ?? false
                if !waits || pending.boot != Self.boot {
                    forget(pending, pending.boot == Self.boot ? Self.crash : Self.restart)
                }
            }
            takeFirstSite()
            // A disk that can't be tidied up still has the active commit.
            try? store.prune(but: head)
            if let number = activeCommit { return try take(try store.commit(number)) }
        } catch {
            damage = "\(error)"
            Log.say("the commits can't be used: \(error)")
        }
        takeFactorySite()
    }

    /// The active commit is noted for the box and for the release. An engine that crashed between
    /// the two has left the release's note one commit behind.
    private func repairOwnHead() {
        guard let last = head.release, head.pending == nil, (try? store.head(of: last)) != head else { return }
        do {
            try store.setHead(head, of: last)
        } catch {
            Log.say("the active commit can't be noted: \(error)")
        }
    }

    /// After a fall-back to this release, its own last commit is active again. Later commits are
    /// kept in the history.
    private func returnToOwnHead() {
        guard let release = places.release, head.release != release else { return }
        guard let other = head.release, let own = try? store.head(of: release) else {
            // The release boots for the first time, or its own note can't be read: the active
            // commit is its own from here on.
            if head.pending == nil { keep(head) }
            return
        }
        if own.commit != head.commit {
            Log.say(
                "\(Self.name(own.commit)) is active again, as before release \(other): "
                    + (head.commit.map { "commit \($0) is kept, vcpectl rollback \($0) commits it once more" } ?? ""))
        }
        head = own
        keep(head)
    }

    /// Why a commit was rolled back through no fault of its own.
    private static let (crash, restart) = ("the engine crashed", "the box was restarted")

    /// Whether a commit was active, or was rolled back for its effects.
    func wasJudged(_ commit: Commit) -> Bool {
        guard let outcome = commit.outcome else { return commit.number <= (head.commit ?? 0) }
        return outcome != Self.crash && outcome != Self.restart
    }

    /// Notes that a commit was rolled back.
    func forget(_ pending: Head.Pending, _ reason: String) {
        Log.say("commit \(pending.commit) was not confirmed: \(Self.name(head.commit)) is active again")
        lastRollback = "commit \(pending.commit) was rolled back: \(reason)"
        head.pending = nil
        keep(head)
        guard var commit = try? store.commit(pending.commit) else { return }
        commit.outcome = reason
        try? store.setAfter(commit)
    }

    static func name(_ commit: Int?) -> String {
        commit.map { "the operator's document (commit \($0))" } ?? "the factory's document"
    }

    /// Follows the documents of a commit.
    func take(_ commit: Commit) throws {
        let (nodes, texts) = try migrated(commit)
        (site, documents) = (siteReader.merge(nodes).node, texts)
        siteName = Self.name(commit.number)
    }

    /// The documents of a commit as the plugins of this release take them.
    func migrated(_ commit: Commit) throws -> (nodes: [SiteDocument: Node], texts: SiteDocuments) {
        var (nodes, texts) = (
            try siteReader.nodes(of: commit.documents, name: "commit \(commit.number)"), commit.documents
        )
        for document in texts.given {
            guard let node = nodes[document], let migrated = migrate(node, from: commit.versions) else { continue }
            nodes[document] = migrated
            texts[document] = migrated.yaml
        }
        return (nodes, texts)
    }

    /// Nil when nothing changes.
    private func migrate(_ document: Node, from versions: [String: String]) -> Node? {
        let migration = Migration(document, from: versions, by: planner.plugins)
        for line in migration.done + migration.failed { Log.say(line) }
        return migration.document
    }

    func takeFactorySite() {
        (siteName, documents) = (Self.name(nil), SiteDocuments())
        guard FileSystem.exists(places.factorySite) else { return }
        do {
            site = try siteReader.read(documents, name: "").node
        } catch {
            Log.say("\(siteName) can't be read: \(error)")
        }
    }

    /// Notes a head that is in effect already.
    func keep(_ head: Head) {
        do {
            try store.setHead(head)
        } catch {
            Log.say("the active commit can't be noted: \(error)")
        }
    }

    // MARK: - History

    /// The active commit, or the one that is to become active; nil for the factory's document.
    var activeCommit: Int? { head.pending?.commit ?? head.commit }

    /// All commits that are kept, newest first, without their documents.
    func history() -> JSON {
        .list(
            store.numbers.reversed().compactMap { number in
                guard let commit = try? store.commit(number) else { return nil }
                var entries = commit.summary.object ?? [:]
                if number == head.pending?.commit { entries["state"] = "pending" }
                if number == head.commit { entries["state"] = head.pending == nil ? "active" : "fallback" }
                return .object(entries)
            })
    }

    /// What a commit changed of the one before it that is kept; all of it, when there is none.
    func changes(of commit: Commit) -> [String] {
        let before = store.numbers.last { $0 < commit.number }.flatMap { try? store.commit($0).documents }
        return commit.changed.flatMap { document in
            let lines = LineDifference.unified(
                from: shown(before?[document] ?? ""), to: shown(commit.documents[document] ?? ""))
            return commit.changed.count > 1 ? ["--- \(document.rawValue)"] + lines : lines
        }
    }

    /// The document that was in effect at a time: that of the last commit before it which was not
    /// rolled back.
    func site(at time: Int) throws -> Node {
        if time >= clock.now { return site }
        for number in store.numbers.reversed() {
            guard let commit = try? store.commit(number), commit.time <= time else { continue }
            try store.checkComplete(after: number)
            if commit.outcome != nil {
                // It was active for a while, at most for the day that a confirmation may take.
                guard time > commit.time + 86_400 else {
                    throw EngineError(
                        "commit \(number) was tried then, and rolled back: the box has no note of which of the two "
                            + "documents was active at that time")
                }
                continue
            }
            return try siteReader.read(commit.documents, name: "commit \(number)").node
        }
        // Before the first commit it was the factory's; older commits than are kept are unknown.
        guard store.numbers.first ?? 1 == 1 else {
            throw EngineError("the history begins after that: the last \(store.numbers.count) commits are kept")
        }
        return try siteReader.read(SiteDocuments(), name: "").node
    }
}
