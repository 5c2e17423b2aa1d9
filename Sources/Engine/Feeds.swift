import Files
import Glibc
import Planning
import PluginKit

/// Members of sets that come from beside the plan: operators' own, which lie below /data, and those that services write.
final class Feeds {
    private let places: Places
    /// What was read of a file, and what that makes of each set.
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

    /// Has a feed of operators say something else from now on; what is over is left out.
    func write(_ members: [FeedMember], to feed: FeedResource, now: Int) throws {
        guard feed.file == nil, let location = location(of: feed) else {
            throw EngineError("\(feed.name) is filled by a service, not by operators")
        }
        try FileSystem.makeDirectory(location.root)
        let lines = members.filter { $0.until.map { $0 > now } ?? true }.map { "\($0)\n" }
        // It is synced: a blocked host stays blocked after a power loss.
        try location.folder().replace(
            location.path, with: Array(lines.joined().utf8), FileAttributes(mode: 0o600))
        // What was written need not be read.
        known[feed.name] = Known(stamp: stamp(of: feed), members: members, wrong: 0)
    }
}

extension Engine {
    private var feedResources: [FeedResource] { nftables.table.feeds }

    private func feed(_ name: String) throws -> FeedResource {
        let all = feedResources
        guard let feed = all.first(where: { $0.name == name }) else {
            throw EngineError.unknown("feed", name, all.map(\.name))
        }
        return feed
    }

    /// Brings the kernel's sets to what files of feeds say by now, and looks at connections when a member has ended.
    ///
    /// - Parameter wasSet: the clock was: what ends, ends at another time of the kernel's.
    func followFeeds(clockWasSet wasSet: Bool) {
        do {
            let before = activePolicy
            if try nftables.refresh(again: wasSet) {
                eviction.watch(since: before)
            } else if before.fed.values.contains(where: { $0.hasEnds(after: feedsLookedAt, by: before.time) }) {
                eviction.watch(since: .init(table: before.table, fed: before.fed, time: feedsLookedAt))
            }
            saidOfFeeds = nil
        } catch {
            // It is tried again with the next look.
            let said = "feeds can't be brought into the kernel: \(error)"
            if said != saidOfFeeds { Log.say(said) }
            saidOfFeeds = said
        }
        feedsLookedAt = now
    }

    func feedList() -> JSON {
        .list(
            feedResources.sorted { $0.name < $1.name }.map { feed in
                let (members, wrong) = feeds.members(of: feed)
                let passing = members.filter { $0.until != nil }
                return .object([
                    "name": .text(feed.name), "planned": .integer(feed.members.count),
                    "members": .integer(members.count - passing.count),
                    "passing": .integer(passing.count { ($0.until ?? 0) > now }),
                    "from": .text(feed.file ?? "operators"), "wrong": wrong > 0 ? .integer(wrong) : nil,
                ])
            })
    }

    func feedMembers(of name: String) throws -> JSON {
        let feed = try feed(name)
        let beside = feeds.members(of: feed).members.filter { $0.until.map { $0 > now } ?? true }
        func list(_ members: [FeedMember], _ from: String) -> [JSON] {
            members.map {
                .object([
                    "member": .text($0.name), "from": .text(from),
                    "expires": $0.until.map { .integer($0 - now) },
                ])
            }
        }
        return .list(list(feed.members, "site") + list(beside, feed.file ?? "operators"))
    }

    enum FeedDeed: String, CaseIterable { case add, remove, load }

    /// Puts members into a feed, takes them out, or has it hold these and no others; the kernel has it when this returns.
    ///
    /// - Parameter seconds: after which they go by themselves; nil for good.
    /// - Returns: how many it has now beside the planned ones.
    func change(feed name: String, _ deed: FeedDeed, _ text: String, seconds: Int?) throws -> Int {
        let feed = try feed(name)
        let (given, wrong) = FeedMember.read(text)
        if !wrong.isEmpty {
            let lines = wrong.prefix(5).map { "line \($0.line): \"\($0.text.prefix(60))\"" }.joined(separator: "; ")
            throw EngineError(
                "\(wrong.count) lines are no member (\(lines)): an address, a network, a range or a hardware address are, "
                    + "and behind one \"until SECONDS\"")
        }
        // A list may be empty; whoever adds or removes nothing has forgotten something.
        guard deed == .load || !given.isEmpty else {
            throw EngineError(
                "no member to \(deed.rawValue): an address, a network, a range or a hardware address are")
        }
        guard given.count <= Feeds.most else {
            throw EngineError("\(given.count) members, and \(Feeds.most) are allowed in one feed")
        }
        let table = nftables.table
        let types = Set(feed.sets.compactMap { table.sets[$0]?.key.first })
        for member in given where !types.contains(member.type) {
            throw EngineError("\(member.name): \(name) takes \(types.map(\.name).sorted().joined(separator: ", "))")
        }
        let until = seconds.map { now + $0 }
        var members = deed == .load ? [] : feeds.members(of: feed).members
        let named = Set(given.map(\.what))
        if deed == .remove {
            let there = Set(members.map(\.what))
            for member in given where !there.contains(member.what) {
                let isPlanned = feed.members.contains { $0.what == member.what }
                throw EngineError(
                    isPlanned
                        ? "\(member.name) is in \(name) by the site's document: take it out there"
                        : "\(member.name) is not in \(name)")
            }
        }
        members.removeAll { named.contains($0.what) }
        if deed != .remove {
            members += given.map { FeedMember($0.what, until: until ?? $0.until) }
        }
        let passing = members.count { $0.until != nil }
        guard passing <= Feeds.mostPassing else {
            throw EngineError("\(name) would have \(passing) members with an end, and \(Feeds.mostPassing) are allowed")
        }
        guard members.count <= Feeds.most else {
            throw EngineError("\(name) would have \(members.count) members, and \(Feeds.most) are allowed")
        }
        let (before, old) = (activePolicy, feeds.members(of: feed).members)
        try feeds.write(members, to: feed, now: now)
        do {
            if try nftables.refresh() { eviction.watch(since: before) }
        } catch {
            // What the kernel doesn't take must not wait for the next start.
            try feeds.write(old, to: feed, now: now)
            throw error
        }
        return members.count
    }
}

extension FeedMember {
    fileprivate var type: DataType {
        switch what {
        case .addresses(let range): range.family == .ipv4 ? .ipv4Address : .ipv6Address
        case .mac: .etherAddress
        }
    }
}
