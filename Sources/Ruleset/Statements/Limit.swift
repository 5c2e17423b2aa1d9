import Documents

extension Statement {
    /// A token bucket: goes on while packets or bytes are below the rate.
    public struct Limit: StatementType {
        public enum Unit: String, Sendable, CaseIterable {
            case second, minute, hour, day, week

            public var seconds: UInt64 {
                switch self {
                case .second: 1
                case .minute: 60
                case .hour: 3600
                case .day: 86_400
                case .week: 604_800
                }
            }
        }

        /// What is counted.
        public enum Measure: String, Sendable, CaseIterable { case packets, bytes }

        /// Packets or bytes a unit.
        public var rate: Int
        public var measure: Measure
        public var per: Unit
        /// Packets or bytes beyond the rate at once.
        public var burst: Int
        /// Matches what is over the limit.
        public var isOver: Bool

        public init(rate: Int, _ measure: Measure = .packets, per: Unit, burst: Int = 5, isOver: Bool = false) {
            self.rate = rate
            self.measure = measure
            self.per = per
            self.burst = burst
            self.isOver = isOver
        }

        public static let names = ["limit"]

        public init(_ name: String, _ body: JSON, of json: JSON) throws(UnsupportedRuleset) {
            guard let rate = body["rate"]?.integer, rate > 0, let per = (body["per"]?.text).flatMap(Unit.init) else {
                throw UnsupportedRuleset(json, "this limit", allowed: Unit.allCases.map { "a rate a \($0.rawValue)" })
            }
            let units = ["rate_unit", "burst_unit"].map { body[$0]?.text ?? "packets" }
            guard let measure = Measure(rawValue: units[0]), units[0] == units[1] else {
                throw UnsupportedRuleset(
                    json, "the units of this limit", allowed: Measure.allCases.map { "\($0.rawValue) for both" })
            }
            self.init(
                rate: rate, measure, per: per, burst: body["burst"]?.integer ?? 5,
                isOver: body["inv"]?.boolean ?? false)
        }

        public var json: JSON {
            let unit: JSON? = measure == .packets ? nil : .text(measure.rawValue)
            return [
                "limit": .object([
                    "rate": .integer(rate), "per": .text(per.rawValue), "burst": .integer(burst),
                    "inv": isOver ? true : nil, "rate_unit": unit, "burst_unit": unit,
                ])
            ]
        }
    }

    public static func limit(_ limit: Limit) -> Statement { Statement(limit) }
}
