import Documents
import Files
import Glibc

/// The time of day as far as it can be known: a box without a battery starts in the past, and what has ended by date
/// must not begin anew there. The latest time that was known lies on the data partition.
///
/// No clock of hardware and no time source moves it out of the range that can be true: not a day before the image was made,
/// and not ten years after. Beyond them certificates and signed metadata would be valid or expired as an attacker likes.
final class WallClock {
    /// A time that the clock was set to, out of the range.
    struct Refusal: Hashable {
        /// Seconds since 1970.
        var time: Int
        /// The time that the engine set the clock to.
        var instead: Int
    }

    private let path: String
    /// Seconds since 1970 that can be true; nil where the image doesn't say when it was made.
    let range: ClosedRange<Int>?
    /// The latest time that was refused since the engine started.
    private(set) var refusal: Refusal?
    /// The earliest valid time, in seconds since 1970.
    private var floor: Int
    /// What the clock showed as the kernel's own time was zero.
    private var origin: Int
    private let system: SystemClock

    private static let (savedEvery, jump) = (3600, 2)
    /// A clock of hardware may have the local time.
    private static let aDay = 86_400
    /// 365.2425 days each.
    private static let tenYears = 315_569_520

    /// - Parameters:
    ///   - path: of the file with the latest time that was known.
    ///   - built: when the image was made, in seconds since 1970.
    init(path: String, built: Int?, system: SystemClock = SystemClock()) {
        self.path = path
        self.system = system
        range = built.map { $0 - Self.aDay...$0 + Self.tenYears }
        let text = (try? FileSystem.read(path)).map { String(decoding: $0, as: UTF8.self) }
        floor = text.flatMap { Int($0.split(separator: "\n").first ?? "") } ?? 0
        origin = system.now() - system.uptime()
        if let range {
            // A release that was made later than the latest known time, or a file with an invalid time.
            if !range.contains(floor) { floor = range.lowerBound }
            if !range.contains(system.now()) { _ = refuse() }
        }
    }

    /// Seconds since 1970 at which the image was made, of its file's line `built`; nil without it.
    static func built(_ image: String) -> Int? {
        (try? FileSystem.words(image))?["built"].flatMap { UTC.seconds(of: $0) }
    }

    /// Seconds since 1970.
    var now: Int { max(system.now(), floor) }

    /// Notes that time goes on, and whether somebody has set the clock meanwhile. Whoever sets it, within the range, knows
    /// better than what lies on the disk.
    ///
    /// - Returns: true when it was set.
    func tick() -> Bool {
        if let range, !range.contains(system.now()), !refuse() { return false }
        let current = system.now() - system.uptime()
        let wasSet = abs(current - origin) > Self.jump
        origin = current
        let time = system.now()
        if wasSet || time > floor + Self.savedEvery {
            floor = time
            // Without room on the disk the clock alone is asked.
            try? FileSystem.makeDirectory(FileSystem.parent(of: path) ?? "/")
            try? FileSystem.replace(path, with: "\(time)\n")
        }
        return wasSet
    }

    /// Puts the clock back to where it would be, or to the latest time that was known.
    ///
    /// - Returns: false when nobody may set it.
    private func refuse() -> Bool {
        let (time, before) = (system.now(), origin + system.uptime())
        let instead = range?.contains(before) == true ? max(before, floor) : floor
        let words = "the clock was set to \(UTC.text(of: time)), outside of the image's valid range"
        refusal = Refusal(time: time, instead: instead)
        do {
            try system.set(instead)
        } catch {
            Log.say("\(words), and it can't be corrected: \(error)")
            return false
        }
        Log.say("\(words): corrected to \(UTC.text(of: instead))")
        return true
    }
}

/// The kernel's clocks, which tests have of their own.
struct SystemClock {
    /// Seconds since 1970: time(2).
    var now: () -> Int = { Glibc.time(nil) }
    /// Seconds since the start: CLOCK_MONOTONIC of clock_gettime(2).
    var uptime: () -> Int = { Uptime.milliseconds / 1000 }
    /// clock_settime(2) of CLOCK_REALTIME.
    var set: (Int) throws(SystemError) -> Void = { (seconds: Int) throws(SystemError) in
        var time = timespec(tv_sec: seconds, tv_nsec: 0)
        guard clock_settime(CLOCK_REALTIME, &time) == 0 else { throw SystemError("clock_settime", "the clock") }
    }
}
