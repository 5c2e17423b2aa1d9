import PluginKit

extension Statement.NAT: WalkedStatement {
    var decides: Bool { true }

    func meet(_ walk: inout PacketWalk) -> PacketWalk.Outcome {
        switch address {
        case .map(let key, let name)?:
            guard walk.isKnown(key, in: name) else { return .unknown }
            guard case .data(let target)? = walk.element(key, name)?.value else { return .leave }
            return .translated(walk.translate(kind, by: target))
        case .valueMap?:
            guard let address, let target = walk.constant(address) else { return .unknown }
            return .translated(walk.translate(kind, by: target))
        default: return .translated(walk.translate(kind, address, port, flags))
        }
    }
}

extension PacketWalk {
    /// By what a map holds: an address, and a port, or ranges of them, of which the kernel takes one.
    fileprivate mutating func translate(_ kind: Statement.NATKind, by target: Expression) -> Translation {
        var parts = [target]
        if case .concatenation(let items) = target { parts = items }
        return translate(kind, parts.first, parts.count > 1 ? parts[1] : nil, [])
    }

    fileprivate mutating func translate(
        _ kind: Statement.NATKind, _ address: Expression?, _ port: Expression?, _ flags: Set<Statement.NATFlag>
    ) -> Translation {
        var translation = Translation(statement: kind.rawValue)
        switch address {
        case .text(let text)?: translation.addresses = IPAddress(text).map { $0...$0 }
        case .range(.text(let first), .text(let last))?:
            if let first = IPAddress(first), let last = IPAddress(last), first <= last {
                translation.addresses = first...last
            }
        case .prefix(let text, let length)? where flags.contains(.netmap):
            let old = kind == .dnat ? packet.destination : packet.source
            if let start = IPAddress(text), let network = IPPrefix(start, length: length) {
                let host = network.last.value ^ network.address.value
                let new = IPAddress(start.family, value: network.address.value | old.value & host)
                translation.addresses = new...new
            }
        default: break
        }
        switch port {
        case .number(let number)?: translation.ports = number...number
        case .range(.number(let first), .number(let last))? where first <= last: translation.ports = first...last
        default: break
        }
        // Which of a pool it becomes is the kernel's to say.
        if let new = translation.addresses, new.lowerBound == new.upperBound {
            if kind == .dnat { packet.destination = new.lowerBound } else { packet.source = new.lowerBound }
        }
        if let new = translation.ports, new.count == 1 {
            if kind == .dnat { packet.port = new.lowerBound } else { packet.sourcePort = new.lowerBound }
        }
        isTranslated = isTranslated || kind == .dnat
        return translation
    }
}
