import PluginKit

extension Statement.Mangle: WalkedStatement {
    func meet(_ walk: inout PacketWalk) -> PacketWalk.Outcome {
        // A map that lacks the key ends the rule.
        if case .map(let key, let name) = value {
            guard walk.isKnown(key, in: name) else { return .unknown }
            if walk.element(key, name) == nil { return .leave }
        }
        switch target {
        case .meta(.mark): walk.packet.mark = mark(in: walk)
        case .ct(.mark): walk.packet.connectionMark = mark(in: walk)
        default: write(walk.number(value), into: &walk)
        }
        return .next()
    }

    func meetPerhaps(_ walk: inout PacketWalk) {
        switch target {
        // A rule that writes a field leaves the other bits as they are.
        case .meta(.mark): walk.packet.mark = walk.packet.mark.or(perhaps: mark(in: walk))
        case .ct(.mark): walk.packet.connectionMark = walk.packet.connectionMark.or(perhaps: mark(in: walk))
        default: write(nil, into: &walk)
        }
    }

    private func mark(in walk: PacketWalk) -> PartialMark {
        walk.mark(value) ?? walk.number(value).map { PartialMark(UInt32(truncatingIfNeeded: $0)) } ?? .unknown
    }

    /// - Parameter number: nil: unknown.
    private func write(_ number: Int?, into walk: inout PacketWalk) {
        switch target {
        case .meta(.priority): walk.packet.priority = number
        // The supposed packet is one of the original direction.
        case .zone(let direction): if direction != .reply { walk.packet.zone = number }
        case .payload(.ip, "dscp"), .payload(.ip6, "dscp"): walk.packet.codePoint = number
        default: break
        }
    }
}

extension PacketWalk {
    /// A mark, and what constants make of it; nil for anything else.
    func mark(_ value: Expression) -> PartialMark? {
        switch value {
        case .selector(.meta(.mark)): packet.mark
        case .selector(.ct(.mark)): packet.connectionMark
        case .and(let inner, .number(let bits)): mark(inner)?.and(UInt32(truncatingIfNeeded: bits))
        case .or(let inner, .number(let bits)): mark(inner)?.or(UInt32(truncatingIfNeeded: bits))
        default: nil
        }
    }

    /// The number that a value is; nil: unknown.
    func number(_ value: Expression) -> Int? {
        switch value {
        case .number(let number): return number
        case .text(let text): return Self.number(text)
        case .map, .valueMap: return constant(value).flatMap { number($0) }
        case .or(let inner, .number(let bits)): return number(inner).map { $0 | bits }
        case .and(let inner, .number(let bits)): return number(inner).map { $0 & bits }
        default:
            guard case .number(let number)? = values(value)?.first else { return nil }
            return number
        }
    }

    /// What a map has for the packet's key; nil when it has nothing, or the key is unknown.
    func constant(_ value: Expression) -> Expression? {
        switch value {
        case .map(let key, let name):
            guard isKnown(key, in: name), case .data(let found)? = element(key, name)?.value else { return nil }
            return found
        case .valueMap(let key, let entries): return entries.first { holds(key, $0.key) == true }?.value
        default: return nil
        }
    }

    func isKnown(_ key: Expression) -> Bool { values(key) != nil }

    /// Whether it is known which element of a map a packet's key is: of an empty one, always none.
    /// What packets add to a map or remove from it (`dynamic`) is not known.
    func isKnown(_ key: Expression, in map: String) -> Bool {
        if table.sets[map]?.flags.contains(.dynamic) == true { return false }
        return indexes[map]?.isEmpty != false || isKnown(key)
    }

    /// A code point or a handle of traffic control.
    static func number(_ text: String) -> Int? {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false).map { Int($0, radix: 16) }
        if parts.count == 2, let major = parts[0], let minor = parts[1] { return major << 16 | minor }
        return DataType.differentiatedServices(1).symbols[text].map(Int.init) ?? Int(text)
    }
}
