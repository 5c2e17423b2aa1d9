import CNftables
import Ruleset

/// A statement that is made of the kernel's expressions: what each file of a statement in `Expressions` is for.
protocol LoweredStatement: StatementType {
    /// Appends its instructions.
    func lower(into program: inout RuleProgram) throws(UnsupportedRuleset)
}

/// The instructions of one rule while they are put together: what each of the files in `Expressions` adds to.
///
/// The instructions are the ones that nft itself makes of the same JSON, so that it lists them as they were meant; the
/// oracle test compares the two.
struct RuleProgram {
    /// Registers are numbered as the kernel does: 1 to 4 hold 16 bytes each, 8 to 23 four bytes of the same memory.
    static let verdictRegister: UInt32 = 0

    let rule: OpaquePointer
    /// Of the rule's table.
    let family: TableFamily
    /// Makes a set without a name and returns its name and its id within the batch.
    let makeSet: (NamedSet) throws(UnsupportedRuleset) -> (name: String, id: UInt32)
    /// What a named map of the table holds; nil for one that nobody has declared.
    let contents: (String) -> NamedSet.Content?
    var context: ProtocolContext
    private(set) var instructions = 0

    init(
        rule: OpaquePointer, family: TableFamily,
        makeSet: @escaping (NamedSet) throws(UnsupportedRuleset) -> (name: String, id: UInt32),
        contents: @escaping (String) -> NamedSet.Content?
    ) {
        (self.rule, self.family, self.makeSet, self.contents) = (rule, family, makeSet, contents)
        context = ProtocolContext(family)
    }

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
        case .other(let other):
            guard let lowered = other.value as? any LoweredStatement else {
                throw UnsupportedRuleset("\(statement.json.line) has no expressions of the kernel")
            }
            try lowered.lower(into: &self)
        }
    }
}
