import CNftables
import Ruleset

extension RuleProgram {
    /// Loads what an expression selects into register 1 and those behind it.
    ///
    /// - Returns: the types of what was loaded.
    @discardableResult
    mutating func load(_ expression: Expression, afterWords start: Int = 0) throws(UnsupportedRuleset) -> [DataType] {
        switch expression {
        case .selector(let selector):
            try require(selector)
            try load(selector, into: Self.register(afterWords: start))
            if let field = selector.bitField {
                guard start == 0 else { throw UnsupportedRuleset("\(expression.json.line) behind other values") }
                try bitwise(field.type, mask: field.bytes(of: field.bits ?? 0))
            }
            return [selector.type]
        case .concatenation(let parts): return try load(concatenation: parts, afterWords: start)
        // All others compute in register 1.
        case _ where start > 0: throw UnsupportedRuleset("\(expression.json.line) behind other values")
        case .and(.selector(let selector), let mask):
            try load(.selector(selector))
            try bitwise(selector.type, mask: try selector.type.bytes(mask))
            return [selector.type]
        case .map(let key, let name):
            guard case .values(let types)? = contents(name) else {
                throw UnsupportedRuleset("a look-up in \(name), which is no map to values that is there")
            }
            try load(key)
            try lookUp(set: name, id: nil, destination: 1)
            return types
        case .jhash(let hash): return [try load(hash)]
        case .numgen(let generator): return [try load(generator)]
        default: throw UnsupportedRuleset("\(expression.json.line) on the left side")
        }
    }

    /// Loads a value of a type into register 1: a constant, what a map holds, or a computed number.
    mutating func load(_ value: Expression, as type: DataType) throws(UnsupportedRuleset) {
        switch value {
        case .map(_, let name):
            let types = try load(value)
            guard types == [type] else {
                throw UnsupportedRuleset(
                    "the map \(name) to \(types.map(\.name).joined(separator: " . ")), where \(type.name) is needed")
            }
        case .valueMap(let key, let entries): try lookUp(key, values: entries, type)
        case .jhash, .numgen: try load(value)
        default: try immediate(try type.bytes(value), into: 1)
        }
    }

    private mutating func load(
        concatenation parts: [Expression], afterWords start: Int
    ) throws(UnsupportedRuleset) -> [DataType] {
        var selectors: [Selector] = []
        for part in parts {
            guard case .selector(let selector) = part, selector.bitField == nil else {
                throw UnsupportedRuleset("\(part.json.line) within a concatenation")
            }
            selectors.append(selector)
        }
        // All that must hold goes first: it uses register 1.
        for selector in selectors {
            try require(selector)
            // What is looked up of it settles the protocol for what comes behind.
            if selector == .meta(.l4proto) { context.hasPorts = true }
        }
        var words = start
        for selector in selectors {
            try load(selector, into: Self.register(afterWords: words))
            words += selector.type.paddedLength / 4
        }
        guard words <= 16 else { throw UnsupportedRuleset("a concatenation beyond 64 bytes") }
        return selectors.map(\.type)
    }

    /// Loads one selector, whose protocol is known by now.
    mutating func load(
        _ selector: Selector, into register: UInt32, length: Int? = nil
    ) throws(UnsupportedRuleset) {
        switch selector {
        case .meta(let key): try meta(key, into: register)
        case .ct(let key): try connection(key, into: register)
        case .tuple(let direction, let field): try connection(direction, field, into: register)
        case .zone(let direction): try connection(NFT_CT_ZONE, direction, into: register)
        case .traffic(let direction, let traffic):
            try connection(traffic == .packets ? NFT_CT_PKTS : NFT_CT_BYTES, direction, into: register)
        case .isFragment: try fragmentHeader(into: register)
        case .tcpOption(let option, let field): try tcpOption(option, field, into: register)
        case .routeMTU: try routeMTU(into: register)
        case .payload(let header, let name):
            guard let field = HeaderField.find(header, name) else {
                throw UnsupportedRuleset("the field \(name) of \(header.rawValue)")
            }
            try payload(field, length: length ?? field.type.length, into: register)
        case .markField(_, let name): throw UnsupportedRuleset("the mark field \(name), which no plan has resolved")
        case .fib(let flags, let result): try routeLookup(flags, result, into: register)
        }
    }
}
