import Documents
import Files
import Glibc
import Processes
import Slots
import Updates

/// What operators ask for.
struct Upgrade {
    private let box: Box
    private static let (journal, installed) = ("\(Box.state)/history", "\(Box.state)/installed")
    /// What an installation is at, and what came of the last look that nobody asked for.
    private static let (progress, look) = ("/run/vcpe/upgrade/progress", "/run/vcpe/upgrade/look")
    /// What PID 1 keeps of a start that failed.
    static let lastWords = "/data/vcpe/failed-start"

    init() throws { box = try Box() }

    // MARK: - Looking

    func status() throws -> Answer {
        let partition = try BootPartition(box.boot)
        let entries = partition.entries
        let isOnTrial = entries.contains { $0.number == box.entry.number && !$0.isGood }
        let waiting = entries.last { $0.number > box.entry.number && !$0.isBad }
        let noted = Self.noted
        var lines = ["\(box.image) \(box.version) (\(box.profile)) runs, from \(box.disk.slot)"]
        var json: [String: JSON] = [
            "image": .text(box.image), "version": .text(box.version), "profile": .text(box.profile),
            "slot": .text(box.disk.slot), "trial": .boolean(isOnTrial),
        ]
        if isOnTrial { lines.append("it is on trial: not found good yet") }
        if waiting != nil, let version = noted?["version"]?.text {
            lines.append("\(version) is installed and waits for a restart of the box: vcpectl reboot")
            json["installed"] = .text(version)
        }
        if let loader = LoaderTrial.status(partition) {
            lines.append(loader)
            json["loader"] = .text(loader)
        }
        // What a process that fell has left says nothing.
        if let step = try? FileSystem.read(Self.progress), try BoxDisk.lock(waits: false) == nil {
            lines.append("under way: " + String(decoding: step, as: UTF8.self))
            json["under-way"] = .text(String(decoding: step, as: UTF8.self))
        }
        if let last = Self.entries.last, last["outcome"]?.text == "fell back" {
            lines.append("\(last["version"]?.text ?? "") fell back: \(last["reason"]?.text ?? "")")
            json["fell-back"] = .object(["version": last["version"] ?? .null, "reason": last["reason"] ?? .null])
        }
        if let settings = try? UpgradeSettings(), let window = settings.looks {
            lines.append("looks by itself, UTC: \(window.text(share: Box.share))")
            json["window"] = .text(window.text(share: Box.share))
        }
        if let look = try? FileSystem.read(Self.look) {
            lines.append("the last time: " + String(decoding: look, as: UTF8.self))
            json["last-look"] = .text(String(decoding: look, as: UTF8.self))
        }
        return Answer(lines: lines, json: .object(json))
    }

    func slots() throws -> Answer {
        let partition = try BootPartition(box.boot)
        var (lines, list): ([String], [JSON]) = ([], [])
        for entry in partition.entries.reversed() {
            let state =
                entry.isGood
                ? "good"
                : entry.isBad
                    ? "given up after \(entry.triesDone) starts" : "on trial, \(entry.triesLeft ?? 0) starts left"
            let runs = entry.number == box.entry.number
            lines.append("\(entry.fileName): \(state)\(runs ? ", runs \(box.version) from \(box.disk.slot)" : "")")
            list.append(
                .object([
                    "entry": .text(entry.fileName),
                    "state": .text(entry.isGood ? "good" : entry.isBad ? "bad" : "trial"),
                    "runs": .boolean(runs), "tries-left": entry.triesLeft.map { .integer($0) },
                ]))
        }
        return Answer(lines: lines, json: .list(list))
    }

    static func history() -> Answer {
        let entries = Self.entries.reversed()
        let lines = entries.map { entry in
            let text = "\(entry["time"]?.text ?? "") \(entry["version"]?.text ?? "") \(entry["outcome"]?.text ?? "")"
            return entry["reason"]?.text.map { "\(text): \($0)" } ?? text
        }
        return Answer(lines: lines, json: .list(Array(entries)))
    }

    func check() throws -> Answer {
        let offer = try offered()
        let newer = offer.releases.filter { $0.released > offer.own }
        var (lines, list): ([String], [JSON]) = ([], [])
        for release in newer {
            let bytes = release.patches(from: box.version).map { ($0.root.length ?? 0) + ($0.uki.length ?? 0) }
            let cost = bytes.map { "\($0) bytes to fetch" } ?? "by what blocks are missing"
            lines.append("\(release.version), published \(UTC.text(of: release.released)): \(cost)")
            list.append(
                .object([
                    "version": .text(release.version), "released": .integer(release.released),
                    "bytes": bytes.map { .integer($0) },
                ]))
        }
        if newer.isEmpty { lines.append("\(box.version) is the newest") }
        if let direction = offer.direction {
            let wanted = direction.releases[box.image] ?? "nothing"
            lines.append("the director wants \(wanted) in the group \(direction.group)")
        }
        return Answer(lines: lines, json: .list(list))
    }

    // MARK: - Installing

    /// What comes of a wish.
    private enum Choice {
        case release(AvailableRelease)
        /// Why there is nothing to do.
        case nothing(String)
    }

    /// - Parameter version: nil for the newest, or what the director wants.
    private func choose(_ version: String?, of offer: Offer) throws -> Choice {
        let releases = offer.releases
        let directed = try directed(offer, asked: version)
        guard
            let release = (directed ?? version).map({ wanted in releases.first { $0.version == wanted } })
                ?? releases.first
        else {
            let known = releases.map(\.version).joined(separator: ", ")
            let wanted = (directed ?? version).map { " \($0)" } ?? ""
            throw SlotFailure(
                "the channel \(offer.settings.channel) has no release\(wanted) of \(box.image) for \(box.profile)",
                hint: known.isEmpty ? nil : "it has \(known)")
        }
        if directed != nil, release.version == box.version {
            return .nothing("\(box.version) is what the director wants")
        }
        if directed != nil, release.released < max(offer.own, offer.known.ran) {
            throw SlotFailure("the director wants \(release.version), which is older than what was found good here")
        }
        if version == nil, release.released <= offer.own {
            return .nothing("\(box.version) is the newest")
        }
        guard release.version != box.version else { throw SlotFailure("\(box.version) runs already") }
        if let floor = offer.known.floor, release.released < floor.released {
            throw SlotFailure(
                "\(release.version) is older than \(floor.version), before which nothing may be installed any more")
        }
        guard release.architecture == Self.architecture else {
            throw SlotFailure("\(release.version) is for \(release.architecture), this box is \(Self.architecture)")
        }
        return .release(release)
    }

    private func installation(of release: AvailableRelease, _ offer: Offer, _ progress: Progress) throws -> Installation
    {
        try Installation(release, on: try box.target()) { name in
            ObservedSource(
                HTTPDeltaSource(offer.repository, "targets/" + offer.client.address(of: name, in: release)), progress)
        }
    }

    /// Brings a release onto the box, and leaves what is started as it is.
    func download(_ version: String?) throws -> Answer {
        let lock = try Self.lock()
        defer { withExtendedLifetime(lock) {} }
        guard try BootPartition(box.boot).entries.allSatisfy({ $0.number <= box.entry.number || $0.isBad }) else {
            throw SlotFailure(
                "a release is installed and waits for a restart: another one would take its place",
                hint: "vcpectl reboot, or vcpectl upgrade cancel")
        }
        let offer = try offered()
        let release: AvailableRelease
        switch try choose(version, of: offer) {
        case .release(let chosen): release = chosen
        case .nothing(let why): return Answer(lines: [why], json: ["downloaded": .null])
        }
        let progress = Progress(release.version, path: Self.progress)
        var installation = try installation(of: release, offer, progress)
        try installation.prepare(
            begin: progress.begin, check: { _ in try NextRelease(disk: box.disk, release: release).checkSite() })
        let cost = installation.cost
        try Self.note(
            release.version, "downloaded",
            more: ["way": .text(installation.way.rawValue), "bytes": .integer(cost.fetched)])
        return Answer(
            lines: [
                "\(release.version) is on the box: \(Self.text(installation))",
                "nothing starts it yet: vcpectl upgrade install",
            ],
            json: [
                "downloaded": .text(release.version), "slot": .text(box.disk.otherSlot),
                "bytes": .integer(cost.fetched),
                "requests": .integer(cost.requests), "way": .text(installation.way.rawValue),
            ])
    }

    private static func text(_ installation: Installation) -> String {
        "\(installation.cost.fetched) bytes in \(installation.cost.requests) requests by \(installation.way.rawValue)"
    }

    func install(_ version: String?, restarts: Bool) throws -> Answer {
        let lock = try Self.lock()
        defer { withExtendedLifetime(lock) {} }
        return try install(version, of: try offered(), restarts: restarts)
    }

    private func install(_ version: String?, of offer: Offer, restarts: Bool) throws -> Answer {
        let release: AvailableRelease
        switch try choose(version, of: offer) {
        case .release(let chosen): release = chosen
        case .nothing(let why): return Answer(lines: [why], json: ["installed": .null])
        }
        let progress = Progress(release.version, path: Self.progress)
        var installation = try installation(of: release, offer, progress)
        Self.forgetNoted()
        // One thing after the other: who falls back must be known.
        _ = try LoaderTrial.forget()
        _ = try installation.run(
            begin: progress.begin,
            check: { number in
                try NextRelease(disk: box.disk, release: release).checkSite()
                // All of it before there is an entry: power may fail right behind that.
                try release.handOver(data: "/data")
                try FileSystem.remove(Self.lastWords)
                try Self.setNoted([
                    "version": .text(release.version), "entry": .integer(number), "from": .text(box.version),
                    "released": .integer(release.released), "failing-probes": .texts(Health.failing()),
                ])
            })
        let cost = installation.cost
        try Self.note(
            release.version, "installed",
            more: ["way": .text(installation.way.rawValue), "bytes": .integer(cost.fetched)])
        if restarts { try restart() }
        return Answer(
            lines: [
                "\(release.version) is installed into \(box.disk.otherSlot): \(Self.text(installation))",
                restarts ? "the box restarts" : "it is started when the box restarts: vcpectl reboot",
            ],
            json: [
                "installed": .text(release.version), "slot": .text(box.disk.otherSlot), "bytes": .integer(cost.fetched),
                "requests": .integer(cost.requests), "way": .text(installation.way.rawValue),
            ])
    }

    /// The version that the director wants; nil for a box of no group.
    private func directed(_ offer: Offer, asked: String?) throws -> String? {
        guard let direction = offer.direction else { return nil }
        guard let wanted = direction.releases[box.image] else {
            throw SlotFailure("the director names no release of \(box.image) for the group \(direction.group)")
        }
        guard asked == nil || asked == wanted else {
            throw SlotFailure(
                "the director wants \(wanted) in the group \(direction.group): \(asked ?? "") is not for this box")
        }
        return wanted
    }

    /// Without being asked: nothing that fell back before is tried again.
    ///
    /// - Returns: what is to be noted.
    func installNewest() throws -> [String] {
        let lock = try Self.lock()
        defer { withExtendedLifetime(lock) {} }
        let entries = try BootPartition(box.boot).entries
        guard entries.allSatisfy({ $0.number != box.entry.number || $0.isGood }) else { return [] }
        if entries.contains(where: { $0.number > box.entry.number && !$0.isBad }) {
            let version = Self.noted?["version"]?.text ?? "a release"
            if Self.noted?["restarts"] != nil {
                return [
                    "\(version) is installed, and the loader did not start it: the box is not restarted for it again"
                ]
            }
            try restart()
            return ["\(version) is started"]
        }
        let offer = try offered()
        let ran = max(offer.own, offer.known.ran)
        if ran == 0 {
            return ["the channel \(offer.settings.channel) has no \(box.version): what is newer, only who asks can say"]
        }
        if let window = offer.direction?.window, !window.contains(time(nil)) { return [] }
        let wanted = try directed(offer, asked: nil)
        let candidates = offer.releases.filter { wanted == nil || $0.version == wanted }
        guard let newest = candidates.first, newest.released > ran else { return [] }
        let fell = Self.entries.contains {
            $0["version"]?.text == newest.version && $0["outcome"]?.text == "fell back"
        }
        if fell { return ["\(newest.version) fell back before: it is tried again only when somebody asks for it"] }
        return try install(newest.version, of: offer, restarts: true).lines
    }

    /// Has the firmware try this release's boot loader at the next start.
    func tryLoader(restarts: Bool) throws -> Answer {
        let lock = try Self.lock()
        defer { withExtendedLifetime(lock) {} }
        let answer = try LoaderTrial.begin(box)
        if restarts { try restart() }
        return answer
    }

    func cancel() throws -> Answer {
        let lock = try Self.lock()
        defer { withExtendedLifetime(lock) {} }
        var forgotten = try LoaderTrial.forget()
        var partition = try BootPartition(box.boot)
        if partition.entries.contains(where: { $0.number > box.entry.number && !$0.isBad }) {
            try partition.keepOnly(box.entry.number)
            let version = Self.noted?["version"]?.text ?? ""
            try Self.note(version, "cancelled")
            Self.forgetNoted()
            forgotten = version
        }
        guard let forgotten else { throw SlotFailure("nothing is installed that was not started yet") }
        return Answer(lines: ["\(forgotten) is forgotten"], json: ["cancelled": .text(forgotten)])
    }

    private func restart() throws {
        if var noted = Self.noted?.object {
            noted["restarts"] = true
            try Self.setNoted(noted)
        }
        try Command("/usr/sbin/reboot", []).check()
    }

    private static func lock() throws -> File {
        if let lock = try BoxDisk.lock(waits: false) { return lock }
        throw SlotFailure("an upgrade is under way already", hint: "vcpectl upgrade status")
    }

    private static let architecture = "amd64"

    // MARK: - The repository

    private func client(_ repository: Repository) throws -> UpdateClient {
        let folder = "\(Box.state)/tuf"
        if !FileSystem.exists("\(folder)/root.json") {
            guard FileSystem.exists(Box.trustAnchor) else {
                throw SlotFailure(
                    "the image has no \(Box.trustAnchor), by which releases are trusted",
                    hint: "files: {\(Box.trustAnchor): {source: 1.root.json}} in the image's definition")
            }
            try UpdateClient.initialize(folder, root: try FileSystem.read(Box.trustAnchor))
        }
        var client = try UpdateClient(
            folder: folder, source: HTTPSource(repository, folder: "metadata/"), now: TrustedTime.now)
        try client.refresh()
        TrustedTime.note()
        return client
    }

    /// What the site's repository has for this box.
    private struct Offer {
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

    private func offered() throws -> Offer {
        let settings = try UpgradeSettings()
        let stick = ReleaseStick.plugged(for: settings.addresses)
        let repository = settings.repository()
        var client = try client(repository)
        let releases = try client.releases(in: settings.channel, of: box.image, profile: box.profile)
        var known = KnownReleases()
        try known.take(floors: releases)
        var direction: Direction?
        if let group = settings.group {
            let director = settings.director.map { settings.repository([$0]) } ?? repository
            direction = try client.direction(of: group, in: director, last: known.counter(of: group))
            if let direction { try known.take(direction) }
        }
        return Offer(
            settings: settings, stick: stick, repository: repository, client: client, releases: releases,
            own: releases.first { $0.version == box.version }?.released ?? 0, known: known,
            direction: direction)
    }

    // MARK: - What came of it

    /// Keeps for people what a look said that nobody asked for.
    static func noteLook(_ lines: [String]) {
        let said = lines.isEmpty ? "nothing to do" : lines.joined(separator: "; ")
        try? FileSystem.replace(look, with: "\(UTC.text(of: time(nil))): \(said)")
    }

    /// Nothing is left to be found out of the release that was installed last: PID 1 has it noted whether it is good, or fell back.
    static var isSettled: Bool {
        guard let box = try? Box(), let partition = try? BootPartition(box.boot) else { return true }
        let own = box.entry.number
        // One that failed after it was good is condemned first: it has the higher number, and would be started again.
        if box.disk.isFallback, partition.entries.contains(where: { $0.number != own && !$0.isBad }) { return false }
        guard let number = noted?["entry"]?.integer else { return true }
        return partition.entry(number)?.isBad != true && partition.entry(own)?.isGood != false
    }

    /// The release that was installed last, until it was found good or fell back.
    static var noted: JSON? { try? JSON.parse(FileSystem.read(installed)) }
    static func forgetNoted() { try? FileSystem.remove(installed) }
    private static func setNoted(_ release: [String: JSON]) throws {
        try FileSystem.replace(installed, with: JSON.object(release).line)
    }

    /// Of the release that runs, which was on trial.
    static func noteGood(_ box: Box) {
        try? note(box.version, "good", more: ["entry": .integer(box.entry.number)])
        if let released = noted?["released"]?.integer {
            var known = KnownReleases()
            try? known.take(ran: released)
        }
        forgetNoted()
    }

    /// What an entry was found good as.
    static func version(of entry: Int) -> String? {
        entries.last { $0["outcome"]?.text == "good" && $0["entry"]?.integer == entry }?["version"]?.text
    }

    private static var entries: [JSON] {
        let text = String(decoding: (try? FileSystem.read(journal)) ?? [], as: UTF8.self)
        return text.split(separator: "\n").compactMap { try? JSON.parse(Array($0.utf8)) }
    }

    /// Adds a line to the history, of which the last hundred are kept.
    static func note(_ version: String, _ outcome: String, more: [String: JSON] = [:]) throws {
        let entry: [String: JSON] = [
            "time": .text(UTC.text(of: time(nil))), "version": .text(version), "outcome": .text(outcome),
        ]
        let all = entries.suffix(99) + [JSON.object(entry.merging(more) { $1 })]
        try FileSystem.makeDirectory(Box.state)
        try FileSystem.replace(journal, with: all.map { $0.line + "\n" }.joined())
    }
}

/// The time by which metadata are judged: never before the last one at which they were trusted.
enum TrustedTime {
    private static let path = "\(Box.state)/time"

    static var now: Int {
        let kept = (try? FileSystem.read(path)).flatMap { Int(String(decoding: $0, as: UTF8.self)) } ?? 0
        return max(time(nil), kept)
    }

    static func note() { try? FileSystem.replace(path, with: "\(now)") }
}
