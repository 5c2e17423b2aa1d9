import Disks
import Documents
import Glibc
import Planning

/// Commits documents that come from outside, and has a box that runs from a stick installed as they
/// say.
final class OutsideDocuments {
    private let places: Places
    private let configuration: Configuration
    private let audit: AuditLog
    private var sites: OutsideSites
    private var stick: StickInstaller
    /// Reads disks.
    private let background = Background()
    private var sources: [OutsideSites.Source] = []
    /// When the reading of one is abandoned, in milliseconds of the kernel's time: a dying stick
    /// may never answer.
    private var end = 0
    private static let patience = 30_000
    /// The user of such commits.
    private static let user = "stick"

    init(places: Places, configuration: Configuration, audit: AuditLog) {
        (self.places, self.configuration, self.audit) = (places, configuration, audit)
        (sites, stick) = (OutsideSites(places: places), StickInstaller(places: places))
    }

    var polled: [pollfd] { background.polled }

    /// Continues with what has been read.
    func step() { background.step() }

    /// Has read what has appeared since the last call, one source after the other.
    func look() {
        for found in sites.due() { take(found) }
        sources += sites.appeared()
        if background.isBusy, Uptime.milliseconds >= end {
            Log.say("a disk is not read any more: it takes longer than \(Self.patience / 1000) s")
            background.abandon()
        }
        readNext()
        // A commit that may be rolled back must not write disks.
        if configuration.head.pending == nil { stick.follow(configuration.site) }
    }

    /// Reads one source after the other, each as soon as the one before has been read: a box with a
    /// dozen disks must not take a dozen rounds of the loop for a stick.
    private func readNext() {
        guard !background.isBusy, !sources.isEmpty else { return }
        let source = sources.removeFirst()
        end = Uptime.milliseconds + Self.patience
        background.run { [sites] in
            try sites.read(source)
        } then: { result in
            switch result {
            case .success(let found): if let found { self.take(found) }
            case .failure: self.sites.retry(source)
            }
            self.readNext()
        }
    }

    /// Installs the box onto a disk, as an administrator demands.
    func install(onto disk: BlockDevice) throws { try stick.install(onto: disk) }

    /// Commits a document from outside like any other; on a box that has one only when a key of the
    /// image has signed it.
    private func take(_ found: OutsideSites.Found) {
        configuration.commit {
            // All of this may have changed since the document was read.
            if found.text == self.configuration.documents[.provider] { throw Refusal.isActive }
            if let number = self.earlierCommit(of: found) { throw Refusal.wasCommit(number) }
            if let refusal = found.refusal {
                if self.configuration.activeCommit != nil {
                    throw EngineError(refusal: "the box has a document already, and \(refusal)")
                }
                if self.places.requiresSiteKeys {
                    throw EngineError(refusal: "this image takes no document without a signature, and \(refusal)")
                }
            }
            // It is tried again when the commit is active or rolled back.
            if self.configuration.head.pending != nil { throw Refusal.mustWait }
            var change = try self.configuration.change(
                found.text, as: .provider, name: "site.yaml", user: Self.user)
            change.comment = "from \(found.source)"
            return change
        } then: {
            self.report(found, $0)
        }
    }

    /// Why a document is not committed now.
    private enum Refusal: Error {
        case isActive, mustWait
        case wasCommit(Int)
    }

    private func earlierCommit(of found: OutsideSites.Found) -> Int? {
        let store = configuration.store
        return store.numbers.last { number in
            (try? store.commit(number)).map {
                $0.user == Self.user && $0.documents[.provider] == found.text && configuration.wasJudged($0)
            } ?? false
        }
    }

    private func report(_ found: OutsideSites.Found, _ result: Result<Configuration.Committed, any Error>) {
        do {
            let number = try result.get().number
            places.consoles.say("the document of \(found.source) is followed: commit \(number)")
            note(found, .done, "commit=\(number)")
        } catch Refusal.isActive {
            return
        } catch Refusal.mustWait {
            sites.postpone(found)
        } catch Refusal.wasCommit(let number) {
            Log.say("the document of \(found.source) was commit \(number): vcpectl rollback \(number) follows it again")
        } catch let error as InvalidSite where error.problems.allSatisfy({ $0.hasPrefix("absent: ") }) {
            // Ports appear one by one when a box boots.
            if !found.isKnown {
                places.consoles.say("the document of \(found.source) waits for absent ports: \(error)")
            }
            var found = found
            found.isKnown = true
            sites.postpone(found)
        } catch {
            places.consoles.say("the document of \(found.source) is not taken: \(error)")
            note(found, (error as? EngineError)?.isRefusal == true ? .refused : .failed, reason: "\(error)")
        }
    }

    private func note(
        _ found: OutsideSites.Found, _ outcome: AuditRecord.Outcome, _ details: String = "", reason: String = ""
    ) {
        let reason = configuration.hidingSecrets([reason])[0]
        audit.add(.box(Self.user, origin: found.source), "site", details, outcome, reason: reason)
    }
}
