import CSystem

/// The time after which a service that exited is started again: it doubles from 0.2 s to a minute.
/// After 30 exits in a row it is ten minutes, and the service is marked failed; no service is ever
/// left alone.
struct RestartDelay {
    private static let first = 200
    private static let longest = 60_000
    private static let ofFailed = 600_000
    /// After a run of this length an exit counts as the first again.
    private static let soundAfter = Interval.scaled(30_000)
    private static let mostExits = 30

    private var last = 0
    /// Exits in a row that came before the service had run for long.
    private var exits = 0
    /// The service was reported as failed, and has not run for long since.
    private(set) var isReported = false

    /// The service exited 30 times in a row.
    private(set) var isFailed = false

    /// Milliseconds from now until the next start, and up to a quarter more, so that services that
    /// ended together don't start together.
    ///
    /// - Parameters:
    ///   - run: milliseconds that the service ran.
    ///   - isEssential: the service is never marked failed: it is tried each minute.
    mutating func next(after run: Int, isEssential: Bool) -> Int {
        if run > Self.soundAfter { self = RestartDelay() }
        exits = min(exits + 1, Self.mostExits)
        isFailed = exits == Self.mostExits && !isEssential
        last = isFailed ? Self.ofFailed : last == 0 ? Self.first : min(last * 2, Self.longest)
        let delay = Interval.scaled(last)
        var random: UInt32 = 0
        csystem_random(&random, 4)
        return delay + Int(random % UInt32(delay / 4 + 1))
    }

    /// Notes that the service was reported as failed.
    ///
    /// - Returns: false when it had been before.
    mutating func report() -> Bool {
        defer { isReported = true }
        return !isReported
    }

    /// Starts again from the shortest delay; the service is not reported once more.
    mutating func retry() { (last, exits, isFailed) = (0, 0, false) }

    /// When a service that was reported as failed counts as sound, by the time of its start.
    func recovery(startedAt: Int) -> Int? { isReported ? startedAt + Self.soundAfter : nil }
}

/// PID 1's intervals, as `vcpe.interval-divisor=` shortens them in tests.
enum Interval {
    private static let divisor = CommandLineOption.number("vcpe.interval-divisor", 1...1000) ?? 1

    static func scaled(_ milliseconds: Int) -> Int { milliseconds / divisor }
}
