import Disks
import Files
import Glibc

/// A stick with a repository of releases: a file system labelled `vcpe-update` that holds `metadata` and `targets`. It is mounted as long as this lives.
final class ReleaseStick {
    static let folder = "/run/vcpe/upgrade/stick"
    private static let label = "vcpe-update"

    private init() {}

    /// Nil where no address is on a stick, or no such stick is plugged in: then its address doesn't answer, like any other.
    static func plugged(for addresses: [String]) -> ReleaseStick? {
        guard addresses.contains(where: { $0.hasPrefix("file://\(folder)") }) else { return nil }
        let names = (try? FileSystem.list("/sys/class/block")) ?? []
        for name in names {
            // A disk that cannot be read has no repository.
            guard let type = try? LabelledVolume.type(of: "/dev/\(name)", label: label) else { continue }
            guard type == .fat else {
                say("\(name), labelled \(label), is not read: its file system must be FAT\n", to: 2)
                continue
            }
            do {
                try LabelledVolume.mount("/dev/\(name)", at: folder)
                return ReleaseStick()
            } catch { say("\(error)\n", to: 2) }
        }
        return nil
    }

    deinit { umount2(Self.folder, Int32(MNT_DETACH)) }
}
