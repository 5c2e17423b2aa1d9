/// Times as documents write them (RFC 3339), in UTC.
public enum UTC {
    /// Seconds since 1970 of a day, or of a time of a day with its Z; nil for anything else.
    public static func seconds(of text: String) -> Int? {
        let parts = text.split(separator: "T", omittingEmptySubsequences: false)
        func numbers(_ text: Substring, _ separator: Character, _ widths: [Int]) -> [Int]? {
            let words = text.split(separator: separator, omittingEmptySubsequences: false)
            guard words.map(\.count) == widths, words.allSatisfy({ $0.allSatisfy { $0.isASCII && $0.isNumber } }) else {
                return nil
            }
            return words.compactMap { Int($0) }
        }
        guard (1...2).contains(parts.count), let date = numbers(parts[0], "-", [4, 2, 2]) else { return nil }
        let (year, month, day) = (date[0], date[1], date[2])
        let isLeap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
        let lengths = [31, isLeap ? 29 : 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
        guard (1970...9999).contains(year), (1...12).contains(month), (1...lengths[month - 1]).contains(day) else {
            return nil
        }
        let before = year - 1
        let days =
            365 * (year - 1970) + (before / 4 - before / 100 + before / 400) - 477
            + lengths.prefix(month - 1).reduce(0, +) + day - 1
        guard parts.count == 2 else { return 86_400 * days }
        guard parts[1].last == "Z", let time = numbers(parts[1].dropLast(), ":", [2, 2, 2]), time[0] < 24, time[1] < 60,
            time[2] < 60
        else { return nil }
        return 86_400 * days + 3600 * time[0] + 60 * time[1] + time[2]
    }

    /// Such as 2026-12-24T18:00:00Z, of seconds since 1970.
    public static func text(of seconds: Int) -> String {
        func padded(_ value: Int, _ width: Int = 2) -> String {
            let text = String(value)
            return String(repeating: "0", count: max(0, width - text.count)) + text
        }
        // Days since 1 March of the year 0: a leap day is a year's last then.
        let (days, rest) = (seconds / 86_400 + 719_468, seconds % 86_400)
        let (era, dayOfEra) = (days / 146_097, days % 146_097)
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let month = (5 * dayOfYear + 2) / 153
        let day = dayOfYear - (153 * month + 2) / 5 + 1
        let year = yearOfEra + 400 * era + (month < 10 ? 0 : 1)
        let date = "\(padded(year, 4))-\(padded(month < 10 ? month + 3 : month - 9))-\(padded(day))"
        return "\(date)T\(padded(rest / 3600)):\(padded(rest / 60 % 60)):\(padded(rest % 60))Z"
    }
}
