import PluginKit

/// A list of boxes cut along one dimension: packets with the same value meet the same boxes, in their order.
struct Sweep {
    struct Class {
        /// Values, in their order.
        var values: [ClosedRange<UInt128>]
        /// Places in the list that was cut: the boxes that packets with these values may be in.
        var boxes: [Int]
    }

    /// Values that some box names.
    private(set) var classes: [Class] = []
    /// The boxes that all other values meet: those without a limit here.
    private(set) var rest: [Int] = []

    /// The longest list that a packet meets.
    var longest: Int { classes.reduce(rest.count) { max($0, $1.boxes.count) } }
    /// All lists together.
    var total: Int { classes.reduce(rest.count) { $0 + $1.boxes.count } }

    /// Nil when the lists together were longer than `most`.
    init?(_ limits: [[ClosedRange<UInt128>]?], most: Int) {
        var events: [(value: UInt128, isStart: Bool, box: Int)] = []
        for (i, limit) in limits.enumerated() {
            guard let limit else {
                rest.append(i)
                continue
            }
            for range in limit {
                events.append((range.lowerBound, true, i))
                if range.upperBound < .max { events.append((range.upperBound + 1, false, i)) }
            }
        }
        events.sort { $0.value < $1.value }
        var places: [[Int]: Int] = [:]
        var active: [Int] = []
        var (start, sum, work, i): (UInt128, Int, Int, Int) = (0, rest.count, 0, 0)
        func close(_ end: UInt128) -> Bool {
            guard !active.isEmpty else { return true }
            work += active.count
            guard work <= 16 * most else { return false }
            if let place = places[active] {
                let last = classes[place].values.count - 1
                if classes[place].values[last].upperBound + 1 == start {
                    classes[place].values[last] = classes[place].values[last].lowerBound...end
                } else {
                    classes[place].values.append(start...end)
                }
                return true
            }
            sum += active.count + rest.count
            guard sum <= most else { return false }
            places[active] = classes.count
            classes.append(Class(values: [start...end], boxes: Self.merged(active, rest)))
            return true
        }
        while i < events.count {
            let value = events[i].value
            if value > 0, !close(value - 1) { return nil }
            while i < events.count, events[i].value == value {
                let place = active.firstIndex { $0 >= events[i].box } ?? active.count
                if events[i].isStart { active.insert(events[i].box, at: place) } else { active.remove(at: place) }
                i += 1
            }
            start = value
        }
        if !close(.max) { return nil }
    }

    private static func merged(_ one: [Int], _ other: [Int]) -> [Int] {
        var result: [Int] = []
        result.reserveCapacity(one.count + other.count)
        var (i, j) = (0, 0)
        while i < one.count || j < other.count {
            if j == other.count || i < one.count && one[i] < other[j] {
                result.append(one[i])
                i += 1
            } else {
                result.append(other[j])
                j += 1
            }
        }
        return result
    }
}
