import PluginKit

/// The elements of a table's sets, so that a packet's key is found without looking at all of them.
public final class SetIndexes {
    private let table: TablePlan
    private var made: [String: SetIndex] = [:]

    public init(_ table: TablePlan) { self.table = table }

    subscript(name: String) -> SetIndex? {
        if let index = made[name] { return index }
        guard let set = table.sets[name] else { return nil }
        let index = SetIndex(set, table.elements(of: name))
        made[name] = index
        return index
    }
}

/// The elements of one set.
struct SetIndex {
    private var exact: [[PacketWalk.Value]: SetElement] = [:]
    /// Of a key of one part, in their order and apart from each other.
    private var intervals: [(values: ClosedRange<UInt128>, element: SetElement)] = []
    /// What fits neither.
    private(set) var rest: [SetElement] = []

    var isEmpty: Bool { exact.isEmpty && intervals.isEmpty && rest.isEmpty }

    init(_ set: NamedSet, _ elements: [SetElement]) {
        for element in elements {
            var parts = [element.key]
            if case .concatenation(let items) = element.key { parts = items }
            let values = zip(set.key, parts).map { Self.value($1, $0) }
            if !values.contains(nil) {
                exact[values.compactMap { $0 }] = element
            } else if parts.count == 1, let range = Self.interval(element.key) {
                intervals.append((range, element))
            } else {
                rest.append(element)
            }
        }
        intervals.sort { $0.values.lowerBound < $1.values.lowerBound }
    }

    func find(_ values: [PacketWalk.Value]) -> SetElement? {
        if let element = exact[values] { return element }
        guard values.count == 1, !intervals.isEmpty else { return nil }
        let number: UInt128
        switch values[0] {
        case .number(let found): number = UInt128(max(0, found))
        case .address(let address): number = address.value
        default: return nil
        }
        var (low, high) = (0, intervals.count)
        while low < high {
            let middle = (low + high) / 2
            if intervals[middle].values.upperBound < number { low = middle + 1 } else { high = middle }
        }
        return low < intervals.count && intervals[low].values.contains(number) ? intervals[low].element : nil
    }

    /// A constant as packets have it; nil for what is no single value.
    private static func value(_ constant: Expression, _ type: DataType) -> PacketWalk.Value? {
        switch constant {
        case .number(let number): return .number(number)
        case .text(let text):
            switch type {
            case .ipv4Address, .ipv6Address: return IPAddress(text).map { .address($0) }
            case .etherAddress: return MACAddress(text.lowercased()).map { .text($0.description) }
            case .interfaceName: return text.hasSuffix("*") ? nil : .text(text)
            case .protocolNumber, .service:
                return (type.symbols[text].map(Int.init) ?? Int(text)).map { .number($0) }
            default: return nil
            }
        default: return nil
        }
    }

    private static func interval(_ key: Expression) -> ClosedRange<UInt128>? {
        switch key {
        case .prefix(let address, let length):
            guard let address = IPAddress(address), let prefix = IPPrefix(address, length: length) else { return nil }
            return prefix.network.address.value...prefix.last.value
        case .range(.number(let low), .number(let high)):
            return low >= 0 && low <= high ? UInt128(low)...UInt128(high) : nil
        case .range(.text(let low), .text(let high)):
            guard let low = IPAddress(low)?.value, let high = IPAddress(high)?.value, low <= high else { return nil }
            return low...high
        default: return nil
        }
    }
}
