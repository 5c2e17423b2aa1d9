import Documents
import Files
import Glibc
import Processes
import Slots
import Updates

/// What changes the other slot, and what is started next.
extension Upgrader {
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
        try Installation(
            release, on: try box.target(),
            attempt: { body throws(UpdateFailure) in try offer.repository.trying(body) }
        ) { name in
            ObservedSource(
                HTTPDeltaSource(offer.repository, "targets/" + offer.client.address(of: name, in: release)), progress)
        }
    }

    /// Brings a release onto the box, and leaves what is started as it is.
    func download(_ version: String?) throws -> UpgradeAnswer {
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
        case .nothing(let why): return UpgradeAnswer(lines: [why], json: ["downloaded": .null])
        }
        let progress = Progress(release.version, path: Self.progress)
        var installation = try installation(of: release, offer, progress)
        try installation.prepare(
            begin: progress.begin, check: { _ in try NextRelease(disk: box.disk, release: release).checkSite() })
        try Self.note(
            release.version, "downloaded",
            more: ["method": .text(installation.method.rawValue), "bytes": .integer(installation.cost.fetched)])
        return UpgradeAnswer(
            lines: [
                "\(release.version) is on the box: \(Self.text(installation))",
                "nothing starts it yet: vcpectl upgrade install",
            ],
            json: json("downloaded", installation))
    }

    private static func text(_ installation: Installation) -> String {
        "\(installation.cost.fetched) bytes in \(installation.cost.requests) requests by \(installation.method.rawValue)"
    }

    private func json(_ deed: String, _ installation: Installation) -> JSON {
        .object([
            deed: .text(installation.release.version), "slot": .text(box.disk.otherSlot),
            "bytes": .integer(installation.cost.fetched), "requests": .integer(installation.cost.requests),
            "method": .text(installation.method.rawValue),
        ])
    }

    func install(_ version: String?, restarts: Bool) throws -> UpgradeAnswer {
        let lock = try Self.lock()
        defer { withExtendedLifetime(lock) {} }
        return try install(version, of: try offered(), restarts: restarts)
    }

    private func install(_ version: String?, of offer: Offer, restarts: Bool) throws -> UpgradeAnswer {
        let release: AvailableRelease
        switch try choose(version, of: offer) {
        case .release(let chosen): release = chosen
        case .nothing(let why): return UpgradeAnswer(lines: [why], json: ["installed": .null])
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
                try release.removeOldState(data: "/data")
                try FileSystem.remove(Self.lastWords)
                try Self.setNoted([
                    "version": .text(release.version), "entry": .integer(number), "from": .text(box.version),
                    "released": .integer(release.released), "failing-probes": .texts(Health.failing()),
                ])
            })
        try Self.note(
            release.version, "installed",
            more: ["method": .text(installation.method.rawValue), "bytes": .integer(installation.cost.fetched)])
        if restarts { try restart() }
        return UpgradeAnswer(
            lines: [
                "\(release.version) is installed into \(box.disk.otherSlot): \(Self.text(installation))",
                restarts ? "the box restarts" : "it is started when the box restarts: vcpectl reboot",
            ],
            json: json("installed", installation))
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
        if let waiting = entries.last(where: { $0.number > box.entry.number && !$0.isBad }) {
            let noted = Self.noted.flatMap { $0["entry"]?.integer == waiting.number ? $0 : nil }
            let version = noted?["version"]?.text ?? Self.version(of: waiting.number) ?? waiting.fileName
            // One that nobody has just installed somebody has passed over in the loader's menu.
            if noted == nil || noted?["restarts"] != nil {
                return [
                    "\(version) is installed, and the loader did not start it: the box is not restarted for it again"
                ]
            }
            if try UpgradeSettings().group != nil, let window = try offered().direction?.window,
                !window.contains(time(nil))
            {
                return []
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
        let falls = Self.entries.filter {
            $0["version"]?.text == newest.version && $0["outcome"]?.text == "fell back"
        }
        // A provider that was away excuses it once.
        if falls.count > 1 || falls.contains(where: { $0["provider-away"] == nil }) {
            return ["\(newest.version) fell back before: it is tried again only when somebody asks for it"]
        }
        return try install(newest.version, of: offer, restarts: true).lines
    }

    /// Has the firmware try this release's boot loader at the next start.
    func tryLoader(restarts: Bool) throws -> UpgradeAnswer {
        let lock = try Self.lock()
        defer { withExtendedLifetime(lock) {} }
        let answer = try LoaderTrial.begin(box)
        if restarts { try restart() }
        return answer
    }

    func cancel() throws -> UpgradeAnswer {
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
        return UpgradeAnswer(lines: ["\(forgotten) is forgotten"], json: ["cancelled": .text(forgotten)])
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

    /// Debian's name of the processor architecture that this program is built for.
    private static var architecture: String {
        #if arch(x86_64)
            "amd64"
        #elseif arch(arm64)
            "arm64"
        #else
            #error("name the architecture as Debian does")
        #endif
    }
}
