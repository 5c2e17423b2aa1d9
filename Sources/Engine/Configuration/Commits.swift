import CSystem
import Documents
import Files
import Glibc
import Planning
import PluginKit

/// Changes of the documents: each is one transaction, kept as a commit, and can be rolled back.
extension Configuration {
    /// What came of a commit.
    struct Committed {
        var number: Int
        var added: Int
        var removed: Int
        var warnings: [String]
        /// The probes and services that must be well before it is active for good, or while it
        /// waits for its confirmation.
        var probation: [String]

        var json: JSON {
            [
                "commit": .integer(number), "added": .integer(added), "removed": .integer(removed),
                "warnings": .texts(warnings), "probation": .texts(probation),
            ]
        }
    }

    /// Names this boot of the box.
    static let boot =
        (try? File("/proc/sys/kernel/random/boot_id").read(36, at: 0)).map { String(decoding: $0, as: UTF8.self) } ?? ""

    /// Of the plugins that a document has parts for, by name.
    func versions(for document: Node) -> [String: String] {
        let used = planner.manifests.filter { document[$0.key] != nil }
        return Dictionary(used.map { ($0.name, $0.version) }) { $1 }
    }

    /// Documents that are to be committed.
    struct Change {
        var documents: SiteDocuments
        /// Those that are not the present ones.
        var changed: [SiteDocument]
        /// What errors call a provider's document that is the only one.
        var name: String
        var user: String
        /// The user's role; nil for a source that is no user.
        var role: Role?
        var comment = ""
        /// Seconds within which ``confirm()`` must come, or the documents before are restored.
        /// Another commit with it gives more time and changes nothing of what is restored then; one
        /// without it confirms.
        var confirm: Int?
    }

    /// A commit that waits for its turn.
    struct Request {
        /// Makes the change from the documents that are active when its turn comes.
        let change: () throws -> Change
        let then: (Result<Committed, any Error>) -> Void
        /// Whose request it is; nil for the engine's own, which comes first.
        let connection: ClientConnection?
        /// How often it was planned beside documents that were replaced meanwhile.
        var tries = 0

        var rank: Int { connection?.rank ?? Int.max }
    }

    /// How often a change is planned anew.
    private static let mostTries = 5

    /// A document beside those of other owners.
    func change(_ text: String, as document: SiteDocument, name: String, user: String) throws -> Change {
        Change(documents: try documents.with(text, as: document), changed: [document], name: name, user: user)
    }

    /// Applies documents, and keeps them when that went well. What fails changes nothing, neither
    /// on the box nor on its disk. The loop goes on while they are planned.
    func commit(
        for connection: ClientConnection? = nil, _ change: @escaping () throws -> Change,
        then: @escaping (Result<Committed, any Error>) -> Void
    ) {
        requests.append(Request(change: change, then: then, connection: connection))
    }

    /// Begins with the next commit: of the highest role, and of these the first. Those of callers
    /// that are gone are dropped.
    func startNextChange() {
        requests.removeAll { $0.connection?.isOpen == false }
        guard !isPlanning, var request = requests.removeHighest(by: \.rank) else { return }
        do {
            let (change, begin) = (try request.change(), Uptime.milliseconds)
            // The provider's locks are unknown then.
            if let damage, !change.changed.contains(.provider) {
                throw EngineError(
                    "the stored commits can't be used (\(damage)); the provider's document must be committed first")
            }
            let (revision, base) = (applier.revision, documents)
            let plan = try planning(change.documents, changed: change.changed, name: change.name, checksFiles: true)
            planned = request
            background.run(plan) { result in
                self.planned = nil
                guard self.applier.revision == revision, self.documents == base else {
                    request.tries += 1
                    guard request.tries < Self.mostTries else {
                        return request.then(
                            .failure(EngineError("the configuration changes all the time; try again later")))
                    }
                    return self.requests.insert(request, at: 0)
                }
                request.then(Result { try self.commit(change, try result.get(), since: begin) })
            }
        } catch {
            request.then(.failure(error))
        }
    }

    /// Drops a plan that is being made; its commit is planned anew.
    private func abandonPlan() {
        background.abandon()
        if let planned { requests.insert(planned, at: 0) }
        planned = nil
    }

    private func commit(_ change: Change, _ made: Planned, since begin: Int) throws -> Committed {
        let (confirm, planned) = (change.confirm, made.site)
        let watched = health.watched(in: planned.plan, changed: planned.added, isConfirmed: confirm != nil)
        var commit = Commit(
            number: store.nextNumber, user: change.user, comment: change.comment, documents: change.documents,
            changed: change.changed, added: planned.added.count, removed: planned.removed.count,
            planMilliseconds: Uptime.milliseconds - begin)
        commit.versions = versions(for: planned.site)
        commit.role = change.role
        try apply(planned.plan, as: &commit, confirm: confirm, isWatched: confirm != nil || !watched.isEmpty)
        health.begin(head.pending.map { _ in watched })
        noteTimes(of: planned.plan, at: made.now)
        try? store.prune(but: head)
        (site, documents, appliedDocuments) = (planned.site, change.documents, change.documents)
        (siteName, damage, lastRollback) = (Self.name(commit.number), nil, nil)
        applier.settle(nil)
        facts.hasPlanned(with: made.reading)
        report(commit, confirm: confirm)
        // What planning needed goes back to the kernel.
        csystem_trim_memory()
        return Committed(
            number: commit.number, added: commit.added, removed: commit.removed, warnings: planned.plan.warnings,
            probation: health.probation?.names ?? [])
    }

    /// Writes a commit to the disk as pending, applies its plan, and makes it the active one, or
    /// the pending one that is watched. What fails is undone.
    private func apply(_ plan: Plan, as commit: inout Commit, confirm: Int?, isWatched: Bool) throws {
        let (oldHead, old, begin, number) = (head, applier.applied, Uptime.milliseconds, commit.number)
        func pending(until: Int?) -> Head {
            Head(commit: oldHead.commit, pending: .init(commit: number, boot: Self.boot, until: until))
        }
        var isApplied = false
        do {
            // On the disk before the first change: an engine that starts after a crash rolls it
            // back.
            try store.add(commit)
            try store.setHead(pending(until: nil))
            // Restored when the active document can't be planned any more by then.
            if isWatched { applier.note { $0.fallback = $0.fallback ?? old.plan } }
            let kept = Uptime.milliseconds
            commit.journalMilliseconds = kept - begin
            try applier.apply(plan)
            isApplied = true
            commit.applyMilliseconds = Uptime.milliseconds - kept
            try store.setAfter(commit)
            head =
                confirm.map { pending(until: Uptime.milliseconds + $0 * 1000) }
                ?? (isWatched ? pending(until: nil) : Head(commit: number))
            try store.setHead(head)
        } catch {
            if isApplied { applier.fallBack(to: old.plan) }
            applier.note { $0.fallback = old.fallback }
            head = oldHead
            keep(oldHead)
            try? store.remove(number)
            // A rollback that failed is tried again.
            if !applier.applied.isSettled { applier.settle(error) }
            throw error
        }
        if head.pending == nil { applier.note { $0.fallback = nil } }
    }

    private func report(_ commit: Commit, confirm: Int?) {
        Log.say(
            "commit \(commit.number) by \(commit.user) is applied: \(commit.added) lines added, "
                + "\(commit.removed) removed" + (confirm.map { "; it waits \($0) s for its confirmation" } ?? ""))
        events.add(
            "commit",
            [
                "number": .integer(commit.number), "user": .text(commit.user), "comment": .text(commit.comment),
                "waits": .boolean(head.pending != nil), "changed": .texts(commit.changed.map(\.rawValue)),
            ], at: clock.now)
        notify()
    }

    // MARK: - Confirmation and rollback

    /// A commit that is not known to be good is confirmed or replaced by the next one.
    ///
    /// - Parameter own: documents that the caller may change.
    /// - Throws: when what has changed since the last good commit has other documents.
    func checkPending(changing own: Set<SiteDocument>) throws {
        guard let number = head.pending?.commit else { return }
        let good = head.commit.flatMap { try? store.commit($0).documents } ?? SiteDocuments()
        let others = documents.changes(from: good).filter { !own.contains($0) }
        if others.isEmpty { return }
        throw EngineError(
            "commit \(number) changes the document \(others.map(\.rawValue).joined(separator: ", ")) and is pending; "
                + "try again when it is active or rolled back")
    }

    /// Inspects the probes and services of a pending commit. It is rolled back when one of them
    /// fails, and becomes active when all are good, unless it waits for an operator's confirmation.
    func judge() {
        guard let pending = head.pending else { return }
        switch health.judge(site, hiding: { hidingSecrets([$0])[0] }) {
        case .failed(let reason): rollBack(reason)
        case .good where pending.until == nil:
            do {
                try activate(pending.commit)
            } catch {
                // A restart would roll it back, since its note on the disk says that it is pending.
                rollBack("the active commit can't be noted: \(error)")
            }
        case .lost where pending.until == nil: rollBack("its probes can't be sent any more")
        case .good, .lost, .undecided: break
        }
    }

    private func activate(_ number: Int) throws {
        let next = Head(commit: number)
        try store.setHead(next)
        head = next
        health.end()
        applier.note { $0.fallback = nil }
        events.add("confirmed", ["number": .integer(number)], at: clock.now)
    }

    /// Makes the commit that waits for its confirmation the active one.
    func confirm() throws -> Int {
        guard let pending = head.pending else { throw EngineError("no commit waits for a confirmation") }
        try activate(pending.commit)
        Log.say("commit \(pending.commit) is confirmed")
        return pending.commit
    }

    /// When a commit is rolled back, in milliseconds of the kernel's time.
    var rollbackAt: Int? { head.pending?.until }

    /// Restores what was active before the pending commit, with today's facts.
    func rollBack(_ reason: String) {
        guard let pending = head.pending else { return }
        // A plan that is being made is of other documents.
        abandonPlan()
        health.end()
        forget(pending, reason)
        Log.say("commit \(pending.commit) is rolled back: \(reason)")
        events.add(
            "rolled-back", ["number": .integer(pending.commit), "reason": .text(reason)], at: clock.now)
        do {
            if let number = head.commit { try take(try store.commit(number)) } else { takeFactorySite() }
        } catch {
            damage = "\(error)"
            Log.say("\(Self.name(head.commit)) can't be used: \(error)")
            takeFactorySite()
        }
        let fallback = applier.applied.fallback
        followNow()
        if applier.trouble != nil, let fallback {
            applier.fallBack(to: fallback)
            appliedDocuments = documents
        }
        // What could not be restored is tried again.
        if applier.applied.isSettled { applier.note { $0.fallback = nil } }
        replanIfStuck()
    }

    /// The documents of an earlier commit, to be committed once more.
    ///
    /// - Parameter document: the only one that changes; nil for all.
    func change(backTo number: Int, _ document: SiteDocument?, user: String) throws -> Change {
        let old = try migrated(store.commit(number)).texts
        var wanted = documents
        for document in document.map({ [$0] }) ?? SiteDocument.allCases { wanted[document] = old[document] }
        let changed = wanted.changes(from: documents)
        return Change(
            documents: wanted, changed: changed.isEmpty ? [document ?? .provider] : changed, name: "commit \(number)",
            user: user, comment: "rollback to \(number)")
    }
}
