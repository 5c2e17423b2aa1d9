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
        // In the order of values, and of boxes.
        var (starts, ends): ([Event], [Event]) = ([], [])
        starts.reserveCapacity(limits.count)
        ends.reserveCapacity(limits.count)
        for (i, limit) in limits.enumerated() {
            guard let limit else {
                rest.append(i)
                continue
            }
            for range in limit {
                starts.append(Event(value: range.lowerBound, box: i))
                if range.upperBound < .max { ends.append(Event(value: range.upperBound + 1, box: i)) }
            }
        }
        starts.sort()
        ends.sort()
        // Classes by their boxes; those of one box by that.
        var (places, ofOne): ([[Int]: Int], [Int?]) = ([:], Array(repeating: nil, count: limits.count))
        var active: [Int] = []
        var (start, sum, work): (UInt128, Int, Int) = (0, rest.count, 0)
        func close(_ end: UInt128) -> Bool {
            guard !active.isEmpty else { return true }
            work += active.count
            guard work <= 16 * most else { return false }
            if let place = active.count == 1 ? ofOne[active[0]] : places[active] {
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
            if active.count == 1 { ofOne[active[0]] = classes.count } else { places[active] = classes.count }
            classes.append(Class(values: [start...end], boxes: Self.merged(active, rest)))
            return true
        }
        var (nextStart, nextEnd) = (0, 0)
        while nextStart < starts.count || nextEnd < ends.count {
            let value = min(
                nextStart < starts.count ? starts[nextStart].value : .max,
                nextEnd < ends.count ? ends[nextEnd].value : .max)
            if value > 0, !close(value - 1) { return nil }
            let (firstStart, firstEnd) = (nextStart, nextEnd)
            while nextEnd < ends.count, ends[nextEnd].value == value { nextEnd += 1 }
            while nextStart < starts.count, starts[nextStart].value == value { nextStart += 1 }
            active = Self.left(of: active, without: ends[firstEnd..<nextEnd], with: starts[firstStart..<nextStart])
            start = value
        }
        if !close(.max) { return nil }
    }

    /// Where a box begins, or has ended.
    private struct Event: Comparable {
        var value: UInt128
        var box: Int

        static func < (one: Event, other: Event) -> Bool {
            one.value < other.value || one.value == other.value && one.box < other.box
        }
    }

    /// Boxes in their order without those that have ended, and with those that begin.
    private static func left(
        of active: [Int], without ended: ArraySlice<Event>, with begun: ArraySlice<Event>
    ) -> [Int] {
        var result: [Int] = []
        result.reserveCapacity(active.count + begun.count)
        var (i, end, begin) = (0, ended.startIndex, begun.startIndex)
        while i < active.count || begin < begun.endIndex {
            if begin == begun.endIndex || i < active.count && active[i] <= begun[begin].box {
                while end < ended.endIndex, ended[end].box < active[i] { end += 1 }
                if end < ended.endIndex, ended[end].box == active[i] {
                    end += 1
                } else {
                    result.append(active[i])
                }
                i += 1
            } else {
                result.append(begun[begin].box)
                begin += 1
            }
        }
        return result
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
