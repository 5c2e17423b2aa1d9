import PluginKit

/// What rules have to do with each other, for whoever asks (`vcpe site check --explain`): packets that several are about and
/// that they would treat otherwise, rules that change nothing, and what became one look-up.
struct Overlaps {
    /// A rule or a policy, in the order in which packets come to them.
    struct Item {
        var path: String
        var action: FirewallConfiguration.Action
        /// Whether its packets are to the box, or go through it.
        var isToBox: Bool
        var isThrough: Bool
        var boxes: [Box]
        /// Nothing else happens than to count and to decide.
        var isPlain: Bool
        /// It decides about all of its packets, however many there are.
        var isFinal = true
        var isPolicy = false
    }

    private let items: [Item]
    /// Interfaces that there are.
    private let interfaces: Int
    /// Rules that are compared with each other, and notes of a kind that are told one by one.
    private static let (mostItems, mostNotes) = (3000, 50)

    init(_ items: [Item], interfaces: Int) {
        self.items = items
        self.interfaces = interfaces
    }

    /// - Returns: the paths of rules of which it has said that no packet meets them.
    func explain(_ output: inout PlanOutput) -> Set<String> {
        guard items.count <= Self.mostItems else {
            output.say(
                .note, path: "rules",
                "\(items.count) rules and policies are not compared with each other: \(Self.mostItems) are at most")
            return []
        }
        let taken = warnOfTaken(&output)
        var (differing, idle): ([(Int, Int)], [(Int, Int)]) = ([], [])
        for (place, item) in items.enumerated() where !item.boxes.isEmpty && !item.isPolicy {
            var later: Int?
            for other in place + 1..<items.count where meet(item, items[other]) {
                let next = items[other]
                if next.action != item.action {
                    // What an earlier one takes out of a later one is an exception, and meant.
                    if !next.isPolicy, !covers(next, item), !covers(item, next) { differing.append((place, other)) }
                    later = later ?? other
                } else if later == nil, item.isPlain, covers(next, item), !(next.isPolicy && next.isToBox) {
                    // Allowed ports and echo are between rules and policies to the box.
                    idle.append((place, other))
                    later = other
                }
            }
        }
        say(differing, &output) { first, second in
            "packets of this rule are taken by another before it, which \(Self.word(first.action)) them, while this one "
                + "\(Self.word(second.action)) them"
        }
        say(idle.map { ($1, $0) }, &output) { later, _ in
            "it changes nothing but its counter: what comes behind it \(Self.word(later.action)) the same packets"
        }
        return taken
    }

    /// Warns of rules all of whose packets several before it take together; where one alone does, every plan says so.
    private func warnOfTaken(_ output: inout PlanOutput) -> Set<String> {
        var taken: Set<String> = []
        for (place, item) in items.enumerated() where !item.isPolicy && !item.boxes.isEmpty {
            let before = items[..<place].filter { $0.isFinal && meet($0, item) }
            if before.contains(where: { covers($0, item) }) { continue }
            var takers: Set<String> = []
            let directions = [(item.isToBox, \Item.isToBox), (item.isThrough, \.isThrough)].filter(\.0).map(\.1)
            let isTaken = directions.allSatisfy { direction in
                let takes = before.filter { $0[keyPath: direction] }
                return item.boxes.allSatisfy { left(of: $0.space, takes, &takers).isEmpty }
            }
            guard isTaken, takers.count > 1 else { continue }
            let others = before.map(\.path).filter(takers.contains)
            output.say(
                .warning, path: item.path,
                "no packet ever meets this rule: \(others.joined(separator: ", ")) together take all of its packets",
                hint: "put it before them, or leave it out", other: others[0])
            taken.insert(item.path)
        }
        return taken
    }

    /// Where a rule is in more pieces, it is taken for one that packets meet.
    private static let mostPieces = 512

    /// What rules before it leave of a space, and which of them took some.
    private func left(of space: Space, _ before: [Item], _ takers: inout Set<String>) -> [Space] {
        var left = [space]
        for item in before {
            for box in item.boxes where box.conditions.isEmpty && left.contains(where: box.space.meets) {
                left = left.flatMap { $0.without(box.space, interfaces: interfaces) }
                takers.insert(item.path)
                if left.isEmpty || left.count > Self.mostPieces { return left }
            }
        }
        return left
    }

    private static func word(_ action: FirewallConfiguration.Action) -> String { action.rawValue + "s" }

    /// A note at the second of each pair, with the place of the first.
    private func say(_ pairs: [(Int, Int)], _ output: inout PlanOutput, _ words: (Item, Item) -> String) {
        for (first, second) in pairs.prefix(Self.mostNotes) {
            output.say(
                .note, path: items[second].path, words(items[first], items[second]), other: items[first].path)
        }
        if pairs.count > Self.mostNotes {
            output.say(.note, path: "rules", "and \(pairs.count - Self.mostNotes) more of the kind")
        }
    }

    /// Whether a packet may be of both.
    private func meet(_ one: Item, _ other: Item) -> Bool {
        guard one.isToBox && other.isToBox || one.isThrough && other.isThrough else { return false }
        return one.boxes.contains { box in other.boxes.contains { box.space.meets($0.space) } }
    }

    /// Whether each packet of another is one of this.
    private func covers(_ one: Item, _ other: Item) -> Bool {
        (one.isToBox || !other.isToBox) && (one.isThrough || !other.isThrough) && !other.boxes.isEmpty
            && other.boxes.allSatisfy { box in one.boxes.contains { $0.takes(box.space) } }
    }

    /// What became of many: elements of one map, by the rules that they count for.
    static func explain(_ sets: [NamedSet], _ output: inout PlanOutput) {
        for set in sets.sorted(by: { $0.name < $1.name }) where set.content == .counters {
            var rules: [String] = []
            var seen: Set<String> = []
            for element in set.elements {
                guard case .counter(let counter)? = element.value, seen.insert(counter).inserted else { continue }
                rules.append(String(counter.split(separator: ".").last ?? ""))
            }
            guard rules.count > 1 else { continue }
            let some = rules.prefix(5).joined(separator: ", ") + (rules.count > 5 ? " and \(rules.count - 5) more" : "")
            output.say(
                .note, path: "rules",
                "\(rules.count) rules are one look-up of \(set.elements.count) elements (\(set.name.dropLast(2))): \(some)"
            )
        }
    }
}

extension Space {
    /// Whether a packet may be of both.
    func meets(_ other: Space) -> Bool {
        guard family == nil || other.family == nil || family == other.family else { return false }
        return Dimension.allCases.allSatisfy { dimension in
            guard let mine = self[dimension], let its = other[dimension] else { return true }
            return mine.contains { range in its.contains { range.overlaps($0) } }
        }
    }

    /// What another one leaves of it, in pieces that don't meet.
    func without(_ other: Space, interfaces: Int) -> [Space] {
        guard meets(other) else { return [self] }
        var (pieces, rest): ([Space], Space) = ([], self)
        if family == nil, let taken = other.family {
            var piece = rest
            piece.family = taken == .ipv4 ? .ipv6 : .ipv4
            pieces.append(piece)
            rest.family = taken
        }
        for dimension in Dimension.allCases {
            guard let taken = other[dimension] else { continue }
            let mine = rest[dimension] ?? [dimension.all(rest.family, interfaces: interfaces)]
            let outside = mine.without(taken)
            if !outside.isEmpty {
                var piece = rest
                piece[dimension] = outside
                pieces.append(piece)
            }
            rest[dimension] = mine.without(outside)
        }
        return pieces
    }
}

extension Space.Dimension {
    /// All values that packets of a family have.
    func all(_ family: IPAddress.Family?, interfaces: Int) -> ClosedRange<UInt128> {
        switch self {
        case .inbound, .outbound: 0...UInt128(max(interfaces, 1) - 1)
        case .source, .destination: 0...(family == .ipv4 ? UInt128(UInt32.max) : .max)
        case .transport: 0...255
        case .port: 0...65535
        }
    }
}

extension [ClosedRange<UInt128>] {
    /// Both in their order and apart, and so is what is left.
    func without(_ others: Self) -> Self {
        flatMap { range in
            var (left, start): (Self, UInt128?) = ([], range.lowerBound)
            for other in others where other.overlaps(range) {
                guard let from = start else { break }
                if other.lowerBound > from { left.append(from...(other.lowerBound - 1)) }
                start = other.upperBound >= range.upperBound ? nil : other.upperBound + 1
            }
            if let start { left.append(start...range.upperBound) }
            return left
        }
    }
}
