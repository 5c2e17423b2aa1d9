import PluginKit

/// Turns an ordered list of rules, of which the first that fits decides, into chains and maps that say the same, and whose
/// cost for a packet hardly grows with the number of rules.
///
/// A chain's boxes are cut along the dimension that tells most of them apart: one look-up leads a packet to the few that it
/// may be in, which are cut further, or taken one by one. A box that meets no other is an element of a map, and no chain.
/// Counters are named, and what is limited or logged has a chain of its own, so that a rule that stands in several places
/// still counts and is limited as one.
struct Classifier {
    /// What happens to packets that a rule fits.
    struct Outcome {
        /// The rule's origin.
        var comment: String
        /// Counted where the verdict is given; nil when the verdict leads to where it is counted.
        var counter: String?
        var verdict: Verdict
        /// Nothing comes back: no packet that fits goes on to later rules.
        var isFinal: Bool
    }

    /// Names of interfaces, by the places that dimensions know them by.
    let interfaces: [String]
    let boxes: [Box]
    /// By a box's `rule`.
    let outcomes: [Outcome]

    private(set) var chains: [(name: String, groups: [(key: String, rules: [Rule])])] = []
    private(set) var sets: [NamedSet] = []
    /// Rules that some packet may come to.
    private(set) var reached: Set<Int> = []
    /// A rule before a rule that takes packets of it.
    private(set) var takers: [Int: Int] = [:]
    private var names: Set<String> = []
    /// How many more places than there are boxes they may stand in.
    private var budget: Int

    init(interfaces: [String], boxes: [Box], outcomes: [Outcome]) {
        (self.interfaces, self.boxes, self.outcomes) = (interfaces, boxes, outcomes)
        budget = 4 * boxes.count + 4096
    }

    /// Boxes that are taken one by one.
    private static let few = 4
    /// Chains that call each other; the kernel follows 16 calls.
    private static let deepest = 8
    /// Elements that a box may become.
    private static let mostElements = 64

    /// A key of a map: whose counter it counts with, none where that is done elsewhere, and where it leads.
    private typealias Entry = (key: Expression, rule: Int?, verdict: Verdict)

    typealias Body = [(key: String, rules: [Rule])]

    /// The rules of a chain of that name, which say what all boxes say; other chains and the sets are put together beside.
    mutating func compile(chain: String) -> Body {
        names.insert(chain)
        return body(pruned(Array(boxes.indices), Space()), Space(), chain, depth: 0)
    }

    // MARK: - Lists

    /// What a packet of the region meets: without what stands behind a box that takes all.
    private mutating func pruned(_ list: [Int], _ region: Space) -> [Int] {
        var kept: [Int] = []
        for (place, box) in list.enumerated() {
            // Few are compared with all before them; of many, only the last ones.
            let taker = kept.suffix(Self.few * 8).first {
                outcomes[boxes[$0].rule].isFinal && boxes[$0].takes(boxes[box].space)
            }
            if let taker {
                takers[boxes[box].rule] = boxes[taker].rule
                continue
            }
            kept.append(box)
            if outcomes[boxes[box].rule].isFinal, boxes[box].takes(region) {
                for other in list[(place + 1)...] where takers[boxes[other].rule] == nil {
                    takers[boxes[other].rule] = boxes[box].rule
                }
                break
            }
        }
        return kept
    }

    /// - Parameter list: without what no packet of the region meets.
    private mutating func body(_ list: [Int], _ region: Space, _ chain: String, depth: Int) -> Body {
        guard list.count > 1, depth < Self.deepest, let cut = bestCut(of: list, region) else {
            return oneByOne(list, region)
        }
        // What has no limit here, before and behind what has, is met by all packets: it is cut by something else.
        var result = body(Array(list[..<cut.range.lowerBound]), region, chain, depth: depth)
        result += split(cut, region, chain, depth)
        result += body(Array(list[cut.range.upperBound...]), region, chain, depth: depth)
        return result
    }

    private mutating func oneByOne(_ list: [Int], _ region: Space) -> Body {
        var groups: Body = []
        for box in list {
            let rule = boxes[box].rule
            reached.insert(rule)
            let statements = conditions(of: boxes[box].space, region) + boxes[box].conditions + deed(rule)
            let made = Rule(statements, comment: outcomes[rule].comment)
            if groups.last?.key == outcomes[rule].comment {
                groups[groups.count - 1].rules.append(made)
            } else {
                groups.append((outcomes[rule].comment, [made]))
            }
        }
        return groups
    }

    private func deed(_ rule: Int) -> [Statement] {
        (outcomes[rule].counter.map { [.counter($0)] } ?? []) + [.verdict(outcomes[rule].verdict)]
    }

    // MARK: - Cutting

    /// Packets of one family, where a cut tells families apart: what they meet of the list that is cut.
    private struct Slice {
        var family: IPAddress.Family?
        var sweep: Sweep
        /// The boxes that the sweep's places mean.
        var list: [Int]
    }

    private struct Cut {
        var dimension: Space.Dimension
        /// The part of the list that is cut: from the first box with a limit to the last.
        var range: Range<Int>
        /// One for each family that the packets may be of, in the dimensions that are addresses; else one.
        var slices: [Slice] = []
        /// The most boxes that a packet meets afterwards.
        var longest = 0
    }

    private mutating func bestCut(of list: [Int], _ region: Space) -> Cut? {
        var best: Cut?
        // Interfaces first: what is left is about one pair of zones, and fits shorter keys.
        for dimension in [Space.Dimension.inbound, .outbound] {
            if let cut = cut(list, region, along: dimension), spend(cut) { return cut }
        }
        guard list.count > Self.few else { return nil }
        let others: [Space.Dimension] = [.source, .destination, .transport, .port]
        // Where values differ most, cutting helps most: the others are not tried.
        let promising = others.map { ($0, distinct(list, region, $0)) }.filter { $0.1 > 1 }.sorted { $0.1 > $1.1 }
        for (dimension, _) in promising.prefix(2) {
            guard let found = cut(list, region, along: dimension), found.longest <= list.count - Self.few else {
                continue
            }
            if found.longest < best?.longest ?? .max { best = found }
            // No cut has shorter lists.
            if found.longest == 1 { break }
        }
        guard let cut = best, spend(cut) else { return nil }
        return cut
    }

    private mutating func spend(_ cut: Cut) -> Bool {
        let more = cut.slices.reduce(0) { $0 + $1.sweep.total } - cut.range.count
        guard more <= budget else { return false }
        budget -= max(0, more)
        return true
    }

    /// About how many values of a dimension the boxes of a list begin with.
    private func distinct(_ list: [Int], _ region: Space, _ dimension: Space.Dimension) -> Int {
        var seen: Set<UInt128> = []
        for box in list where !boxes[box].space.contains(region, along: dimension) {
            if let first = boxes[box].space[dimension]?.first?.lowerBound { seen.insert(first) }
        }
        return seen.count
    }

    private func cut(_ list: [Int], _ region: Space, along dimension: Space.Dimension) -> Cut? {
        if dimension == .port, region[.transport]?.size != 1 { return cutByService(list, region) }
        func isLimited(_ box: Int) -> Bool { !boxes[box].space.contains(region, along: dimension) }
        guard let first = list.firstIndex(where: isLimited), let last = list.lastIndex(where: isLimited) else {
            return nil
        }
        let range = first..<last + 1
        let middle = Array(list[range])
        var cut = Cut(dimension: dimension, range: range)
        let families: [IPAddress.Family?] =
            dimension == .source || dimension == .destination
            ? (region.family.map { [$0] } ?? IPAddress.Family.allCases) : [nil]
        for family in families {
            let here =
                family == nil
                ? middle : middle.filter { boxes[$0].space.family == nil || boxes[$0].space.family == family }
            let limits = here.map {
                boxes[$0].space.contains(region, along: dimension) ? nil : boxes[$0].space[dimension]
            }
            guard let sweep = Sweep(limits, most: budget + 4 * here.count) else { return nil }
            cut.slices.append(Slice(family: family, sweep: sweep, list: here))
            cut.longest = max(cut.longest, list.count - range.count + sweep.longest)
        }
        return cut
    }

    /// A port is a port of one protocol: the list is cut by protocol, and judged by what ports make of it then.
    private func cutByService(_ list: [Int], _ region: Space) -> Cut? {
        guard var cut = cut(list, region, along: .transport), let slice = cut.slices.first else {
            return nil
        }
        var longest = slice.sweep.rest.count
        for found in slice.sweep.classes {
            var here = region
            here[.transport] = found.values
            let boxes = found.boxes.map { slice.list[$0] }
            let inner = found.values.size == 1 ? self.cut(boxes, here, along: .port) : nil
            longest = max(longest, inner?.longest ?? boxes.count)
        }
        cut.longest = list.count - cut.range.count + longest
        return cut
    }

    // MARK: - Emitting

    private mutating func name(_ chain: String, _ suffix: String) -> String {
        var base = "\(chain).\(suffix)".map { $0 == ":" ? "-" : String($0) }.joined()
        // The kernel's names end at 255 bytes, and nft's listings are for people.
        if base.utf8.count > 120 { base = "\(base.prefix(80))-\(String(base.fnv1a, radix: 36))" }
        var (name, number) = (base, 1)
        while !names.insert(name).inserted {
            number += 1
            name = "\(base)-\(number)"
        }
        return name
    }

    private mutating func split(_ cut: Cut, _ region: Space, _ chain: String, _ depth: Int) -> Body {
        var result: Body = []
        for slice in cut.slices where !slice.list.isEmpty {
            var here = region
            if let family = slice.family { here.family = family }
            // What takes packets that no class has, and packets of which none has settled anything.
            let rest = slice.sweep.rest.map { slice.list[$0] }
            if rest.isEmpty {
                result += look(cut.dimension, slice, here, chain, depth, calls: Verdict.jump)
                continue
            }
            // Whoever was led away from here has met the rest already.
            let all = name(chain, Self.letter(cut.dimension, slice.family))
            var rules = look(cut.dimension, slice, here, all, depth + 1, calls: Verdict.goto)
            let unled = body(pruned(rest, here), here, all, depth: depth + 1)
            if unled.reduce(0, { $0 + $1.rules.count }) > Self.few * 8 {
                // A long chain is cut in parts, from which nobody who was led away may come back to the next.
                let name = name(all, "rest")
                chains.append((name, unled))
                rules.append((name, [Rule([.verdict(.jump(name))], comment: Self.comment)]))
            } else {
                rules += unled
            }
            chains.append((all, rules))
            let only: [Statement] =
                slice.family.map { [.match(.meta(.nfproto), .equal, .text($0 == .ipv4 ? "ipv4" : "ipv6"))] } ?? []
            result.append((all, [Rule(only + [.verdict(.jump(all))], comment: Self.comment)]))
        }
        return result
    }

    /// The origin of rules that stand for many: the counter that a packet was counted with says which it met.
    static let comment = "firewall: compiled"

    /// Look-ups that lead packets to what their class meets.
    private mutating func look(
        _ dimension: Space.Dimension, _ slice: Slice, _ region: Space, _ chain: String, _ depth: Int,
        calls: (String) -> Verdict
    ) -> Body {
        var result: Body = []
        let (tuples, taken) = tuples(dimension, slice, region)
        for (shape, entries) in tuples.sorted(by: { $0.key.lexicographicallyPrecedes($1.key) }) {
            let key = shape.compactMap { Space.Dimension(rawValue: $0) }
            let letters = key.map { Self.letter($0, region.family) }.joined(separator: "-")
            result += map(
                name(chain, letters), key: key.map { type($0, region) },
                .concatenation(key.map { selector($0, region) }), entries, flags: [])
        }
        var entries: [Entry] = []
        var isInterval = false
        for (i, found) in slice.sweep.classes.enumerated() where !taken.contains(i) {
            let boxes = found.boxes.map { slice.list[$0] }
            var here = region
            here[dimension] = found.values
            let kept = pruned(boxes, here)
            // One that takes all of the class needs no chain.
            let alone = kept.first.flatMap {
                kept.count == 1 && self.boxes[$0].takes(here) ? self.boxes[$0].rule : nil
            }
            let verdict: Verdict
            if let alone {
                reached.insert(alone)
                verdict = outcomes[alone].verdict
            } else {
                let child = name(
                    chain,
                    Self.letter(dimension, region.family) + "-" + text(found.values[0].lowerBound, dimension, region))
                chains.append((child, body(kept, here, child, depth: depth + 1)))
                verdict = calls(child)
            }
            for range in found.values {
                if range.lowerBound != range.upperBound, dimension != .inbound, dimension != .outbound {
                    isInterval = true
                }
                for key in expressions(range, dimension, region) { entries.append((key, alone, verdict)) }
            }
        }
        result += map(
            name(chain, Self.letter(dimension, region.family) + "-map"), key: [type(dimension, region)],
            selector(dimension, region),
            entries, flags: isInterval ? [.interval] : [])
        return result
    }

    /// A map that counts, and one that decides.
    private mutating func map(
        _ name: String, key: [DataType], _ selector: Expression,
        _ entries: [Entry], flags: Set<NamedSet.Flag>
    ) -> Body {
        if entries.isEmpty { return [] }
        var rules: [Rule] = []
        let counted = entries.compactMap { entry in
            entry.rule.flatMap { outcomes[$0].counter }.map { SetElement(entry.key, .counter($0)) }
        }
        if !counted.isEmpty {
            sets.append(NamedSet(name + ".n", key: key, content: .counters, flags: flags, elements: counted))
            rules.append(Rule([.counterMap(selector, name + ".n")], comment: Self.comment))
        }
        let verdicts = entries.map { SetElement($0.key, .verdict($0.verdict)) }
        sets.append(NamedSet(name, key: key, content: .verdicts, flags: flags, elements: verdicts))
        rules.append(Rule([.namedVerdictMap(selector, name)], comment: Self.comment))
        return [(name, rules)]
    }

    /// Boxes that meet no other of the list, and of which every limit is a few values: one look-up of all their fields
    /// together finds them.
    ///
    /// - Returns: elements by the dimensions of their keys, and the classes that nobody else is in.
    private mutating func tuples(
        _ dimension: Space.Dimension, _ slice: Slice, _ region: Space
    ) -> ([[Int]: [Entry]], Set<Int>) {
        guard dimension != .inbound, dimension != .outbound else { return ([:], []) }
        var classes: [Int: [Int]] = [:]
        var shared: Set<Int> = []
        for (i, found) in slice.sweep.classes.enumerated() {
            if found.boxes.count == 1 {
                classes[found.boxes[0], default: []].append(i)
            } else {
                shared.formUnion(found.boxes)
            }
        }
        var result: [[Int]: [Entry]] = [:]
        var taken: Set<Int> = []
        for (place, own) in classes.sorted(by: { $0.key < $1.key }) where !shared.contains(place) {
            let box = boxes[slice.list[place]]
            let limited = Space.Dimension.allCases.filter { !box.space.contains(region, along: $0) }
            // One dimension alone is the class's own map.
            guard box.conditions.isEmpty, outcomes[box.rule].isFinal, limited.count > 1, limited.count <= 5 else {
                continue
            }
            // A key of addresses is of one family; a port is one of a protocol that is asked for.
            guard
                region.family != nil
                    || limited.allSatisfy({ $0 == .transport || $0 == .port }) && box.space.family == nil,
                !limited.contains(.port) || limited.contains(.transport) || region[.transport]?.size == 1,
                limited.reduce(0, { $0 + type($1, region).paddedLength }) <= 64
            else { continue }
            let sizes = limited.map { box.space[$0]?.size ?? 0 }
            guard sizes.reduce(1, { min($0 * $1, 1 << 30) }) <= Self.mostElements else { continue }
            var keys: [[Expression]] = [[]]
            for dimension in limited {
                let values = (box.space[dimension] ?? []).flatMap { range in
                    (range.lowerBound...range.upperBound).map { expression($0, dimension, region) }
                }
                keys = keys.flatMap { key in values.map { key + [$0] } }
            }
            let shape = limited.map(\.rawValue)
            for key in keys {
                result[shape, default: []].append((.concatenation(key), box.rule, outcomes[box.rule].verdict))
            }
            reached.insert(box.rule)
            taken.formUnion(own)
        }
        return (result, taken)
    }
}
