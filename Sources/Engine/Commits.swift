import CSystem
import Documents
import Files
import Glibc
import Planning
import PluginKit

/// Changes of the document that the box follows: each is one transaction, kept as a commit, and can be taken back.
extension Engine {
    /// What came of a commit.
    struct Committed {
        var number: Int
        var added: Int
        var removed: Int
        var warnings: [String]
        /// The probes and services that must hold before it stands, or while it waits for its confirmation.
        var probation: [String]
    }

    /// What a commit must keep before it stands.
    struct Probation {
        var probes: [String: ProbeResource]
        var services = ServiceWatch()
        var held: Set<String> = []
        /// Facts took a probe away before it had held: that says neither yes nor no.
        var isLost = false
        /// When what says neither is put back, in milliseconds of the kernel's time.
        let deadline = Uptime.milliseconds + 60_000

        var names: [String] { probes.keys.sorted() + services.names.map { "service \($0)" } }
    }

    /// Names this start of the box.
    private static let boot =
        (try? File("/proc/sys/kernel/random/boot_id").read(36, at: 0)).map { String(decoding: $0, as: UTF8.self) } ?? ""

    // MARK: - The start

    /// Finds out which document is to be followed. A commit that was not confirmed is none any more after a restart of the
    /// box; one that was being applied as the engine fell is none in any case.
    func readSite() {
        do {
            head = try store.head()
            mendOwnHead()
            returnToOwnHead()
            if let pending = head.pending {
                let waits = pending.until.map { $0 > Uptime.milliseconds } ?? false
                if !waits || pending.boot != Self.boot {
                    forget(pending, pending.boot == Self.boot ? Self.fall : Self.restart)
                }
            }
            takeFirstSite()
            // A disk that can't be tidied up still says what is followed.
            try? store.prune(but: head)
            if let number = followed { return try take(try store.commit(number)) }
        } catch {
            damage = "\(error)"
            Log.say("the commits can't be used: \(error)")
        }
        takeFactorySite()
    }

    /// Of the two places where it is written what stands the engine may have written one: what the other says of that release is older.
    private func mendOwnHead() {
        guard let last = head.release, head.pending == nil, (try? store.head(of: last)) != head else { return }
        do {
            try store.setHead(head, of: last)
        } catch {
            Log.say("which commit stands can't be noted: \(error)")
        }
    }

    /// After another release had the box, and this one has it again without having been installed anew, what stood here before stands again. What
    /// was committed meanwhile is kept, to be committed once more.
    private func returnToOwnHead() {
        guard let release = places.release, head.release != release else { return }
        guard let other = head.release, let own = try? store.head(of: release) else {
            // Its first start, or what stood here before can't be read: what stands is its own from here on.
            if head.pending == nil { keep(head) }
            return
        }
        if own.commit != head.commit {
            Log.say(
                "\(Self.name(own.commit)) stands again, as before release \(other): "
                    + (head.commit.map { "commit \($0) is kept, vcpectl rollback \($0) gives it once more" } ?? ""))
        }
        head = own
        keep(head)
    }

    /// Why a commit that waited is none, through no fault of its own.
    private static let (fall, restart) = ("the engine fell", "the box was restarted")

    /// Whether a commit stood once, or was put back for what it did.
    func wasJudged(_ commit: Commit) -> Bool {
        guard let outcome = commit.outcome else { return commit.number <= (head.commit ?? 0) }
        return outcome != Self.fall && outcome != Self.restart
    }

    private func forget(_ pending: Head.Pending, _ reason: String) {
        Log.say("commit \(pending.commit) was not confirmed: \(Self.name(head.commit)) stands again")
        lastRevert = "commit \(pending.commit) was put back: \(reason)"
        head.pending = nil
        keep(head)
        guard var commit = try? store.commit(pending.commit) else { return }
        commit.outcome = reason
        try? store.setAfter(commit)
    }

    static func name(_ commit: Int?) -> String {
        commit.map { "the operator's document (commit \($0))" } ?? "the factory's document"
    }

    private func take(_ commit: Commit) throws {
        let (nodes, texts) = try migrated(commit)
        (site, documents) = (siteReader.merge(nodes).node, texts)
        siteName = Self.name(commit.number)
    }

    /// The documents of a commit as the plugins of this release take them.
    private func migrated(_ commit: Commit) throws -> (nodes: [SiteDocument: Node], texts: SiteDocuments) {
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

    private func takeFactorySite() {
        (siteName, documents) = (Self.name(nil), SiteDocuments())
        guard FileSystem.exists(places.factorySite) else { return }
        do {
            site = try siteReader.read(documents, name: "").node
        } catch {
            Log.say("\(siteName) can't be read: \(error)")
        }
    }

    /// Notes a head that stands already; one that can't be written is said.
    private func keep(_ head: Head) {
        do {
            try store.setHead(head)
        } catch {
            Log.say("which commit stands can't be noted: \(error)")
        }
    }

    // MARK: - Commits

    /// Of the plugins that a document has parts for, by name.
    func versions(for document: Node) -> [String: String] {
        let used = planner.plugins.map(\.manifest).filter { document[$0.key] != nil }
        return Dictionary(used.map { ($0.name, $0.version) }) { $1 }
    }

    /// Applies a document beside those of other owners.
    func commit(
        _ text: String, as document: SiteDocument, name: String, user: String, comment: String, confirm: Int?
    ) throws -> Committed {
        try commit(
            try documents.with(text, as: document), changed: [document], name: name, user: user, comment: comment,
            confirm: confirm)
    }

    /// Applies documents, and keeps them when that went well. What fails changes nothing, neither
    /// on the box nor on its disk.
    ///
    /// - Parameters:
    ///   - changed: those that are not the present ones.
    ///   - name: what errors call a provider's document that is the only one.
    ///   - confirm: seconds within which ``confirm()`` must come, or the documents before are restored.
    ///     Another commit with it gives more time and changes nothing of what is restored then; one
    ///     without it confirms.
    func commit(
        _ documents: SiteDocuments, changed: [SiteDocument], name: String, user: String, comment: String, confirm: Int?
    ) throws -> Committed {
        let begin = Uptime.milliseconds
        // What a provider had locked is not known then.
        if let damage, !changed.contains(.provider) {
            throw EngineError(
                "the stored commits can't be used (\(damage)); the provider's document must be committed first")
        }
        let planned = try plan(documents, changed: changed, name: name)
        // What an operator names must be there; a box that starts goes on without it.
        guard planned.plan.absent.isEmpty else { throw InvalidSite(problems: planned.plan.absent) }
        try checkFiles(of: planned)
        let (oldHead, old, time) = (head, applied, Uptime.milliseconds)
        let watched = planned.plan.values(ProbeResource.self).filter { probe in
            // Whoever asks for a confirmation wants all to be well; else what held must go on holding.
            // So must what an earlier commit is still watched for.
            let state = probes.states[probe.name]
            return confirm != nil || probation?.probes[probe.name] != nil
                || state?.probe == probe && state?.holds == true
        }
        let services = ServiceWatch(
            planned.plan, changed: planned.added.map(\.resource),
            earlier: probation?.services ?? ServiceWatch(), before: presentServices, logs: serviceLogs)
        let isWatched = !watched.isEmpty || !services.isEmpty
        var commit = Commit(
            number: store.nextNumber, user: user, comment: comment, documents: documents, changed: changed,
            added: planned.added.count, removed: planned.removed.count, planMilliseconds: time - begin)
        commit.versions = versions(for: planned.site)
        func pending(until: Int?) -> Head {
            Head(
                commit: oldHead.commit, pending: .init(commit: commit.number, boot: Self.boot, until: until))
        }
        var isApplied = false
        do {
            // On the disk before the first change: whoever comes after a fall finds that this one is none yet.
            try store.add(commit)
            try store.setHead(pending(until: nil))
            // What is put back when the document that stands can't be planned any more by then.
            if confirm != nil || isWatched { note { $0.fallback = $0.fallback ?? old.plan } }
            let kept = Uptime.milliseconds
            commit.journalMilliseconds = kept - time
            try apply(planned.plan)
            isApplied = true
            commit.applyMilliseconds = Uptime.milliseconds - kept
            try store.setAfter(commit)
            head =
                confirm.map { pending(until: Uptime.milliseconds + $0 * 1000) }
                ?? (isWatched ? pending(until: nil) : Head(commit: commit.number))
            try store.setHead(head)
        } catch {
            if isApplied { standOn(old.plan) }
            note { $0.fallback = old.fallback }
            head = oldHead
            keep(oldHead)
            try? store.remove(commit.number)
            // What could not be put back is tried again.
            if !applied.isSettled { settle(error) }
            throw error
        }
        if head.pending == nil { note { $0.fallback = nil } }
        probation = head.pending.map { _ in
            Probation(probes: Dictionary(watched.map { ($0.name, $0) }) { $1 }, services: services)
        }
        probes.demand(Set(watched.map(\.name)))
        noteTimes(of: planned.plan)
        try? store.prune(but: head)
        (site, self.documents) = (planned.site, documents)
        (siteName, damage, lastRevert) = (Self.name(commit.number), nil, nil)
        appliedDocuments = documents
        settle(nil)
        (plannedFacts, plannedPorts) = (planned.facts, planned.ports)
        Log.say(
            "commit \(commit.number) by \(user) is applied: \(commit.added) lines come, \(commit.removed) go"
                + (confirm.map { "; it waits \($0) s for its confirmation" } ?? ""))
        events.add(
            "commit",
            [
                "number": .integer(commit.number), "user": .text(user), "comment": .text(comment),
                "waits": .boolean(head.pending != nil), "changed": .texts(changed.map(\.rawValue)),
            ], at: now)
        Notification.send("STATUS=policy stands")
        // What planning needed and nobody needs any more goes back to the kernel.
        csystem_trim_memory()
        return Committed(
            number: commit.number, added: commit.added, removed: commit.removed, warnings: planned.plan.warnings,
            probation: probation?.names ?? [])
    }

    /// Inspects the probes and services of a commit that is not known to stand yet. It is rolled back when one of
    /// them fails, and stands when all are good, unless it waits for an operator's confirmation.
    func judge() {
        guard let pending = head.pending, var watched = probation else { return }
        for (name, probe) in watched.probes.sorted(by: { $0.key < $1.key }) {
            guard let state = probes.states[name], state.probe == probe else {
                // Facts have changed what there is to probe: that is no word on the commit.
                watched.probes[name] = nil
                watched.isLost = watched.isLost || !watched.held.contains(name)
                continue
            }
            if state.holds == false {
                return revert("the probe \(name) fails (\(probe.check.words)): \(state.reason ?? "")")
            }
            if state.holds == true { watched.held.insert(name) }
        }
        if let reason = serviceFailure(&watched.services) { return revert(reason) }
        probation = watched
        guard pending.until == nil, watched.probes.keys.allSatisfy(watched.held.contains), watched.services.isGood
        else { return }
        if watched.isLost {
            if Uptime.milliseconds >= watched.deadline { revert("what it was to keep can't be probed any more") }
            return
        }
        do {
            try stand(pending.commit)
        } catch {
            // It is put back by the next start, as what nobody could note.
            revert("it can't be noted that it stands: \(error)")
        }
    }

    private func stand(_ number: Int) throws {
        let next = Head(commit: number)
        try store.setHead(next)
        (head, probation) = (next, nil)
        note { $0.fallback = nil }
        events.add("confirmed", ["number": .integer(number)], at: now)
    }

    /// Makes the commit that waits for it the one that stands.
    func confirm() throws -> Int {
        guard let pending = head.pending else { throw EngineError("no commit waits for a confirmation") }
        try stand(pending.commit)
        Log.say("commit \(pending.commit) is confirmed")
        return pending.commit
    }

    /// When a commit is put back, in milliseconds of the kernel's time.
    var revertAt: Int? { head.pending?.until }

    /// Puts back what stood before the commit that was not confirmed, with today's facts.
    func revert(_ reason: String) {
        guard let pending = head.pending else { return }
        probation = nil
        forget(pending, reason)
        Log.say("commit \(pending.commit) is rolled back: \(reason)")
        events.add("rolled-back", ["number": .integer(pending.commit), "reason": .text(reason)], at: now)
        do {
            if let number = head.commit { try take(try store.commit(number)) } else { takeFactorySite() }
        } catch {
            damage = "\(error)"
            Log.say("\(Self.name(head.commit)) can't be used: \(error)")
            takeFactorySite()
        }
        let fallback = applied.fallback
        follow()
        if trouble != nil, let fallback {
            standOn(fallback)
            appliedDocuments = documents
        }
        // What could not be put back is wanted again.
        if applied.isSettled { note { $0.fallback = nil } }
    }

    /// Commits the documents of an earlier commit once more.
    ///
    /// - Parameter document: the only one that changes; nil for all.
    func rollBack(to number: Int, _ document: SiteDocument?, user: String, confirm: Int?) throws -> Committed {
        let old = try migrated(store.commit(number)).texts
        var wanted = documents
        for document in document.map({ [$0] }) ?? SiteDocument.allCases { wanted[document] = old[document] }
        let changed = wanted.changes(from: documents)
        return try commit(
            wanted, changed: changed.isEmpty ? [document ?? .provider] : changed, name: "commit \(number)", user: user,
            comment: "rollback to \(number)", confirm: confirm)
    }

    /// All commits that are kept, newest first, without their documents.
    func history() -> JSON {
        .list(
            store.numbers.reversed().compactMap { number in
                guard let commit = try? store.commit(number) else { return nil }
                var entries = commit.summary.object ?? [:]
                if number == head.pending?.commit { entries["stands"] = "waits" }
                if number == head.commit { entries["stands"] = head.pending == nil ? "yes" : "fallback" }
                return .object(entries)
            })
    }

    /// The document that the box followed at a time: that of the last commit before it which was not put back.
    func siteFollowed(at time: Int) throws -> Node {
        if time >= now { return site }
        for number in store.numbers.reversed() {
            guard let commit = try? store.commit(number), commit.time <= time else { continue }
            if commit.outcome != nil {
                // It stood for a while, at most for the day that a confirmation may take.
                guard time > commit.time + 86_400 else {
                    throw EngineError(
                        "commit \(number) was tried then, and put back: which of the two the box followed at that time nobody noted"
                    )
                }
                continue
            }
            return try siteReader.read(commit.documents, name: "commit \(number)").node
        }
        // Before the first commit it was the factory's; of older ones than are kept nobody knows.
        guard store.numbers.first ?? 1 == 1 else {
            throw EngineError("the history begins after that: the last \(store.numbers.count) commits are kept")
        }
        return try siteReader.read(SiteDocuments(), name: "").node
    }
}
