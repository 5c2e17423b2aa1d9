import PluginKit

/// When a rule holds, in UTC: rules come and go by planning again, so that no packet is asked for the time.
struct Times: Sendable, Hashable {
    /// Seconds since 1970 from which on it holds.
    var starts: Int?
    /// Seconds since 1970 from which on it is none any more.
    var until: Int?
    var hours: Hours?
    /// Days on which it begins to hold, 0 for Monday; nil for all.
    var days: Set<Int>?

    /// Seconds within a day; one that ends before it begins goes over midnight.
    struct Hours: Sendable, Hashable {
        var first: Int
        var last: Int
    }

    private static let dayNames = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    private static let day = 86_400

    /// What its keys in a rule are read as.
    struct Parts {
        let time: Shape<Int>
        let hours: Shape<Hours>
        let days: Shape<[String]>
    }

    static var shape: Parts {
        let hours = Shape<Hours>.scalar("hours of a day in UTC, such as 08:00-18:30") { scalar in
            let ends = scalar.text.split(separator: "-", omittingEmptySubsequences: false).map { seconds($0) }
            guard ends.count == 2, let first = ends[0], let last = ends[1], first != last, first < day else {
                return nil
            }
            return Hours(first: first, last: last)
        }
        return Parts(time: .time, hours: hours, days: .list(of: .oneOf(dayNames)))
    }

    /// Reads `starts`, `until`, `hours` and `days`.
    static func read(_ parts: Parts, _ fields: inout Fields) -> Times {
        var times = Times()
        times.starts = fields.optional("starts", parts.time)
        times.until = fields.optional("until", parts.time)
        times.hours = fields.optional("hours", parts.hours)
        times.days = fields.optional("days", parts.days).map { Set($0.compactMap(dayNames.firstIndex(of:))) }
        if let starts = times.starts, let until = times.until, until <= starts {
            fields.problems.add(
                fields.node["until"]?.value ?? fields.node, fields.path + ".until", "it ends before it starts",
                hint: "give a later time, or leave starts out")
        }
        return times
    }

    /// Of `18:30`; `24:00` is the day's end.
    private static func seconds(_ text: Substring) -> Int? {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 2, parts.allSatisfy({ $0.utf8.count == 2 }), let hour = Int(parts[0]),
            let minute = Int(parts[1]),
            (0...59).contains(minute), (0...23).contains(hour) || hour == 24 && minute == 0
        else { return nil }
        return 3600 * hour + 60 * minute
    }

    /// Whether it holds at a time, and when that changes next; nil for never.
    func holds(at now: Int) -> (isHeld: Bool, changes: Int?) {
        if let until, until <= now { return (false, nil) }
        if let starts, now < starts { return (false, starts) }
        guard hours != nil || days != nil else { return (true, until) }
        let hours = hours ?? Hours(first: 0, last: Self.day)
        let length = hours.last - hours.first + (hours.last > hours.first ? 0 : Self.day)
        let today = now / Self.day
        var (isHeld, changes): (Bool, Int?) = (false, nil)
        // Yesterday's may go over midnight; within a week every day comes.
        for day in today - 1...today + 8 {
            // 1970 began with a Thursday.
            guard days?.contains((day + 3) % 7) ?? true else { continue }
            let (start, end) = (day * Self.day + hours.first, day * Self.day + hours.first + length)
            if start <= now, now < end { isHeld = true }
            for edge in [start, end] where edge > now { changes = min(changes ?? edge, edge) }
        }
        if let until { changes = min(changes ?? until, until) }
        return (isHeld, changes)
    }
}
