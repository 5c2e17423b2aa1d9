import Documents

/// A time of day, in UTC, at which a box may restart by itself.
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
    /// The same for an hourly window: less, so that no hour is without a check.
    private static let hourlyInterval = 3000
    /// Seconds that a director's window has at least, and that it shares with the site's: so each
    /// box checks within both.
    public static let least = 3600
    private static let day = 86_400
    /// The box checks each hour, at its own second of it: the director's window decides when it
    /// installs.
    public var isHourly = false

    public init(from: Int, to: Int) { (self.from, self.to) = (from, to) }

    /// Reads `{"from": SECONDS, "to": SECONDS}`. Nil for anything else, and for times that no day
    /// has: the document may be signed by a stolen key.
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

    /// Seconds after the begin at which a box checks first. Each box has a second of its own within
    /// the first three quarters of the window, so that boxes do not load the server at once and the
    /// last one has time, too; in an hourly window within the first hour at most.
    ///
    /// - Parameter share: the box's own number, the same at each call.
    public func turn(of share: UInt64) -> Int {
        Int(share % UInt64(max(1, min(length * 3 / 4, isHourly ? Self.hourlyInterval : Self.day))))
    }

    /// The window and the time at which this box checks first, for `upgrade status`.
    public func text(share: UInt64) -> String {
        func clock(_ second: Int) -> String {
            let (hour, minute) = (second % Self.day / 3600, second % 3600 / 60)
            return "\(hour / 10)\(hour % 10):\(minute / 10)\(minute % 10)"
        }
        if length == Self.day { return "all day, this box from \(clock(from + turn(of: share)))" }
        return "from \(clock(from)) to \(clock(to)), this box from \(clock(from + turn(of: share)))"
    }

    /// Whether the box checks the repository now: from its turn on; after a failure again an hour
    /// later, within the window.
    ///
    /// - Parameters:
    ///   - time: seconds since 1970; this clock may be set and then jumps.
    ///   - uptime: seconds of a clock that never jumps.
    ///   - lastLook: the last check on the same clock; nil for none since the box booted.
    ///   - share: the box's own number.
    public func isDue(time: Int, uptime: Int, lastLook: Int?, share: UInt64) -> Bool {
        guard let second = second(time) else { return false }
        guard let lastLook else { return second >= turn(of: share) }
        // In an hourly window of the whole day, midnight begins nothing new.
        guard second >= turn(of: share) || isHourly && length == Self.day else { return false }
        return uptime - lastLook >= (isHourly ? Self.hourlyInterval : Self.interval)
    }
}
