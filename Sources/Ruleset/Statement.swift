import Documents

/// What a packet meets at a rule's end.
public enum Verdict: Sendable, Hashable {
    case accept, drop, `return`, `continue`
    case jump(String), goto(String)

    /// The chain that it leads to.
    public var target: String? {
        switch self {
        case .jump(let chain), .goto(let chain): chain
        default: nil
        }
    }

    init?(_ json: JSON) {
        guard let (name, body) = json.single else { return nil }
        switch (name, body["target"]?.text) {
        case ("accept", _): self = .accept
        case ("drop", _): self = .drop
        case ("return", _): self = .return
        case ("continue", _): self = .continue
        case ("jump", let chain?): self = .jump(chain)
        case ("goto", let chain?): self = .goto(chain)
        default: return nil
        }
    }

    public var json: JSON {
        switch self {
        case .accept: ["accept": .null]
        case .drop: ["drop": .null]
        case .return: ["return": .null]
        case .continue: ["continue": .null]
        case .jump(let chain): ["jump": ["target": .text(chain)]]
        case .goto(let chain): ["goto": ["target": .text(chain)]]
        }
    }
}

/// A step of a rule. Counters are named ones only: an anonymous one would lose its count at every change of its chain.
public enum Statement: Sendable, Hashable {
    public enum Comparison: String, Sendable, CaseIterable {
        case equal = "=="
        case notEqual = "!="
        case less = "<"
        case lessOrEqual = "<="
        case greater = ">"
        case greaterOrEqual = ">="
        /// Any of these bits.
        case any = "in"
    }

    public struct Limit: Sendable, Hashable {
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
    }

    public struct Log: Sendable, Hashable {
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
    }

    public enum Rejection: Sendable, Hashable {
        case tcpReset
        /// A code of `icmpx`, which is ICMP or ICMPv6 as the packet is.
        case icmpx(String)

        public static let codes = Symbols.icmpxCodes
    }

    public enum NATKind: String, Sendable, CaseIterable { case snat, dnat }

    public enum NATFlag: String, Sendable, CaseIterable {
        /// One source has the same address of a pool for all that it talks to.
        case persistent
        /// What is beyond the prefix stays.
        case netmap
    }

    public enum Family: String, Sendable, CaseIterable { case ip, ip6 }

    /// What a set keeps for each of its keys.
    public enum Each: Sendable, Hashable {
        case limit(Limit)
        /// Connections at once; matches those beyond.
        case connections(over: Int)
    }

    /// What a server would offer in its answer.
    public struct SynProxy: Sendable, Hashable {
        /// Bytes of a segment.
        public var mss: Int
        /// Shift of the window.
        public var windowScale: Int
        public var timestamps: Bool
        public var selectiveAcknowledgements: Bool

        public init(
            mss: Int = 1460, windowScale: Int = 7, timestamps: Bool = true, selectiveAcknowledgements: Bool = true
        ) {
            self.mss = mss
            self.windowScale = windowScale
            self.timestamps = timestamps
            self.selectiveAcknowledgements = selectiveAcknowledgements
        }
    }

    public enum SetOperation: String, Sendable, CaseIterable { case add, update, delete }

    case match(Expression, Comparison, Expression)
    case verdict(Verdict)
    /// Looks the key up and goes where the map says; nothing found, the packet goes on.
    case verdictMap(Expression, [VerdictMapEntry])
    /// The same with a named map.
    case namedVerdictMap(Expression, String)
    case counter(String)
    /// Looks the key up and counts with the counter that the named map says; nothing found, the rule ends here.
    case counterMap(Expression, String)
    case limit(Limit)
    case log(Log)
    case reject(Rejection)
    case masquerade
    /// A range of addresses is a pool; a prefix with the flag `netmap` maps networks of one length to each other.
    case nat(NATKind, Family, address: Expression?, port: Expression?, flags: Set<NATFlag> = [])
    /// Writes a mark of the packet or of the connection.
    case setMark(Selector, Expression)
    case notrack
    /// Has the kernel tell of every rule that the packet meets from here on. The engine's alone: no plan may say it.
    case trace
    /// Puts the key into a set, for `timeout` seconds; with what is kept for each key, goes on where that says so.
    case element(SetOperation, Expression, set: String, timeout: Int?, each: Each? = nil)
    /// Puts the key into a map, leading to what the packet's values are.
    case mapElement(SetOperation, Expression, Expression, map: String, timeout: Int? = nil)
    /// Answers TCP's first packets in the place of the server, until the client has answered.
    case synproxy(SynProxy)
    /// Puts the connection into a flowtable.
    case flow(String)
    /// Has a named helper follow the connection.
    case helper(String)
}

/// A key and where it leads.
public struct VerdictMapEntry: Sendable, Hashable {
    public var key: Expression
    public var verdict: Verdict

    public init(_ key: Expression, _ verdict: Verdict) {
        self.key = key
        self.verdict = verdict
    }

    init(_ json: JSON) throws(UnsupportedRuleset) {
        guard let pair = json.list, pair.count == 2, let verdict = Verdict(pair[1]) else {
            throw UnsupportedRuleset(json, "this entry of a verdict map")
        }
        self.init(try Expression(pair[0]), verdict)
    }

    var json: JSON { [key.json, verdict.json] }
}
