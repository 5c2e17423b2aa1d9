import Files
import Glibc

/// The time of day as far as it can be known: a box without a battery starts in the past, and what has ended by date
/// must not begin anew there. The latest time that was known lies on the data partition.
final class WallClock {
    private let path: String
    /// Seconds since 1970 before which it can't be.
    private var floor: Int
    /// What the clock showed as the kernel's own time was zero.
    private var origin = WallClock.currentOrigin

    private static let (savedEvery, jump) = (3600, 2)

    init(path: String) {
        self.path = path
        let text = (try? FileSystem.read(path)).map { String(decoding: $0, as: UTF8.self) }
        floor = text.flatMap { Int($0.split(separator: "\n").first ?? "") } ?? 0
    }

    private static var currentOrigin: Int { Glibc.time(nil) - Uptime.milliseconds / 1000 }

    /// Seconds since 1970.
    var now: Int { max(Glibc.time(nil), floor) }

    /// Notes that time goes on, and whether somebody has set the clock meanwhile. Whoever sets it knows better than what
    /// lies on the disk.
    ///
    /// - Returns: true when it was set.
    func tick() -> Bool {
        let current = WallClock.currentOrigin
        let wasSet = abs(current - origin) > Self.jump
        origin = current
        let time = Glibc.time(nil)
        if wasSet || time > floor + Self.savedEvery {
            floor = time
            // Without room on the disk the clock alone is asked.
            try? FileSystem.makeDirectory(FileSystem.parent(of: path) ?? "/")
            try? FileSystem.replace(path, with: "\(time)\n")
        }
        return wasSet
    }
}
