import Files
import Glibc
import Slots
import Updates

extension Upgrader {
    private func client(_ repository: Repository) throws -> UpdateClient {
        let folder = "\(UpgradableBox.state)/tuf"
        let anchor = try? FileSystem.read(UpgradableBox.trustAnchor)
        let kept = (try? FileSystem.read("\(folder)/root.json")).flatMap { UpdateClient.version(ofRoot: $0) }
        // One that a disk has damaged, or that the image is ahead of, is no root to go on from.
        if let anchor, kept.map({ $0 < UpdateClient.version(ofRoot: anchor) ?? 0 }) ?? true {
            try UpdateClient.initialize(folder, root: anchor)
        } else if kept == nil {
            throw SlotFailure(
                "the image has no \(UpgradableBox.trustAnchor), by which releases are trusted",
                hint: "files: {\(UpgradableBox.trustAnchor): {source: 1.root.json}} in the image's definition")
        }
        return try UpdateClient(
            folder: folder, source: HTTPSource(repository, folder: "metadata/"), now: TrustedTime.now)
    }

    /// What the site's repository has for this box.
    struct Offer {
        var settings: UpgradeSettings
        /// Plugged in until all is fetched.
        var stick: ReleaseStick?
        var repository: Repository
        var client: UpdateClient
        /// The newest first.
        var releases: [AvailableRelease]
        /// When the one that runs was published; 0 for one that its channel doesn't have.
        var own: Int
        var known: KnownReleases
        /// What the director of the box's group says; nil for a box of no group.
        var direction: Direction?
    }

    func offered() throws -> Offer {
        let settings = try UpgradeSettings()
        let stick = ReleaseStick.plugged(for: settings.addresses)
        let repository = settings.repository()
        // One for all addresses: what it saw at one of them holds for the others, too.
        var client = try client(repository)
        let releases: [AvailableRelease] = try repository.trying {
            try client.refresh()
            TrustedTime.note()
            return try client.releases(in: settings.channel, of: box.image, profile: box.profile)
        }
        var known = KnownReleases()
        try known.take(floors: releases)
        var direction: Direction?
        if let group = settings.group {
            let director = settings.director.map { settings.repository([$0]) } ?? repository
            direction = try director.trying {
                try client.direction(of: group, in: director, last: known.counter(of: group))
            }
            if let direction { try known.take(direction) }
        }
        return Offer(
            settings: settings, stick: stick, repository: repository, client: client, releases: releases,
            own: releases.first { $0.version == box.version }?.released ?? 0, known: known,
            direction: direction)
    }
}

/// The time by which metadata are judged: never before the last one at which they were trusted.
enum TrustedTime {
    private static let path = "\(UpgradableBox.state)/time"

    static var now: Int {
        let kept = (try? FileSystem.read(path)).flatMap { Int(String(decoding: $0, as: UTF8.self)) } ?? 0
        return max(time(nil), kept)
    }

    static func note() { try? FileSystem.replace(path, with: "\(now)") }
}
