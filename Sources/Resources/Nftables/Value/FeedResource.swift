/// Sets whose members come from beside the plan: from operators, or from a file that a service of the plugin writes. The engine
/// puts them into the kernel, one by one as they come and go; no rule is touched by it.
public struct FeedResource: Sendable, Hashable {
    /// The plugin's name, a dot, and one of its own.
    public var name: String
    /// Sets of the same plan, without elements of their own. Each takes those members that its key's type is of.
    public var sets: [String]
    /// What is in it whatever comes beside it.
    public var members: [FeedMember]
    /// Below /run/vcpe/NAME or /data/NAME, a member a line; nil for one that operators fill, which the engine keeps.
    public var file: String?

    public init(_ name: String, sets: [String], members: [FeedMember] = [], file: String? = nil) {
        (self.name, self.sets, self.members, self.file) = (name, sets, members, file)
    }
}

/// A member of a feed: `198.51.100.7`, `198.51.100.0/24`, `192.0.2.10-192.0.2.20`, `02:00:00:00:00:01`, and until when, as
/// ` until 1764100000`.
public struct FeedMember: Sendable, Hashable, CustomStringConvertible {
    public enum What: Sendable, Hashable {
        case addresses(IPRange)
        case mac(MACAddress)
    }

    public var what: What
    /// In seconds since 1970; nil for good.
    public var until: Int?

    public init(_ what: What, until: Int? = nil) { (self.what, self.until) = (what, until) }

    /// Reads a line.
    public init?(_ text: some StringProtocol) {
        let words = text.split { $0 == " " || $0 == "\t" || $0 == "\r" }
        guard words.count == 1 || words.count == 3 && words[1] == "until" else { return nil }
        until = nil
        if words.count == 3 {
            // To the end of the year 9999.
            guard let time = Int(words[2]), (1..<253_402_300_800).contains(time) else { return nil }
            until = time
        }
        let word = String(words[0])
        if let range = IPRange(word) {
            what = .addresses(range)
        } else if let mac = MACAddress(word.lowercased()) {
            what = .mac(mac)
        } else {
            return nil
        }
    }

    /// Without its end.
    public var name: String {
        switch what {
        case .addresses(let range): range.description
        case .mac(let mac): mac.description
        }
    }

    public var description: String { name + (until.map { " until \($0)" } ?? "") }

    /// The lines of a file: what is no member, with the number of its line. Blank lines and comments are neither.
    public static func read(_ text: String) -> (members: [FeedMember], wrong: [(line: Int, text: String)]) {
        var (members, wrong): ([FeedMember], [(Int, String)]) = ([], [])
        var number = 0
        for line in text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline) {
            number += 1
            let words = line.prefix { $0 != "#" }
            if words.allSatisfy({ $0 == " " || $0 == "\t" || $0 == "\r" }) { continue }
            if let member = FeedMember(words) { members.append(member) } else { wrong.append((number, String(line))) }
        }
        return (members, wrong)
    }
}

extension FeedResource {
    /// Reads a plan's JSON.
    init?(_ json: JSON) {
        guard let name = json["name"]?.text, let sets = json["sets"]?.list, let texts = json["members"]?.list else {
            return nil
        }
        let members = texts.compactMap { $0.text.flatMap { FeedMember($0) } }
        guard members.count == texts.count else { return nil }
        self.init(name, sets: sets.compactMap(\.text), members: members, file: json["file"]?.text)
    }

    var json: JSON {
        .object([
            "name": .text(name), "sets": .texts(sets), "members": .texts(members.map(\.description)),
            "file": file.map { .text($0) },
        ])
    }
}
