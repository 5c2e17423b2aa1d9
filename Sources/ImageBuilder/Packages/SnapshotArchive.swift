import Files
import Glibc
import Transfers

/// An archive of all states of Debian's archives, with the layout of Debian's snapshot service:
/// `archive/NAME/TIME/…`.
///
/// A snapshot archive imports a few times a day, and redirects a time between two imports to the
/// earlier one. An InRelease is always older than the import that contains it. A request for the
/// time of the InRelease would therefore return a state without the newest packages. This type
/// searches for the first import whose InRelease is as new as the lock's.
public struct SnapshotArchive: Sendable {
    private let url: String

    /// - Parameter url: above `archive/`.
    public init(_ url: String) { self.url = url.trimming { $0 == "/" } }

    /// The offsets from the lock's date that are tried, in hours. A replaced package stays in an
    /// archive's pool for at least a day, so that a later import is as good.
    private static let hours = [0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 18, 24, 36, 48, 72]

    /// The URLs of the first imports that are as new as a lock.
    ///
    /// - Parameters:
    ///   - dates: the date of each suite's InRelease, from a lock.
    ///   - folder: for temporary files.
    /// - Throws: ``BuildFailure`` where the archive has no such import, or does not answer.
    public func mirrors(dates: [String: String], folder: String, apt: HostApt = HostApt()) throws -> Mirrors {
        let work = try FileSystem.makeTemporaryDirectory(
            in: folder, prefix: FileSystem.temporaryPrefix + "snapshot")
        defer { try? FileSystem.remove(work) }
        func find(_ archive: String, _ isWanted: (String) -> Bool) throws -> String {
            var suites: [(name: String, time: Int)] = []
            for (suite, date) in dates.sorted(by: { $0.key < $1.key }) where isWanted(suite) {
                guard let time = SnapshotTime.seconds(date) else {
                    throw BuildFailure(
                        "the lock's date of \(suite) is invalid: found \"\(date)\", allowed is an InRelease's Date",
                        hint: "vcpe lock NAME")
                }
                suites.append((suite, time))
            }
            return try first(archive, suites, work, apt)
        }
        return Mirrors(
            main: try find("debian") { !$0.hasSuffix("-security") },
            security: try find("debian-security") { $0.hasSuffix("-security") }, apt: apt)
    }

    private func first(
        _ archive: String, _ suites: [(name: String, time: Int)], _ folder: String, _ apt: HostApt
    ) throws -> String {
        guard let newest = suites.map(\.time).max() else {
            throw BuildFailure(
                "the lock has no date for the snapshot archive: found no suite of \(archive)",
                hint: "vcpe lock NAME")
        }
        var found: [String] = []
        for hour in Self.hours {
            let root = "\(url)/archive/\(archive)/\(SnapshotTime.text(newest + hour * 3600))"
            let downloads = suites.map {
                Download(url: "\(root)/dists/\($0.name)/InRelease", path: "\(folder)/\(archive)-\(hour)-\($0.name)")
            }
            let failures = try apt.fetch(downloads)
            if let failure = failures.first(where: { $0.reason != .gone }) {
                throw BuildFailure(
                    "the snapshot archive does not answer: \(failure)", hint: "try again, or use another --snapshot")
            }
            if !failures.isEmpty { continue }
            let times = try downloads.map { SnapshotTime.date(of: try FileSystem.read($0.path)) ?? 0 }
            if zip(times, suites).allSatisfy({ $0 >= $1.time }) { return root }
            found.append(SnapshotTime.text(times.max() ?? 0))
        }
        throw BuildFailure(
            "\(url) has no import of \(archive) from \(SnapshotTime.text(newest)) or up to three days later"
                + (found.last.map { "; its newest is from \($0)" } ?? ""),
            hint: "use a lock from a day that the archive has, or --relock-gone with a mirror")
    }
}

/// The time formats of InRelease files and snapshot archives.
public enum SnapshotTime {
    private static let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]

    /// Seconds since 1970 of an InRelease's date (`Sat, 14 Nov 2026 10:11:12 UTC`); nil for
    /// anything else.
    public static func seconds(_ date: String) -> Int? {
        let words = date.split(separator: " ")
        guard words.count >= 5, let day = Int32(words[1]), let month = months.firstIndex(of: String(words[2])),
            let year = Int32(words[3])
        else { return nil }
        let clock = words[4].split(separator: ":").compactMap { Int32($0) }
        guard clock.count == 3 else { return nil }
        var time = tm()
        (time.tm_year, time.tm_mon, time.tm_mday) = (year - 1900, Int32(month), day)
        (time.tm_hour, time.tm_min, time.tm_sec) = (clock[0], clock[1], clock[2])
        return timegm(&time)
    }

    /// The time in a snapshot archive's URLs: `20261114T101112Z`.
    public static func text(_ seconds: Int) -> String {
        var (time, clock) = (tm(), time_t(seconds))
        gmtime_r(&clock, &time)
        func digits(_ number: Int32, _ count: Int) -> String {
            let text = String(number)
            return String(repeating: "0", count: max(0, count - text.count)) + text
        }
        let date = digits(time.tm_year + 1900, 4) + digits(time.tm_mon + 1, 2) + digits(time.tm_mday, 2)
        return date + "T" + digits(time.tm_hour, 2) + digits(time.tm_min, 2) + digits(time.tm_sec, 2) + "Z"
    }

    /// The time of an InRelease file; nil where it has no `Date`.
    static func date(of release: [UInt8]) -> Int? {
        let lines = String(decoding: release, as: UTF8.self).split(separator: "\n")
        return lines.first { $0.hasPrefix("Date: ") }.flatMap { seconds(String($0.dropFirst(6))) }
    }
}
