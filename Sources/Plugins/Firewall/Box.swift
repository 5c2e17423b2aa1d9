import PluginKit

/// A part of a rule that is a box in the space of packets: of each dimension a list of intervals, all of which must hold.
/// A rule is one box for each family and protocol that it names.
struct Box {
    /// What a packet is told apart by, and how the kernel is asked for it.
    enum Dimension: Int, CaseIterable {
        /// Interfaces, by their places in the list of all.
        case inbound, outbound
        case source, destination
        case transport
        /// The destination port, of protocols that have ports.
        case port
    }

    /// The rule that it is a part of, by its place.
    var rule: Int
    /// Nil for both.
    var family: IPAddress.Family?
    /// By dimension, in their order and apart from each other; nil for all there is.
    private var limits: [[ClosedRange<UInt128>]?] = Array(repeating: nil, count: Dimension.allCases.count)
    /// What no dimension says: a packet within the box may still not fit.
    var conditions: [Statement] = []

    init(rule: Int) { self.rule = rule }

    subscript(dimension: Dimension) -> [ClosedRange<UInt128>]? {
        get { limits[dimension.rawValue] }
        set { limits[dimension.rawValue] = newValue }
    }
}

/// What is known of all packets that come to a chain.
struct Region {
    var family: IPAddress.Family?
    private var limits: [[ClosedRange<UInt128>]?] = Array(repeating: nil, count: Box.Dimension.allCases.count)

    subscript(dimension: Box.Dimension) -> [ClosedRange<UInt128>]? {
        get { limits[dimension.rawValue] }
        set { limits[dimension.rawValue] = newValue }
    }

    /// Whether a box's limit in a dimension excludes none of these packets.
    func isWithin(_ box: Box, _ dimension: Box.Dimension) -> Bool {
        guard let wanted = box[dimension] else { return true }
        guard let here = self[dimension] else { return false }
        return wanted.contain(here)
    }

    func isWithinFamily(of box: Box) -> Bool { box.family == nil || box.family == family }

    /// Whether all packets that come here are in the box.
    func isWithin(_ box: Box) -> Bool {
        box.conditions.isEmpty && isWithinFamily(of: box) && Box.Dimension.allCases.allSatisfy { isWithin(box, $0) }
    }
}

extension Box {
    /// Whether every packet of another box is in this one.
    func contains(_ other: Box) -> Bool {
        conditions.isEmpty && (family == nil || family == other.family)
            && Dimension.allCases.allSatisfy { dimension in
                guard let mine = self[dimension] else { return true }
                return other[dimension].map(mine.contain) ?? false
            }
    }

    /// Whether some packet may be in both.
    func meets(_ other: Box) -> Bool {
        (family == nil || other.family == nil || family == other.family)
            && Dimension.allCases.allSatisfy { dimension in
                guard let mine = self[dimension], let theirs = other[dimension] else { return true }
                return mine.meet(theirs)
            }
    }
}

extension [ClosedRange<UInt128>] {
    /// Whether all of `others` lies within; both in their order and apart.
    func contain(_ others: Self) -> Bool {
        var i = 0
        for other in others {
            while i < count, self[i].upperBound < other.lowerBound { i += 1 }
            guard i < count, self[i].lowerBound <= other.lowerBound, other.upperBound <= self[i].upperBound else {
                return false
            }
        }
        return true
    }

    func meet(_ others: Self) -> Bool {
        var (i, j) = (0, 0)
        while i < count, j < others.count {
            if self[i].overlaps(others[j]) { return true }
            if self[i].upperBound < others[j].upperBound { i += 1 } else { j += 1 }
        }
        return false
    }

    /// How many values there are; capped, so that nobody counts to 2^128.
    var size: Int {
        reduce(0) { sum, range in
            let more = range.upperBound - range.lowerBound
            return sum > 1 << 20 || more > 1 << 20 ? 1 << 21 : sum + Int(more) + 1
        }
    }
}
