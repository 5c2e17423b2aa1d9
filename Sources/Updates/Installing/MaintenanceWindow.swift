import Documents

/// A daily period, in UTC, in which a box may restart unattended.
public struct MaintenanceWindow: Sendable, Hashable {
    /// Seconds after midnight at which it begins, below 86,400.
    public var from: Int
    /// Seconds after midnight at which it ends, at most 86,400; before ``from`` if it spans
    /// midnight.
    public var to: Int
    /// All day.
    public static let always = MaintenanceWindow(from: 0, to: day)
    /// Seconds between two checks within one window.
    private static let interval = 3600
    /// The same for an hourly window; shorter, so that every hour has a check.
    private static let hourlyInterval = 3000
    /// The minimum length of a director's window, and of its overlap with the site's window, in
    /// seconds, so that each box checks within both.
    public static let minimumLength = 3600
    private static let day = 86_400
    /// The box checks each hour, at its own second of it: the director's window decides when it
    /// installs.
    public var isHourly = false

    public init(from: Int, to: Int) { (self.from, self.to) = (from, to) }

    /// Reads `{"from": SECONDS, "to": SECONDS}`. Nil for anything else, and for times outside of a
    /// day, because a stolen key may have signed the document.
    public init?(_ json: JSON?) {
        guard let from = json?["from"]?.integer, let to = json?["to"]?.integer, (0..<Self.day).contains(from),
            (0...Self.day).contains(to), from != to
        else { return nil }
        self.init(from: from, to: to)
    }

    /// Seconds from its begin to its end.
    public var length: Int { to > from ? to - from : to - from + Self.day }

    /// Seconds since it began; nil outside of it.
    private func second(_ time: Int) -> Int? {
        let second = (time % Self.day - from + Self.day) % Self.day
        return second < length ? second : nil
    }

    /// - Parameter time: seconds since 1970.
    public func contains(_ time: Int) -> Bool { second(time) != nil }

    /// Seconds after the begin at which a box checks first. Boxes are spread over the first three
    /// quarters of the window, so that they do not load the server at once and the last one has
    /// time, too; in an hourly window over the first hour at most.
    ///
    /// - Parameter share: the box's own number, the same at each call.
    public func firstCheck(of share: UInt64) -> Int {
        Int(share % UInt64(max(1, min(length * 3 / 4, isHourly ? Self.hourlyInterval : Self.day))))
    }

    /// The window and the time at which this box checks first, for `upgrade status`.
    public func text(share: UInt64) -> String {
        func clock(_ second: Int) -> String {
            let (hour, minute) = (second % Self.day / 3600, second % 3600 / 60)
            return "\(hour / 10)\(hour % 10):\(minute / 10)\(minute % 10)"
        }
        if length == Self.day { return "all day, this box from \(clock(from + firstCheck(of: share)))" }
        return "from \(clock(from)) to \(clock(to)), this box from \(clock(from + firstCheck(of: share)))"
    }

    /// Whether the box checks the repository now: from its first check on, and again an hour after
    /// a failure, within the window.
    ///
    /// - Parameters:
    ///   - time: seconds since 1970; this clock jumps when it is set.
    ///   - uptime: seconds of a clock that never jumps.
    ///   - lastCheck: the last check on the same clock; nil for none since the box booted.
    ///   - share: the box's own number.
    public func isDue(time: Int, uptime: Int, lastCheck: Int?, share: UInt64) -> Bool {
        guard let second = second(time) else { return false }
        guard let lastCheck else { return second >= firstCheck(of: share) }
        // An hourly window of the whole day does not start again at midnight.
        guard second >= firstCheck(of: share) || isHourly && length == Self.day else { return false }
        return uptime - lastCheck >= (isHourly ? Self.hourlyInterval : Self.interval)
    }
}
