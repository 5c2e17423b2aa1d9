import Documents
import Files
import Glibc
import Processes
import Slots
import Updates

/// What the box's own probes say.
enum Health {
    /// Those that fail now, or have not held yet.
    static func failing() -> [String] {
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

/// PID 1 asks by it whether this start is good: of a release on trial, and of one that was started since the other had failed too often.
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
        let box = try Box()
        // What no verity has seen must not be found good.
        try File("/dev/dm-0").readPieces { _ in }
        let isNew = box.disk.isOnTrial
        let before = Set((Upgrade.noted?["failing-probes"]?.list ?? []).compactMap(\.text))
        if isNew { try waitForHealth(besides: before) }
        var partition = try BootPartition(box.boot)
        try partition.bless(box.entry.number)
        // Of an upgrade that did not turn out well, and of a release that has failed since: the loader is to leave it alone.
        for entry in partition.entries where entry.number > box.entry.number && (entry.isBad || box.disk.isFallback) {
            if !entry.isBad { try partition.condemn(entry.number) }
        }
        guard let noted = Upgrade.noted, let version = noted["version"]?.text else { return }
        if version == box.version {
            try Upgrade.note(version, "good")
        } else if !partition.entries.contains(where: { $0.number > box.entry.number && !$0.isBad }) {
            try Upgrade.note(version, "fell back", more: ["reason": .text(reason(box))])
        } else {
            return
        }
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
        // PID 1 has the last word; this only has to be shorter.
        let end = uptime() + max(240, 4 * wanted)
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
