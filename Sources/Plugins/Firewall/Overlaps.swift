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
        var isPolicy = false
    }

    private let items: [Item]
    /// Rules that are compared with each other, and notes of a kind that are told one by one.
    private static let (mostItems, mostNotes) = (3000, 50)

    init(_ items: [Item]) { self.items = items }

    func explain(_ output: inout PlanOutput) {
        guard items.count <= Self.mostItems else {
            return output.say(
                .note, path: "rules",
                "\(items.count) rules and policies are not compared with each other: \(Self.mostItems) are at most")
        }
        var (differing, idle): ([(Int, Int)], [(Int, Int)]) = ([], [])
        for (place, item) in items.enumerated() where !item.boxes.isEmpty && !item.isPolicy {
            var later: Int?
            for other in place + 1..<items.count where meet(item, items[other]) {
                let next = items[other]
                if next.action != item.action {
                    // What an earlier one takes out of a later one is an exception, and meant.
                    if !next.isPolicy, !covers(next, item), !covers(item, next) { differing.append((place, other)) }
                    later = later ?? other
                } else if later == nil, item.isPlain, covers(next, item) {
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
}
