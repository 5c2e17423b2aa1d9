import Documents

/// A time of day, in UTC, at which a box may restart by itself.
public struct MaintenanceWindow: Sendable, Hashable {
    /// Seconds after midnight at which it begins.
    public var from: Int
    /// Seconds after midnight at which it is over; before ``from`` where it goes over midnight.
    public var to: Int
    /// All day.
    public static let always = MaintenanceWindow(from: 0, to: day)
    /// Seconds between two looks within one window.
    private static let interval = 3600
    /// The same of an hourly one: less, so that no hour is without a look.
    private static let hourlyInterval = 3000
    /// Seconds that a director's window has at least, and that it has in common with the site's: so each box comes within both.
    public static let least = 3600
    private static let day = 86_400
    /// Boxes come one after the other within the first hour, and then each hour: somebody else says within which one they install.
    public var isHourly = false

    public init(from: Int, to: Int) { (self.from, self.to) = (from, to) }

    /// Reads `{"from": SECONDS, "to": SECONDS}`.
    public init?(_ json: JSON?) {
        guard let from = json?["from"]?.integer, let to = json?["to"]?.integer else { return nil }
        self.init(from: from, to: to)
    }

    /// Seconds that it is open.
    public var length: Int { to > from ? to - from : to - from + Self.day }

    /// Seconds since it was opened; nil while it is closed.
    private func second(_ time: Int) -> Int? {
        let second = (time % Self.day - from + Self.day) % Self.day
        return second < length ? second : nil
    }

    /// - Parameter time: in seconds since 1970.
    public func contains(_ time: Int) -> Bool { second(time) != nil }

    /// Seconds after it is opened at which a box looks first. Not all boxes come at once: each has its own second within the first three quarters
    /// of the window, so that the last one has time too; of an hourly one, within the first hour at most.
    ///
    /// - Parameter share: the box's own number, the same at each call.
    public func turn(of share: UInt64) -> Int {
        Int(share % UInt64(max(1, min(length * 3 / 4, isHourly ? Self.hourlyInterval : Self.day))))
    }

    /// For people, with the time at which this box looks first.
    public func text(share: UInt64) -> String {
        func clock(_ second: Int) -> String {
            let (hour, minute) = (second % Self.day / 3600, second % 3600 / 60)
            return "\(hour / 10)\(hour % 10):\(minute / 10)\(minute % 10)"
        }
        if length == Self.day { return "all day, this box from \(clock(from + turn(of: share)))" }
        return "from \(clock(from)) to \(clock(to)), this box from \(clock(from + turn(of: share)))"
    }

    /// Whether the repository is to be looked at now: from the box's turn on; what fails is tried again an hour later, if the window still stands open.
    ///
    /// - Parameters:
    ///   - time: in seconds since 1970; a clock that is set may jump.
    ///   - uptime: in seconds of a clock that never does.
    ///   - lastLook: of the same clock; nil when there was none since the box started.
    ///   - share: the box's own number.
    public func isDue(time: Int, uptime: Int, lastLook: Int?, share: UInt64) -> Bool {
        guard let second = second(time) else { return false }
        guard let lastLook else { return second >= turn(of: share) }
        // All day and each hour, midnight is nothing new.
        guard second >= turn(of: share) || isHourly && length == Self.day else { return false }
        return uptime - lastLook >= (isHourly ? Self.hourlyInterval : Self.interval)
    }
}
