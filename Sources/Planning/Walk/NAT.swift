import PluginKit

extension Statement.NAT: WalkedStatement {
    var decides: Bool { true }

    func meet(_ walk: inout PacketWalk) -> PacketWalk.Outcome {
        switch address {
        case .map(let key, let name)?:
            guard walk.isKnown(key, in: name) else { return .unknown }
            guard case .data(let target)? = walk.element(key, name)?.value else { return .leave }
            return .verdict(.accept, walk.translate(kind, by: target))
        case .valueMap?:
            guard let address, let target = walk.constant(address) else { return .unknown }
            return .verdict(.accept, walk.translate(kind, by: target))
        default: return .verdict(.accept, walk.translate(kind, address, port, flags))
        }
    }
}

extension PacketWalk {
    /// By what a map holds: an address, and a port, or ranges of them, of which the kernel takes one.
    fileprivate mutating func translate(_ kind: Statement.NATKind, by target: Expression) -> String {
        var parts = [target]
        if case .concatenation(let items) = target { parts = items }
        var words = translate(kind, parts.first, parts.count > 1 ? parts[1] : nil, [])
        if parts.count > 1, case .range(.number(let first), .number(let last)) = parts[1] {
            words += " port \(first)-\(last)"
        }
        return words
    }

    fileprivate mutating func translate(
        _ kind: Statement.NATKind, _ address: Expression?, _ port: Expression?, _ flags: Set<Statement.NATFlag>
    ) -> String {
        var words = kind.rawValue
        // Which of a pool it becomes is the kernel's to say.
        if case .range(.text(let first), .text(let last))? = address { words += " to \(first)-\(last)" }
        if flags.contains(.netmap), case .prefix(let text, let length)? = address, let start = IPAddress(text),
            let network = IPPrefix(start, length: length)
        {
            let old = kind == .dnat ? packet.destination : packet.source
            let host = network.last.value ^ network.address.value
            let new = IPAddress(start.family, value: network.address.value | old.value & host)
            words += " to \(new)"
            if kind == .dnat { packet.destination = new } else { packet.source = new }
        }
        if case .text(let text)? = address, let address = IPAddress(text) {
            words += " to \(address)"
            if kind == .dnat { packet.destination = address } else { packet.source = address }
        }
        if case .number(let number)? = port {
            words += " port \(number)"
            if kind == .dnat { packet.port = number } else { packet.sourcePort = number }
        }
        isTranslated = isTranslated || kind == .dnat
        return words
    }
}
