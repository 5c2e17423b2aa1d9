import PluginKit

/// A part of the space of packets: of each dimension a list of intervals, all of which must hold.
struct Space {
    /// What a packet is told apart by.
    enum Dimension: Int, CaseIterable {
        /// Interfaces, by their places in the list of all.
        case inbound, outbound
        case source, destination
        case transport
        /// The destination port, of protocols that have ports.
        case port
    }

    /// Nil for both.
    var family: IPAddress.Family?
    /// By dimension, in their order and apart from each other; nil for all there is.
    private var limits: [[ClosedRange<UInt128>]?] = Array(repeating: nil, count: Dimension.allCases.count)

    subscript(dimension: Dimension) -> [ClosedRange<UInt128>]? {
        get { limits[dimension.rawValue] }
        set { limits[dimension.rawValue] = newValue }
    }

    /// Whether a dimension's limit excludes nothing of another space.
    func contains(_ other: Space, along dimension: Dimension) -> Bool {
        guard let mine = self[dimension] else { return true }
        return other[dimension].map(mine.contain) ?? false
    }

    func containsFamily(of other: Space) -> Bool { family == nil || family == other.family }

    func contains(_ other: Space) -> Bool {
        containsFamily(of: other) && Self.telling.allSatisfy { contains(other, along: $0) }
    }

    /// All dimensions, those first that tell most spaces apart.
    private static let telling: [Dimension] = [.source, .destination, .port, .transport, .inbound, .outbound]
}

/// A part of a rule. A rule is one box for each family and protocol that it names.
struct Box {
    /// The rule that it is a part of, by its place.
    var rule: Int
    var space = Space()
    /// What no dimension says: a packet within the space may still not fit.
    var conditions: [Statement] = []

    /// Whether every packet of a space fits.
    func takes(_ other: Space) -> Bool { conditions.isEmpty && space.contains(other) }
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

    /// How many values there are; capped, so that nobody counts to 2^128.
    var size: Int {
        reduce(0) { sum, range in
            let more = range.upperBound - range.lowerBound
            return sum > 1 << 20 || more > 1 << 20 ? 1 << 21 : sum + Int(more) + 1
        }
    }
}
