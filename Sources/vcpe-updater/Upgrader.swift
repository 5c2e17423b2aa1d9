import Documents
import Files
import Slots
import Updates

/// What operators ask for.
struct Upgrader {
    let box: UpgradableBox
    static let (journal, installed) = ("\(UpgradableBox.state)/history", "\(UpgradableBox.state)/installed")
    /// What an installation is at, and what came of the last look that nobody asked for.
    static let (progress, look) = ("/run/vcpe/upgrade/progress", "/run/vcpe/upgrade/look")
    /// What PID 1 keeps of a start that failed.
    static let lastWords = "/data/vcpe/failed-start"

    init() throws { box = try UpgradableBox() }

    func status() throws -> UpgradeAnswer {
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
            lines.append("looks by itself, UTC: \(window.text(share: UpgradableBox.share))")
            json["window"] = .text(window.text(share: UpgradableBox.share))
        }
        if let look = try? FileSystem.read(Self.look) {
            lines.append("the last time: " + String(decoding: look, as: UTF8.self))
            json["last-look"] = .text(String(decoding: look, as: UTF8.self))
        }
        return UpgradeAnswer(lines: lines, json: .object(json))
    }

    func slots() throws -> UpgradeAnswer {
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
        return UpgradeAnswer(lines: lines, json: .list(list))
    }

    static func history() -> UpgradeAnswer {
        let entries = Self.entries.reversed()
        let lines = entries.map { entry in
            let text = "\(entry["time"]?.text ?? "") \(entry["version"]?.text ?? "") \(entry["outcome"]?.text ?? "")"
            return entry["reason"]?.text.map { "\(text): \($0)" } ?? text
        }
        return UpgradeAnswer(lines: lines, json: .list(Array(entries)))
    }

    func check() throws -> UpgradeAnswer {
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
        return UpgradeAnswer(lines: lines, json: .list(list))
    }
}
