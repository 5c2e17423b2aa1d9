import PluginKit

/// What a packet is, as far as it can be known of one that was never sent, and whether a rule's words fit it.
extension PacketWalk {
    /// The element of a map that a packet's key is.
    func element(_ key: Expression, _ name: String) -> SetElement? {
        guard let values = values(key), !values.contains(.none), let index = indexes[name] else { return nil }
        return index.find(values) ?? index.rest.first { isIn(values, $0.key) }
    }

    enum Value: Hashable {
        case text(String)
        case number(Int)
        case address(IPAddress)
        /// The packet has no such thing.
        case none

        /// As nft writes it.
        var text: String {
            switch self {
            case .text(let text): text
            case .number(let number): "\(number)"
            case .address(let address): address.description
            case .none: ""
            }
        }
    }

    /// Nil for what nobody can know of a packet that was never sent.
    private func value(_ selector: Selector) -> Value? {
        let isIPv4 = packet.source.family == .ipv4
        switch selector {
        case .meta(.interface): return .text(packet.input)
        case .meta(.outputInterface): return packet.output.map { .text($0) } ?? Value.none
        case .meta(.l4proto): return .number(packet.protocolNumber)
        case .meta(.nfproto): return .text(isIPv4 ? "ipv4" : "ipv6")
        case .meta(.mark): return packet.mark.number.map { .number(Int($0)) }
        case .meta(.priority): return packet.priority.map { .number($0) }
        case .meta(.pkttype): return .text("host")
        case .ct(.state): return .text("new")
        case .ct(.status): return isTranslated ? .text("dnat") : Value.none
        case .ct(.mark): return packet.connectionMark.number.map { .number(Int($0)) }
        // No plan's table has one.
        case .markField: return nil
        // Of the reply's direction nothing is known.
        case .zone(let direction): return direction == .reply ? nil : packet.zone.map { .number($0) }
        case .traffic, .routeMTU: return nil
        case .tcpOption: return packet.transport == "tcp" ? nil : Value.none
        case .ct(.direction): return .text("original")
        case .tuple(.original, .source4): return isIPv4 ? .address(first.source) : Value.none
        case .tuple(.original, .destination4): return isIPv4 ? .address(first.destination) : Value.none
        case .tuple(.original, .source6): return isIPv4 ? Value.none : .address(first.source)
        case .tuple(.original, .destination6): return isIPv4 ? Value.none : .address(first.destination)
        case .ct(.expiration), .tuple: return nil
        case .isFragment: return .number(0)
        case .payload(.ip, "frag-off"): return isIPv4 ? .number(0) : Value.none
        case .payload(let header, let field):
            switch (header, field) {
            case (.ether, "saddr"): return packet.mac.map { .text($0.description) }
            case (.ip, "saddr"), (.ip6, "saddr"):
                return (header == .ip) == isIPv4 ? .address(packet.source) : Value.none
            case (.ip, "daddr"), (.ip6, "daddr"):
                return (header == .ip) == isIPv4 ? .address(packet.destination) : Value.none
            case (.ip, "dscp"), (.ip6, "dscp"):
                return (header == .ip) == isIPv4 ? packet.codePoint.map { .number($0) } : Value.none
            case (.ip, "protocol"), (.ip6, "nexthdr"):
                return (header == .ip) == isIPv4 ? .number(packet.protocolNumber) : Value.none
            case (.tcp, _), (.udp, _), (.sctp, _), (.th, _):
                guard header == .th || header.rawValue == packet.transport else { return Value.none }
                if field == "dport" { return packet.port.map { .number($0) } ?? Value.none }
                if field == "sport" { return packet.sourcePort.map { .number($0) } ?? Value.none }
                return nil
            case (.icmp, "type"), (.icmpv6, "type"):
                return header.rawValue == packet.transport ? .text("echo-request") : Value.none
            default: return nil
            }
        case .fib(let flags, .kind) where flags == [.daddr]:
            return .text(kernel.isLocal(packet.destination) ? "local" : "unicast")
        case .fib(let flags, .interface) where flags == [.saddr, .iif]:
            return .number(kernel.leads(packet.source, packet.input) ? 1 : 0)
        case .fib: return nil
        }
    }

    func fits(_ left: Expression, _ comparison: Statement.Comparison, _ right: Expression) -> Bool? {
        switch comparison {
        case .equal, .any: return holds(left, right)
        case .notEqual:
            // What a packet doesn't have is no other value of it either.
            guard values(left)?.contains(.none) != true else { return false }
            return holds(left, right).map { !$0 }
        default:
            guard let number = numeric(left), let other = numeric(right) else { return nil }
            switch comparison {
            case .less: return number < other
            case .lessOrEqual: return number <= other
            case .greater: return number > other
            default: return number >= other
            }
        }
    }

    private func numeric(_ expression: Expression) -> Int? {
        if case .number(let number) = expression { return number }
        guard case .number(let number)? = values(expression)?.first else { return nil }
        return number
    }

    /// The values that an expression selects, one for each part of a concatenation.
    func values(_ expression: Expression) -> [Value]? {
        switch expression {
        case .selector(let selector): return value(selector).map { [$0] }
        case .concatenation(let parts):
            let all = parts.map { values($0)?.first }
            return all.contains { $0 == nil } ? nil : all.compactMap { $0 }
        case .and(.selector(.payload(.tcp, "flags")), let mask):
            guard packet.transport == "tcp" else { return [.none] }
            // It is the first of its connection.
            return Self.flags(mask).map { [.number($0 & (Self.flags(.text("syn")) ?? 0))] }
        case .and(let inner, .number(let mask)):
            if let mark = mark(expression) { return mark.number.map { [.number(Int($0))] } }
            guard let found = values(inner)?.first else { return nil }
            guard case .number(let number) = found else { return found == .none ? [found] : nil }
            return [.number(number & mask)]
        case .and(let inner, .text(let mask)):
            guard let found = values(inner)?.first, let mask = IPAddress(mask) else { return nil }
            guard case .address(let address) = found else { return [found] }
            return [.address(IPAddress(address.family, value: address.value & mask.value))]
        default: return nil
        }
    }

    /// Whether what `left` selects is `right`, or in it.
    func holds(_ left: Expression, _ right: Expression) -> Bool? {
        // Nothing is in an empty set, whatever it is.
        if case .named(let name) = right, let set = table.sets[name], !set.flags.contains(.dynamic),
            indexes[name]?.isEmpty == true
        {
            return false
        }
        guard let values = values(left) else { return nil }
        // Flags together are one value, and none of several.
        if case .and(.selector(.payload(.tcp, "flags")), _) = left {
            guard case .number(let number)? = values.first else { return false }
            return Self.flags(right).map { $0 == number }
        }
        return isIn(values, right)
    }

    /// TCP's flags as a number.
    private static func flags(_ expression: Expression) -> Int? {
        switch expression {
        case .number(let number): number
        case .text(let name): DataType.tcpFlag.symbols[name].map(Int.init)
        case .list(let items):
            items.reduce(Int?.some(0)) { sum, item in
                guard let sum, let more = flags(item) else { return nil }
                return sum | more
            }
        default: nil
        }
    }

    private func isIn(_ values: [Value], _ right: Expression) -> Bool {
        if values.contains(.none) { return false }
        switch right {
        case .set(let items), .list(let items): return items.contains { isIn(values, $0) }
        case .named(let name):
            let name = name.hasPrefix("@") ? String(name.dropFirst()) : name
            guard let set = table.sets[name], let index = indexes[name] else { return false }
            if index.find(values) != nil || index.rest.contains(where: { isIn(values, $0.key) }) { return true }
            return set.flags.contains(.dynamic)
                && kernel.members(set).contains(values.map(\.text).joined(separator: " . "))
        case .concatenation(let parts):
            return parts.count == values.count && zip(values, parts).allSatisfy { isIn([$0], $1) }
        default: return values.count == 1 && isSame(values[0], right)
        }
    }

    private func isSame(_ value: Value, _ constant: Expression) -> Bool {
        switch (value, constant) {
        case (.text(let text), .text(let other)):
            if other.hasSuffix("*") { return text.hasPrefix(other.dropLast()) }
            return text == other
        case (.number(let number), .number(let other)): return number == other
        case (.number(let number), .text(let other)):
            return (Self.number(other) ?? DataType.protocolNumber.symbols[other].map(Int.init)) == number
        case (.number(let number), .range(let low, let high)):
            guard case .number(let low) = low, case .number(let high) = high else { return false }
            return (low...max(low, high)).contains(number)
        case (.address(let address), .text(let other)): return IPAddress(other) == address
        case (.address(let address), .prefix(let network, let length)):
            guard let network = IPAddress(network), let prefix = IPPrefix(network, length: length) else { return false }
            return prefix.contains(address)
        case (.address(let address), .range(let low, let high)):
            guard case .text(let low) = low, case .text(let high) = high, let low = IPAddress(low),
                let high = IPAddress(high)
            else { return false }
            return !(address < low) && !(high < address)
        default: return false
        }
    }
}
