import CNftables
import Ruleset

/// The instructions of one rule while they are put together: what each of the files in `Expressions` adds to.
///
/// The instructions are the ones that nft itself makes of the same JSON, so that it lists them as they were meant; the
/// oracle test compares the two.
struct RuleProgram {
    /// Registers are numbered as the kernel does: 1 to 4 hold 16 bytes each, 8 to 23 four bytes of the same memory.
    static let verdictRegister: UInt32 = 0

    let rule: OpaquePointer
    /// Makes a set without a name and returns its name and its id within the batch.
    let makeSet: (NamedSet) throws(UnsupportedRuleset) -> (name: String, id: UInt32)
    /// What a named map of the table holds; nil for one that nobody has declared.
    let contents: (String) -> NamedSet.Content?
    var context = ProtocolContext()
    private(set) var instructions = 0

    /// Appends an instruction.
    mutating func add(_ name: String, _ fill: (OpaquePointer) -> Void) throws(UnsupportedRuleset) {
        instructions += 1
        guard instructions <= Bounds.instructions else {
            throw UnsupportedRuleset("a rule of more than \(Bounds.instructions) instructions")
        }
        guard let expression = nftnl_expr_alloc(name) else {
            throw UnsupportedRuleset("libnftnl does not know the expression \(name)")
        }
        fill(expression)
        nftnl_rule_add_expr(rule, expression)
    }

    /// The register behind the first `words` 32-bit words of register 1.
    static func register(afterWords words: Int) -> UInt32 {
        words % 4 == 0 ? UInt32(1 + words / 4) : UInt32(8 + words)
    }

    mutating func add(_ statement: Statement) throws(UnsupportedRuleset) {
        switch statement {
        case .match(let left, let comparison, let right): try match(left, comparison, right)
        case .verdict(let verdict): try immediate(verdict)
        case .verdictMap(let key, let entries): try lookUp(key, verdicts: entries)
        case .namedVerdictMap(let key, let name):
            try load(key)
            try lookUp(set: name, id: nil, destination: Self.verdictRegister)
        case .counter(let name): try counter(name)
        case .counterMap(let key, let map): try counter(key, map: map)
        case .limit(let value): try limit(value)
        case .log(let value): try log(value)
        case .reject(let value): try reject(value)
        case .masquerade: try masquerade()
        case .nat(let kind, let family, let address, let port, let flags):
            try nat(kind, family, address: address, port: port, flags: flags)
        case .setMark(let selector, let value): try setMark(selector, value)
        case .notrack: try add("notrack") { _ in }
        case .trace: try trace()
        case .element(let operation, let key, let set, let timeout, let each):
            try element(operation, key, set: set, timeout: timeout, each: each)
        case .mapElement(let operation, let key, let data, let map, let timeout):
            try element(operation, key, data: data, set: map, timeout: timeout)
        case .synproxy(let proxy): try synproxy(proxy)
        case .flow(let name):
            try Bounds.check(name: name)
            try add("flow_offload") { nftnl_expr_set_str($0, UInt16(NFTNL_EXPR_FLOW_TABLE_NAME), name) }
        case .helper(let name): try object(name, UInt32(NFT_OBJECT_CT_HELPER))
        }
    }

    // MARK: - Loading

    /// Loads what an expression selects into register 1 and those behind it.
    ///
    /// - Returns: the types of what was loaded.
    @discardableResult
    mutating func load(_ expression: Expression, afterWords start: Int = 0) throws(UnsupportedRuleset) -> [DataType] {
        switch expression {
        case .selector(let selector):
            try require(selector)
            try load(selector, into: Self.register(afterWords: start))
            return [selector.type]
        case .and(.selector(let selector), let mask):
            try load(.selector(selector))
            try bitwise(selector.type, mask: try selector.type.bytes(mask))
            return [selector.type]
        case .concatenation(let parts):
            var selectors: [Selector] = []
            for part in parts {
                guard case .selector(let selector) = part else {
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
        case .map(let key, let name):
            guard case .values(let types)? = contents(name) else {
                throw UnsupportedRuleset("a look-up in \(name), which is no map to values that is there")
            }
            try load(key)
            try lookUp(set: name, id: nil, destination: 1)
            return types
        default: throw UnsupportedRuleset("\(expression.json.line) on the left side")
        }
    }

    /// Loads one selector, whose protocol is known by now.
    mutating func load(
        _ selector: Selector, into register: UInt32, length: Int? = nil
    ) throws(UnsupportedRuleset) {
        switch selector {
        case .meta(let key): try meta(key, into: register)
        case .ct(let key): try connection(key, into: register)
        case .tuple(let direction, let field): try connection(direction, field, into: register)
        case .isFragment: try fragmentHeader(into: register)
        case .payload(let header, let name):
            guard let field = HeaderField.find(header, name) else {
                throw UnsupportedRuleset("the field \(name) of \(header.rawValue)")
            }
            try payload(field, length: length ?? field.type.length, into: register)
        case .fib(let flags, let result): try routeLookup(flags, result, into: register)
        }
    }
}
