import Documents
import Files
import Glibc
import Processes
import Slots
import Updates

/// What the box's own probes say, and whether it still reaches who brings its releases: without that nobody could mend anything from afar.
enum Health {
    /// Those that fail now, or have not held yet.
    static func failing() -> [String] {
        let own = probes()
        guard let settings = try? UpgradeSettings(), !settings.repository.hasPrefix("file:") else { return own }
        let source = HTTPSource("\(settings.repository)/metadata", stallTime: 10)
        return (try? source.read("timestamp.json", most: 1 << 16)) == nil ? own + ["repository"] : own
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
        return status["trouble"]?.text
    }
}

/// PID 1 asks by it at each start whether that is good, and has noted what became of the release before.
enum Settling {
    /// PID 1 reads why not there.
    private static let verdict = "/run/vcpe/verdict"

    static func run() -> Int32 {
        do {
            try settle()
            return 0
        } catch {
            try? FileSystem.replace(verdict, with: "\(error)".split(separator: "\n").joined(separator: "; ") + "\n")
            say("\(error)\n", to: 2)
            return 1
        }
    }

    private static func settle() throws {
        // What no verity has seen must not be found good.
        try File("/dev/dm-0").readPieces { _ in }
        let box: Box
        // A box that was started without its loader has nothing to settle.
        do { box = try Box() } catch { return }
        if box.disk.isOnTrial {
            try waitForHealth(besides: Set((Upgrade.noted?["failing-probes"]?.list ?? []).compactMap(\.text)))
            var partition = try BootPartition(box.boot)
            try partition.bless(box.entry.number)
            try? Upgrade.note(box.version, "good")
            return Upgrade.forgetNoted()
        }
        // What can't be written down is no reason to give up a release that runs.
        do { try noteFallback(box) } catch { say("\(error)\n", to: 2) }
    }

    /// Of an upgrade that did not turn out well, and of a release that has failed since it was good: the loader leaves it alone from now on.
    private static func noteFallback(_ box: Box) throws {
        var partition = try BootPartition(box.boot)
        if box.disk.isFallback {
            for entry in partition.entries where entry.number != box.entry.number && !entry.isBad {
                try partition.condemn(entry.number)
                try Upgrade.note("entry \(entry.number)", "fell back", more: ["reason": .text(reason(box))])
            }
        }
        guard let version = Upgrade.noted?["version"]?.text, version != box.version,
            !partition.entries.contains(where: { $0.number > box.entry.number && !$0.isBad })
        else { return }
        try Upgrade.note(version, "fell back", more: ["reason": .text(reason(box))])
        Upgrade.forgetNoted()
    }

    /// Why the release before this start was given up.
    private static func reason(_ box: Box) -> String {
        let words = (try? FileSystem.read("/data/vcpe/failed-start")).map { String(decoding: $0, as: UTF8.self) } ?? ""
        if let line = words.split(separator: "\n").first { return String(line) }
        return box.disk.lastReason.isEmpty ? "it went down without a word" : box.disk.lastReason
    }

    /// All probes must hold for the site's time on end, but for those that did not before the upgrade either: a provider that is away is no
    /// reason to fall back.
    private static func waitForHealth(besides before: Set<String>) throws {
        let wanted = (try? UpgradeSettings())?.healthTime ?? 60
        var (since, last): (Int?, String) = (nil, "")
        // PID 1 has the last word: it ends a trial in any case after its own time (vcpe.trial).
        let end = uptime() + max(30, 4 * wanted)
        while uptime() < end {
            let failing = Health.failing().filter { !before.contains($0) }
            let trouble = Health.engineTrouble()
            if failing.isEmpty, trouble == nil {
                let start = since ?? uptime()
                since = start
                if uptime() - start >= wanted { return }
            } else {
                (since, last) = (nil, trouble ?? "these probes fail: " + failing.joined(separator: ", "))
            }
            sleep(1)
        }
        throw SlotFailure(last.isEmpty ? "it was not well for \(wanted) s on end" : last)
    }

    private static func uptime() -> Int {
        var now = timespec()
        clock_gettime(CLOCK_BOOTTIME, &now)
        return now.tv_sec
    }
}
