import CSystem
import Files
import Glibc
import Slots

/// Restores the factory's site: removes everything on /data but what identifies the box and
/// protects it from older releases, and the audit log: a reset must not hide what came before it.
struct FactoryReset {
    let places: Places

    /// Of /data/vcpe, what stays.
    private static let kept: Set<String> = ["machine-id", "random-seed", "clock", "upgrade", "audit"]

    /// Has the next start do it; the box restarts at once.
    func demand(by user: String) throws {
        try FileSystem.replace(places.resetMark, with: "by \(user)\n", mode: 0o600)
        do {
            try places.pidOne.tell("reboot")
        } catch {
            try FileSystem.remove(places.resetMark)
            throw error
        }
        Log.say("factory reset, by \(user): the box restarts")
    }

    /// Before anything is read of /data: does what was asked for, by an operator or with the boot entry. A start that is cut
    /// short in the middle goes on with it the next time.
    ///
    /// - Returns: who has demanded it; nil when nothing was reset.
    func runIfWanted() -> String? {
        let done = "\(places.state)/reset"
        // systemd-boot lists both profiles of an image whose starts are counted under one name, and may start either when nobody chose.
        let entry = places.bootWord("entry") ?? ""
        let isMeant = entry.isEmpty || entry == "factory-reset.conf" || entry.hasSuffix("@factory-reset")
        let isChosen = isMeant && (try? KernelCommandLine())?["vcpe.factory-reset"] != nil
        do {
            // The command line stays what it is when the engine starts again.
            if isChosen, !FileSystem.exists(done) {
                try FileSystem.makeDirectory("\(places.data)/vcpe")
                if !FileSystem.exists(places.resetMark) {
                    try FileSystem.replace(places.resetMark, with: "by the boot entry\n", mode: 0o600)
                }
            }
            guard FileSystem.exists(places.resetMark) else { return nil }
            let cause = (try? FileSystem.read(places.resetMark)).map { String(decoding: $0, as: UTF8.self) } ?? ""
            try wipe()
            try FileSystem.replace(done, with: "")
            do {
                try places.removeFlashedSite()
            } catch {
                places.consoles.say("what was flashed with the box can't be removed: \(error)")
            }
            trim()
            places.consoles.say("factory reset: the box follows the factory's document")
            return String(cause.prefix { $0 != "\n" })
        } catch {
            places.consoles.say("factory reset is not complete, and is tried again with the next start: \(error)")
            return nil
        }
    }

    private func wipe() throws {
        let own = "\(places.data)/vcpe"
        for name in try FileSystem.list(places.data) where name != "vcpe" && name != "lost+found" {
            try FileSystem.remove("\(places.data)/\(name)")
        }
        let mark = FileSystem.name(of: places.resetMark)
        for name in try FileSystem.list(own) where !Self.kept.contains(name) && name != mark {
            try FileSystem.remove("\(own)/\(name)")
        }
        try FileSystem.syncDirectory(own)
        try FileSystem.syncDirectory(places.data)
        try FileSystem.remove(places.resetMark)
        try FileSystem.syncDirectory(own)
    }

    /// Has the disk erase what was deleted, where it can. That may take minutes: it is for another
    /// thread.
    private func trim() {
        // A test's data lie on a disk that is others' as well.
        guard let data = try? File(places.data).status(), let above = try? File("\(places.data)/..").status(),
            data.st_dev != above.st_dev
        else { return }
        _ = DetachedThread.start { [path = places.data] in csystem_trim_filesystem(path) }
    }
}
