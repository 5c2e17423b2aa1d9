import Files
import Glibc
import Planning
import PluginKit

/// The files of feeds: members of sets beside the plan. Those of operators lie below /data,
/// services write others.
final class FeedFiles {
    private let places: Places
    /// The contents of a file, and the members that each set gets from it.
    private struct Known {
        var stamp: Stamp?
        var members: [FeedMember]
        var wrong: Int
        var resource: FeedResource?
        var sets: [String: FedSet] = [:]
        /// Why the file could not be read.
        var failure: String?
    }

    private struct Stamp: Equatable {
        var file: ino_t
        var size: Int
        var seconds: Int
        var nanoseconds: Int
    }

    private var known: [String: Known] = [:]
    private var lastVersion = 0

    /// Members that an operator may give one feed, and bytes of a file.
    static let (most, mostBytes) = (1_000_000, 64 << 20)
    /// Of them, those that end: each is set beside the others.
    static let mostPassing = 10_000

    init(places: Places) { self.places = places }

    private func location(of feed: FeedResource) -> PluginFiles.Location? {
        guard let file = feed.file else { return PluginFiles.Location(root: places.feeds, path: feed.name) }
        return PluginFiles(places: places).location(file)
    }

    private func stamp(of feed: FeedResource) -> Stamp? {
        guard let location = location(of: feed), let status = try? location.folder().status(location.path),
            status.st_mode & S_IFMT == S_IFREG
        else { return nil }
        return Stamp(
            file: status.st_ino, size: Int(status.st_size), seconds: status.st_mtim.tv_sec,
            nanoseconds: status.st_mtim.tv_nsec)
    }

    /// What a feed's file says. What is no member there is counted, and left out.
    private func read(_ feed: FeedResource) -> Known {
        let now = stamp(of: feed)
        if let found = known[feed.name], found.stamp == now, found.failure == nil { return found }
        var made = Known(stamp: now, members: [], wrong: 0)
        if let location = location(of: feed), let now {
            do {
                guard now.size <= Self.mostBytes else { throw EngineError("it has \(now.size) bytes") }
                let file = try location.folder().openFile(location.path)
                let read = FeedMember.read(String(decoding: try file.read(now.size, at: 0), as: UTF8.self))
                (made.members, made.wrong) = (read.members, read.wrong.count)
                let passing = made.members.count { $0.until != nil }
                if passing > Self.mostPassing {
                    Log.say("feed \(feed.name): \(passing) members with an end, and \(Self.mostPassing) are the most")
                    var left = Self.mostPassing
                    made.members.removeAll { member in
                        if member.until == nil { return false }
                        left -= 1
                        return left < 0
                    }
                }
                if let first = read.wrong.first {
                    Log.say(
                        "feed \(feed.name): \(read.wrong.count) lines are no members, such as line \(first.line): "
                            + String(first.text.prefix(80)))
                }
            } catch {
                // Its members stay, and without a stamp the file is read again at the next look.
                let before = known[feed.name]
                made = Known(stamp: nil, members: before?.members ?? [], wrong: before?.wrong ?? 0)
                (made.resource, made.sets) = (before?.resource, before?.sets ?? [:])
                made.failure = "\(error)"
                if made.failure != before?.failure {
                    Log.say("feed \(feed.name): \(location.root)/\(location.path) can't be read: \(error)")
                }
            }
        }
        known[feed.name] = made
        return made
    }

    /// What the sets of a table's feeds shall hold, by their names.
    func content(of table: TablePlan) -> [String: FedSet] {
        var result: [String: FedSet] = [:]
        for feed in table.feeds {
            var found = read(feed)
            if found.resource != feed {
                found.sets = [:]
                for name in feed.sets {
                    guard let type = table.sets[name]?.key.first else { continue }
                    lastVersion += 1
                    found.sets[name] = FedSet(feed.members + found.members, type: type, version: lastVersion)
                }
                found.resource = feed
                known[feed.name] = found
            }
            result.merge(found.sets) { $1 }
        }
        return result
    }

    /// - Returns: what comes from beside the plan, and how many lines of the file are no members.
    func members(of feed: FeedResource) -> (members: [FeedMember], wrong: Int) {
        let found = read(feed)
        return (found.members, found.wrong)
    }

    /// Replaces the members of a feed of operators, without those that have expired.
    func write(_ members: [FeedMember], to feed: FeedResource, now: Int) throws {
        guard feed.file == nil, let location = location(of: feed) else {
            throw EngineError("\(feed.name) is filled by a service, not by operators")
        }
        try FileSystem.makeDirectory(location.root)
        let lines = members.filter { $0.until.map { $0 > now } ?? true }.map { "\($0)\n" }
        // It is synced: a blocked host stays blocked after a power loss.
        try location.folder().replace(
            location.path, with: Array(lines.joined().utf8), FileAttributes(mode: 0o600))
        // The file need not be read again.
        known[feed.name] = Known(stamp: stamp(of: feed), members: members, wrong: 0)
    }
}
