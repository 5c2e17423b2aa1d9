import Documents

extension Statement {
    /// Hands the packet to a program (`nfnetlink_queue`), whose verdict counts.
    public struct Queue: StatementType {
        public enum Flag: String, Sendable, CaseIterable {
            /// Without a program at the queue the packet goes on; else it is dropped.
            case bypass
            /// Queues of a range are chosen by the CPU, not by the packet's flow.
            case fanout
        }

        /// A number, a range of them among which flows are spread, or what gives one for each packet.
        public var number: Expression
        public var flags: Set<Flag>

        public init(_ number: Expression, flags: Set<Flag> = []) { (self.number, self.flags) = (number, flags) }

        public static let names = ["queue"]

        public init(_ name: String, _ body: JSON, of json: JSON) throws(UnsupportedRuleset) {
            // nft writes queue 0 without a number.
            let number =
                try body["num"].map { (found) throws(UnsupportedRuleset) in try Expression(found) } ?? .number(0)
            var isRange = false
            switch number {
            case .number(let number) where (0...65535).contains(number): break
            case .range(.number(let first), .number(let last))
            where 0 <= first && first < last && last <= 65535:
                isRange = true
            case .jhash, .numgen, .valueMap: break
            default:
                throw UnsupportedRuleset(
                    json, "the number of this queue",
                    allowed: ["0 to 65535", "a range of them", "jhash", "numgen", "a map in place"])
            }
            let flags: Set<Flag> = try body.flags("flags", "queue")
            guard isRange || !flags.contains(.fanout) else {
                throw UnsupportedRuleset(json, "fanout to a single queue", allowed: ["fanout with a range of queues"])
            }
            self.init(number, flags: flags)
        }

        public var json: JSON { ["queue": .object(["num": number.json, "flags": .flags(flags)])] }
    }

    public static func queue(_ number: Expression, flags: Set<Queue.Flag> = []) -> Statement {
        Statement(Queue(number, flags: flags))
    }
}
