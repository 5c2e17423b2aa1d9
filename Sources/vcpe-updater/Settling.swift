import Clocks
import Documents
import Files
import Glibc
import Processes
import Slots
import Updates

/// What the box's own probes say, and whether it still reaches who brings its releases: without that nobody could mend anything from afar.
enum Health {
    /// The name under which it is listed that none of the repository's addresses answers.
    static let repository = "repository"

    /// Those that fail now, or have not held yet.
    static func failing() -> [String] {
        let own = probes()
        // A stick that brought the release may be gone when it is on trial.
        let settings = try? UpgradeSettings()
        let addresses = (settings?.addresses ?? []).filter { !$0.hasPrefix("file:") }
        guard let settings, !addresses.isEmpty else { return own }
        let source = HTTPSource(settings.repository(addresses, rounds: 1, stallTime: 10), folder: "metadata/")
        return (try? source.read("timestamp.json", most: 1 << 16)) == nil ? own + [repository] : own
    }

    private static func probes() -> [String] {
        guard let result = try? Command("/usr/bin/vcpectl", ["health", "--json"]).run(), result.status == 0,
            let probes = (try? JSON.parse(result.output))?["probes"]?.list
        else { return [engine] }
        return probes.filter { $0["holds"]?.boolean != true }.compactMap { $0["name"]?.text }
    }

    /// The name under which an engine that doesn't answer, or does not follow its document, is listed.
    static let engine = "engine"

    static func engineTrouble() -> String? {
        guard let result = try? Command("/usr/bin/vcpectl", ["status", "--json"]).run(), result.status == 0,
            let status = try? JSON.parse(result.output)
        else { return "the engine doesn't answer" }
        // Then it follows the factory's document in place of the operator's.
        return status["trouble"]?.text ?? status["damage"]?.text
    }
}

/// PID 1 asks by it at each start whether that is good, and has noted what became of the release before.
enum Settling {
    /// PID 1 reads there why not: afterwards, and when it does not want to wait any longer.
    private static let verdict = "/run/vcpe/verdict"

    static func run() -> Int32 {
        // A box that has just come up has better things to do than to read all of its root.
        _ = nice(10)
        do {
            try? FileSystem.remove(verdict)
            try settle()
            return 0
        } catch {
            note("\(error)")
            say("\(error)\n", to: 2)
            return error is NotWell ? 2 : 1
        }
    }

    /// What is wrong with a release on trial.
    private struct NotWell: Error, CustomStringConvertible { var description: String }

    private static func note(_ complaint: String) {
        try? FileSystem.replace(verdict, with: complaint.split(separator: "\n").joined(separator: "; ") + "\n")
    }

    private static func settle() throws {
        // What no verity has seen must not be found good.
        try File("/dev/dm-0").readPieces { _ in }
        let box: UpgradableBox
        // A box that was started without its loader has nothing to settle.
        do { box = try UpgradableBox() } catch { return }
        // A loader that can't write to its partition starts a new release without counting; then the name says so alone.
        // A partition that can't be read says nothing against a release that runs.
        let entry = try? BootPartition(box.boot).entry(box.entry.number)
        if box.disk.isOnTrial || entry?.isGood == false {
            try waitForHealth(besides: Set((Upgrader.noted?["failing-probes"]?.list ?? []).compactMap(\.text)))
            let lock = try BoxDisk.lock()
            defer { withExtendedLifetime(lock) {} }
            var partition = try BootPartition(box.boot)
            try partition.bless(box.entry.number)
            try? FileSystem.remove(Upgrader.lastWords)
            return Upgrader.noteGood(box)
        }
        // What can't be written down is no reason to give up a release that runs.
        do {
            try noteFallback(box)
            try LoaderTrial.settle(box)
        } catch { say("\(error)\n", to: 2) }
    }

    /// Of an upgrade that did not turn out well, and of a release that has failed since it was good: the loader leaves it alone from now on.
    private static func noteFallback(_ box: UpgradableBox) throws {
        let noted = Upgrader.noted
        guard box.disk.isFallback || noted != nil else { return }
        let isAway = wasProviderAway
        let lock = try BoxDisk.lock()
        defer { withExtendedLifetime(lock) {} }
        var partition = try BootPartition(box.boot)
        if box.disk.isFallback {
            for entry in partition.entries where entry.number != box.entry.number && !entry.isBad {
                try partition.condemn(entry.number)
                let version = Upgrader.version(of: entry.number) ?? "entry \(entry.number)"
                try noteFall(of: version, box, isAway)
            }
        }
        guard let noted = Upgrader.noted, let version = noted["version"]?.text,
            let number = noted["entry"]?.integer, number != box.entry.number
        else { return }
        // It was noted before it had an entry; and one that has tries left is still to come.
        switch partition.entry(number) {
        case nil: break
        case let entry? where entry.isBad:
            try noteFall(of: version, box, isAway)
        default: return
        }
        Upgrader.forgetNoted()
    }

    private static func noteFall(of version: String, _ box: UpgradableBox, _ isAway: Bool) throws {
        var more: [String: JSON] = ["reason": .text(reason(box, version))]
        if isAway {
            more["reason"] = .text("\(reason(box, version)), which \(box.version) does not reach either")
            more["provider-away"] = true
        }
        try Upgrader.note(version, "fell back", more: more)
    }

    /// Nothing spoke against the release that fell but that it did not reach its provider, and this one doesn't either: then it may be as good as any.
    private static var wasProviderAway: Bool {
        let words = (try? FileSystem.read(Upgrader.lastWords)).map { String(decoding: $0, as: UTF8.self) } ?? ""
        guard words.split(separator: "\n").first?.hasSuffix(": " + complaint(of: [Health.repository])) == true else {
            return false
        }
        let end = Uptime.seconds + 60
        while Uptime.seconds < end {
            if !Health.failing().contains(Health.repository) { return false }
            sleep(1)
        }
        return true
    }

    private static func complaint(of probes: [String]) -> String {
        "these probes fail: " + probes.joined(separator: ", ")
    }

    /// Why the release before this start was given up.
    private static func reason(_ box: UpgradableBox, _ version: String) -> String {
        let words = (try? FileSystem.read(Upgrader.lastWords)).map { String(decoding: $0, as: UTF8.self) } ?? ""
        if let line = words.split(separator: "\n").first, line.hasPrefix("\(box.image) \(version): ") {
            return String(line)
        }
        return box.disk.lastReason.isEmpty ? "it went down without a word" : box.disk.lastReason
    }

    /// All probes must hold for the site's time on end, but for those that did not before the upgrade either: a provider that is away is no
    /// reason to fall back.
    private static func waitForHealth(besides before: Set<String>) throws {
        let wanted = (try? UpgradeSettings())?.healthTime ?? 60
        var (since, last): (Int?, String) = (nil, "")
        // PID 1 has the last word: it ends a trial in any case after its own time (vcpe.trial).
        let end = Uptime.seconds + max(30, 4 * wanted)
        while Uptime.seconds < end {
            let failing = Health.failing().filter { !before.contains($0) }
            let trouble = Health.engineTrouble()
            if failing.isEmpty, trouble == nil {
                let start = since ?? Uptime.seconds
                since = start
                if Uptime.seconds - start >= wanted { return }
            } else {
                since = nil
                let complaint = trouble ?? complaint(of: failing)
                if complaint != last { note(complaint) }
                last = complaint
            }
            sleep(1)
        }
        throw NotWell(description: last.isEmpty ? "it was not well for \(wanted) s on end" : last)
    }
}
