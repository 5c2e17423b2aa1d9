import Documents
import Files
import Glibc
import Slots
import Updates

/// What came of upgrades.
extension Upgrader {
    /// Keeps for people what a look said that nobody asked for.
    static func noteLook(_ lines: [String]) {
        let said = lines.isEmpty ? "nothing to do" : lines.joined(separator: "; ")
        try? FileSystem.replace(look, with: "\(UTC.text(of: time(nil))): \(said)")
    }

    /// Nothing is left to be found out of the release that was installed last: PID 1 has it noted whether it is good, or fell back.
    static var isSettled: Bool {
        guard let box = try? UpgradableBox(), let partition = try? BootPartition(box.boot) else { return true }
        let own = box.entry.number
        // One that failed after it was good is condemned first: it has the higher number, and would be started again.
        if box.disk.isFallback, partition.entries.contains(where: { $0.number != own && !$0.isBad }) { return false }
        guard let number = noted?["entry"]?.integer else { return true }
        return partition.entry(number)?.isBad != true && partition.entry(own)?.isGood != false
    }

    /// The release that was installed last, until it was found good or fell back.
    static var noted: JSON? { try? JSON.parse(FileSystem.read(installed)) }
    static func forgetNoted() {
        try? FileSystem.remove(installed)
        try? FileSystem.remove(reserve)
    }

    static func setNoted(_ release: [String: JSON]) throws {
        // A new release may fill the disk: what became of it is to be written down all the same.
        if !FileSystem.exists(reserve) {
            try FileSystem.replace(reserve, with: [UInt8](repeating: 0xFF, count: 64 << 10))
        }
        try FileSystem.replace(installed, with: JSON.object(release).line)
    }

    /// Room for the history once more.
    private static let reserve = "\(UpgradableBox.state)/reserve"

    /// Of the release that runs, which was on trial.
    static func noteGood(_ box: UpgradableBox) {
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

    static var entries: [JSON] {
        let text = String(decoding: (try? FileSystem.read(journal)) ?? [], as: UTF8.self)
        return text.split(separator: "\n").compactMap { try? JSON.parse(Array($0.utf8)) }
    }

    /// Adds a line to the history, of which the last hundred are kept.
    static func note(_ version: String, _ outcome: String, more: [String: JSON] = [:]) throws {
        let entry: [String: JSON] = [
            "time": .text(UTC.text(of: time(nil))), "version": .text(version), "outcome": .text(outcome),
        ]
        let all = entries.suffix(99) + [JSON.object(entry.merging(more) { $1 })]
        try FileSystem.makeDirectory(UpgradableBox.state)
        let text = all.map { $0.line + "\n" }.joined()
        do { try FileSystem.replace(journal, with: text) } catch {
            try FileSystem.remove(reserve)
            try FileSystem.replace(journal, with: text)
        }
    }
}
