import Documents

extension Statement {
    public struct Log: StatementType {
        public static let levels = Symbols.logLevels

        /// At most 127 bytes.
        public var prefix: String?
        /// One of `levels`; to the kernel's log.
        public var level: String?
        /// An nflog group instead of the kernel's log.
        public var group: Int?

        public init(prefix: String?, level: String? = nil, group: Int? = nil) {
            self.prefix = prefix
            self.level = level
            self.group = group
        }

        public static let names = ["log"]

        public init(_ name: String, _ body: JSON, of json: JSON) throws(UnsupportedRuleset) {
            self.init(prefix: body["prefix"]?.text, level: body["level"]?.text, group: body["group"]?.integer)
            if let prefix, prefix.utf8.count > 127 { throw UnsupportedRuleset(json, "a log prefix beyond 127 bytes") }
            if let level, !Self.levels.contains(level) {
                throw UnsupportedRuleset(json, "this log level", allowed: Self.levels)
            }
            if body["snaplen"] != nil || body["queue-threshold"] != nil || body["flags"] != nil {
                throw UnsupportedRuleset(json, "a log with snaplen, queue-threshold or flags")
            }
        }

        public var json: JSON {
            [
                "log": .object([
                    "prefix": prefix.map { .text($0) }, "level": level.map { .text($0) },
                    "group": group.map { .integer($0) },
                ])
            ]
        }
    }

    public static func log(_ log: Log) -> Statement { Statement(log) }
}
