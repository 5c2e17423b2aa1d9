import Nftables
import Planning
import PluginKit

/// The feeds of the active plan: their members in the kernel, and the commands that change them.
final class Feeds {
    let files: FeedFiles
    private let nftables: FilterTable
    private let eviction: Eviction
    private let clock: WallClock
    /// When they were read last, in seconds since 1970.
    private var readAt = 0
    /// The last error that was logged.
    private var loggedTrouble: String?

    init(files: FeedFiles, nftables: FilterTable, eviction: Eviction, clock: WallClock) {
        (self.files, self.nftables, self.eviction, self.clock) = (files, nftables, eviction, clock)
    }

    private var now: Int { clock.now }
    private var feedResources: [FeedResource] { nftables.table.feeds }

    private func feed(_ name: String) throws -> FeedResource {
        let all = feedResources
        guard let feed = all.first(where: { $0.name == name }) else {
            throw EngineError.unknown("feed", name, all.map(\.name))
        }
        return feed
    }

    /// Applies what files of feeds have by now to the kernel's sets, and inspects connections when
    /// a member has expired.
    ///
    /// - Parameter wasSet: the clock was: expirations are at other times of the kernel's.
    func follow(clockWasSet wasSet: Bool) {
        do {
            let before = nftables.policy(at: now)
            if try nftables.refresh(again: wasSet) {
                eviction.watch(since: before)
            } else if before.fed.values.contains(where: { $0.hasEnds(after: readAt, by: before.time) }) {
                eviction.watch(since: .init(table: before.table, fed: before.fed, time: readAt))
            }
            loggedTrouble = nil
        } catch {
            // It is tried again with the next look.
            let said = "feeds can't be applied: \(error)"
            if said != loggedTrouble { Log.say(said) }
            loggedTrouble = said
        }
        readAt = now
    }

    var list: JSON {
        .list(
            feedResources.sorted { $0.name < $1.name }.map { feed in
                let (members, wrong) = files.members(of: feed)
                let passing = members.filter { $0.until != nil }
                return .object([
                    "name": .text(feed.name), "planned": .integer(feed.members.count),
                    "members": .integer(members.count - passing.count),
                    "passing": .integer(passing.count { ($0.until ?? 0) > now }),
                    "from": .text(feed.file ?? "operators"), "wrong": wrong > 0 ? .integer(wrong) : nil,
                ])
            })
    }

    func members(of name: String) throws -> JSON {
        let feed = try feed(name)
        let beside = files.members(of: feed).members.filter { $0.until.map { $0 > now } ?? true }
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

    enum Deed: String, CaseIterable { case add, remove, load }

    /// Puts members into a feed, takes them out, or has it hold these and no others; the kernel has
    /// it when this returns.
    ///
    /// - Parameter seconds: after which they go by themselves; nil for good.
    /// - Returns: how many it has now beside the planned ones.
    func change(_ name: String, _ deed: Deed, _ text: String, seconds: Int?) throws -> Int {
        let feed = try feed(name)
        let (given, wrong) = FeedMember.read(text)
        if !wrong.isEmpty {
            let lines = wrong.prefix(5).map { "line \($0.line): \"\($0.text.prefix(60))\"" }.joined(separator: "; ")
            throw EngineError(
                "\(wrong.count) lines are no member (\(lines)): an address, a network, a range or a hardware address are, "
                    + "and behind one \"until SECONDS\"")
        }
        // A list may be empty; a command that adds or removes nothing lacks its members.
        guard deed == .load || !given.isEmpty else {
            throw EngineError(
                "no member to \(deed.rawValue): an address, a network, a range or a hardware address are")
        }
        guard given.count <= FeedFiles.most else {
            throw EngineError("\(given.count) members, and \(FeedFiles.most) are allowed in one feed")
        }
        let table = nftables.table
        let types = Set(feed.sets.compactMap { table.sets[$0]?.key.first })
        for member in given where !types.contains(member.type) {
            throw EngineError("\(member.name): \(name) takes \(types.map(\.name).sorted().joined(separator: ", "))")
        }
        let until = seconds.map { now + $0 }
        var members = deed == .load ? [] : files.members(of: feed).members
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
        guard passing <= FeedFiles.mostPassing else {
            throw EngineError(
                "\(name) would have \(passing) members with an end, and \(FeedFiles.mostPassing) are allowed")
        }
        guard members.count <= FeedFiles.most else {
            throw EngineError("\(name) would have \(members.count) members, and \(FeedFiles.most) are allowed")
        }
        let (before, old) = (nftables.policy(at: now), files.members(of: feed).members)
        try files.write(members, to: feed, now: now)
        do {
            if try nftables.refresh() { eviction.watch(since: before) }
        } catch {
            // What the kernel doesn't take must not wait for the next start.
            try files.write(old, to: feed, now: now)
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
