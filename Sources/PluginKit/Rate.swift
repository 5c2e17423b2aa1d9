extension Shape where Value == Statement.Limit {
    /// `{packets: 20, per: second, burst: 40}`.
    public static var rate: Shape { .mapping("a rate") { Statement.Limit(&$0) } }
}

extension Statement.Limit {
    /// Reads `packets`, `per` and `burst`.
    public init?(_ fields: inout Fields) {
        let packets = fields.required("packets", .integer(1...1_000_000_000))
        let per =
            fields.optional("per", Shape.oneOf(Unit.allCases.map(\.rawValue)).map { Unit(rawValue: $0) }) ?? .second
        let burst = fields.optional("burst", .integer(0...4_000_000_000))
        guard let packets else { return nil }
        // The kernel counts the burst in nanoseconds, in 64 bits.
        let nanoseconds = Double(per.seconds) * 1e9 / Double(packets) * Double(burst ?? 5)
        if nanoseconds > 9e18 {
            fields.problems.add(
                fields.node["burst"]?.value ?? fields.node, fields.path + ".burst",
                "a burst of more than 285 years at this rate", hint: "give fewer, or a higher rate")
        }
        self.init(rate: packets, per: per, burst: burst ?? 5)
    }
}
