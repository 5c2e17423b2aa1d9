import Disks
import Documents
import Glibc
import Planning

/// Commits documents that come from outside, and has a box that runs from a stick installed as they say.
final class OutsideDocuments {
    private let places: Places
    private let configuration: Configuration
    private var sites: OutsideSites
    private var stick: StickInstaller
    /// Reads disks.
    private let background = Background()
    /// The user of such commits.
    private static let user = "stick"

    init(places: Places, configuration: Configuration) {
        (self.places, self.configuration) = (places, configuration)
        (sites, stick) = (OutsideSites(places: places), StickInstaller(places: places))
    }

    var polled: [pollfd] { background.polled }

    /// Continues with what has been read.
    func step() { background.step() }

    /// Has read what has appeared since the last call.
    func look() {
        for found in sites.due() { take(found) }
        if !background.isBusy {
            let sources = sites.appeared()
            if !sources.isEmpty {
                background.run { [sites] in
                    sites.read(sources)
                } then: { result in
                    for found in (try? result.get()) ?? [] { self.take(found) }
                }
            }
        }
        // A commit that may be rolled back must not write disks.
        if configuration.head.pending == nil { stick.follow(configuration.site) }
    }

    /// Installs the box onto a disk, as an administrator demands.
    func install(onto disk: BlockDevice) throws { try stick.install(onto: disk) }

    /// Commits a document from outside like any other; on a box that has one only when a key of the image has signed it.
    private func take(_ found: OutsideSites.Found) {
        if found.text == configuration.documents[.provider] { return }
        let store = configuration.store
        let before = store.numbers.last { number in
            (try? store.commit(number)).map {
                $0.user == Self.user && $0.documents[.provider] == found.text && configuration.wasJudged($0)
            } ?? false
        }
        if let before {
            return Log.say(
                "the document of \(found.source) was commit \(before): vcpectl rollback \(before) follows it again")
        }
        do {
            if configuration.activeCommit != nil, let refusal = found.refusal {
                throw EngineError("the box has a document already, and \(refusal)")
            }
            // It is tried again when the commit is active or rolled back.
            if configuration.head.pending != nil { return sites.postpone(found) }
            configuration.commit {
                var change = try self.configuration.change(
                    found.text, as: .provider, name: "site.yaml", user: Self.user)
                change.comment = "from \(found.source)"
                return change
            } then: {
                self.report(found, $0)
            }
        } catch {
            places.consoles.say("the document of \(found.source) is not taken: \(error)")
        }
    }

    private func report(_ found: OutsideSites.Found, _ result: Result<Configuration.Committed, any Error>) {
        do {
            places.consoles.say("the document of \(found.source) is followed: commit \(try result.get().number)")
        } catch let error as InvalidSite where error.problems.allSatisfy({ $0.hasPrefix("absent: ") }) {
            // Ports appear one by one when a box boots.
            if !found.isKnown {
                places.consoles.say("the document of \(found.source) waits for what it names: \(error)")
            }
            var found = found
            found.isKnown = true
            sites.postpone(found)
        } catch {
            places.consoles.say("the document of \(found.source) is not taken: \(error)")
        }
    }
}
