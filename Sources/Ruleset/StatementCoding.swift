import Documents

extension Statement {
    /// Reads libnftables' JSON.
    public init(_ json: JSON) throws(UnsupportedRuleset) {
        if let verdict = Verdict(json) {
            self = .verdict(verdict)
            return
        }
        guard let (name, body) = json.single else { throw UnsupportedRuleset(json, "this statement") }
        switch name {
        case "match": self = try Self.match(body, json)
        case "vmap": self = try Self.verdictMap(body, json)
        case "counter":
            if let map = body["map"], let key = map["key"], let name = map["data"]?.text, name.hasPrefix("@") {
                self = .counterMap(try Expression(key), String(name.dropFirst()))
                return
            }
            guard let counter = body.text else {
                throw UnsupportedRuleset(json, "an anonymous counter (it loses its count at every change)")
            }
            self = .counter(counter)
        case "limit": self = .limit(try Limit(body, json))
        case "log": self = .log(try Log(body, json))
        case "reject": self = .reject(try Rejection(body, json))
        case "masquerade":
            guard body == .null else { throw UnsupportedRuleset(json, "masquerade with options") }
            self = .masquerade
        case "snat", "dnat": self = try Self.nat(name == "snat" ? .snat : .dnat, body, json)
        case "mangle":
            guard let key = body["key"], let selector = try Selector(key),
                [.meta(.mark), .ct(.mark)].contains(selector)
            else { throw UnsupportedRuleset(json, "writing anything but marks") }
            guard let value = body["value"] else { throw UnsupportedRuleset(json, "mangle without a value") }
            self = .setMark(selector, try Expression(value))
        case "notrack": self = .notrack
        case "set": self = try Self.element(body, json)
        case "map":
            guard let operation = (body["op"]?.text).flatMap(SetOperation.init), let key = body["elem"],
                let data = body["data"], let name = body["map"]?.text, name.hasPrefix("@")
            else { throw UnsupportedRuleset(json, "this use of a map") }
            let inner = key["elem"]
            self = .mapElement(
                operation, try Expression(inner?["val"] ?? key), try Expression(data), map: String(name.dropFirst()),
                timeout: try JSON.seconds(inner?["timeout"]))
        case "flow":
            guard body["op"]?.text == "add", let name = body["flowtable"]?.text, name.hasPrefix("@") else {
                throw UnsupportedRuleset(json, "this use of a flowtable")
            }
            self = .flow(String(name.dropFirst()))
        case "ct helper":
            guard let name = body.text else { throw UnsupportedRuleset(json, "this helper") }
            self = .helper(name)
        case "synproxy":
            let flags = body["flags"]?.list?.compactMap(\.text) ?? []
            guard let mss = body["mss"]?.integer, let scale = body["wscale"]?.integer, (1...65535).contains(mss),
                (0...14).contains(scale), Set(flags).isSubset(of: ["timestamp", "sack-perm"])
            else { throw UnsupportedRuleset(json, "this synproxy (it wants mss and wscale)") }
            self = .synproxy(
                SynProxy(
                    mss: mss, windowScale: scale, timestamps: flags.contains("timestamp"),
                    selectiveAcknowledgements: flags.contains("sack-perm")))
        default: throw UnsupportedRuleset(json, "the statement \"\(name)\"")
        }
    }

    private static func match(_ body: JSON, _ json: JSON) throws(UnsupportedRuleset) -> Statement {
        guard let comparison = (body["op"]?.text).flatMap(Comparison.init) else {
            throw UnsupportedRuleset(json, "this operator", allowed: Comparison.allCases.map(\.rawValue))
        }
        guard let left = body["left"], let right = body["right"] else { throw UnsupportedRuleset(json, "half a match") }
        return .match(try Expression(left), comparison, try Expression(right))
    }

    private static func verdictMap(_ body: JSON, _ json: JSON) throws(UnsupportedRuleset) -> Statement {
        guard let key = body["key"], let data = body["data"] else { throw UnsupportedRuleset(json, "half a vmap") }
        if let name = data.text, name.hasPrefix("@") {
            return .namedVerdictMap(try Expression(key), String(name.dropFirst()))
        }
        guard let items = data["set"]?.list else { throw UnsupportedRuleset(json, "this vmap") }
        var entries: [VerdictMapEntry] = []
        for item in items { entries.append(try VerdictMapEntry(item)) }
        return .verdictMap(try Expression(key), entries)
    }

    private static func nat(_ kind: NATKind, _ body: JSON, _ json: JSON) throws(UnsupportedRuleset) -> Statement {
        guard let family = (body["family"]?.text).flatMap(Family.init) else {
            throw UnsupportedRuleset(json, "\(kind.rawValue) without family ip or ip6")
        }
        var flags: Set<NATFlag> = []
        for flag in body["flags"]?.list ?? (body["flags"].map { [$0] } ?? []) {
            guard let known = flag.text.flatMap(NATFlag.init) else {
                throw UnsupportedRuleset(
                    json, "this flag of \(kind.rawValue)", allowed: NATFlag.allCases.map(\.rawValue))
            }
            flags.insert(known)
        }
        guard body["type_flags"] == nil || body["type_flags"]?.text == "prefix" && flags.contains(.netmap) else {
            throw UnsupportedRuleset(json, "\(kind.rawValue) with type_flags but prefix")
        }
        var address: Expression?
        var port: Expression?
        if let value = body["addr"] { address = try Expression(value) }
        if let value = body["port"] { port = try Expression(value) }
        return .nat(kind, family, address: address, port: port, flags: flags)
    }

    private static func element(_ body: JSON, _ json: JSON) throws(UnsupportedRuleset) -> Statement {
        guard let operation = (body["op"]?.text).flatMap(SetOperation.init), let element = body["elem"],
            let name = body["set"]?.text, name.hasPrefix("@")
        else { throw UnsupportedRuleset(json, "this use of a set") }
        let inner = element["elem"]
        let key = inner?["val"] ?? element
        var each: Each?
        switch body["stmt"]?.list {
        case nil, []?: break
        case let items?:
            guard items.count == 1, let (what, inner) = items[0].single else {
                throw UnsupportedRuleset(json, "other than one thing for each element")
            }
            switch what {
            case "limit": each = .limit(try Limit(inner, items[0]))
            case "ct count":
                guard let count = inner["val"]?.integer, count > 0, inner["inv"]?.boolean == true else {
                    throw UnsupportedRuleset(json, "a count of connections but \"over\"")
                }
                each = .connections(over: count)
            default: throw UnsupportedRuleset(json, "\"\(what)\" for each element", allowed: ["limit", "ct count"])
            }
        }
        return .element(
            operation, try Expression(key), set: String(name.dropFirst()), timeout: try JSON.seconds(inner?["timeout"]),
            each: each)
    }

    public var json: JSON {
        switch self {
        case .match(let left, let comparison, let right):
            // "missing" and "exists" are booleans in JSON.
            let value: JSON =
                if case .selector(let selector) = left, selector.isBoolean, case .number(let number) = right {
                    .boolean(number != 0)
                } else {
                    right.json
                }
            return ["match": ["op": .text(comparison.rawValue), "left": left.json, "right": value]]
        case .verdict(let verdict): return verdict.json
        case .verdictMap(let key, let entries):
            return ["vmap": ["key": key.json, "data": ["set": .list(entries.map(\.json))]]]
        case .namedVerdictMap(let key, let name): return ["vmap": ["key": key.json, "data": .text("@" + name)]]
        case .counter(let name): return ["counter": .text(name)]
        case .counterMap(let key, let name):
            return ["counter": ["map": ["key": key.json, "data": .text("@" + name)]]]
        case .limit(let limit): return limit.json
        case .log(let log):
            return [
                "log": .object([
                    "prefix": log.prefix.map { .text($0) }, "level": log.level.map { .text($0) },
                    "group": log.group.map { .integer($0) },
                ])
            ]
        case .reject(.tcpReset): return ["reject": ["type": "tcp reset"]]
        case .reject(.icmpx(let code)): return ["reject": ["type": "icmpx", "expr": .text(code)]]
        case .masquerade: return ["masquerade": .null]
        case .nat(let kind, let family, let address, let port, let flags):
            let names = NATFlag.allCases.filter(flags.contains).map(\.rawValue)
            return [
                kind.rawValue: .object([
                    "family": .text(family.rawValue), "addr": address?.json, "port": port?.json,
                    // As nft itself writes them.
                    "flags": names.isEmpty ? nil : names.count == 1 ? .text(names[0]) : .texts(names),
                    "type_flags": flags.contains(.netmap) ? "prefix" : nil,
                ])
            ]
        case .trace: return ["mangle": ["key": ["meta": ["key": "nftrace"]], "value": 1]]
        case .setMark(let selector, let value): return ["mangle": ["key": selector.json, "value": value.json]]
        case .notrack: return ["notrack": .null]
        case .element(let operation, let key, let set, let timeout, let each):
            let kept: JSON? =
                switch each {
                case nil: nil
                case .limit(let limit): limit.json
                case .connections(let count): ["ct count": ["val": .integer(count), "inv": true]]
                }
            return [
                "set": .object([
                    "op": .text(operation.rawValue), "elem": Self.element(key, timeout), "set": .text("@" + set),
                    "stmt": kept.map { .list([$0]) },
                ])
            ]
        case .mapElement(let operation, let key, let data, let map, let timeout):
            return [
                "map": [
                    "op": .text(operation.rawValue), "elem": Self.element(key, timeout), "data": data.json,
                    "map": .text("@" + map),
                ]
            ]
        case .flow(let name): return ["flow": ["op": "add", "flowtable": .text("@" + name)]]
        case .helper(let name): return ["ct helper": .text(name)]
        case .synproxy(let proxy):
            let flags = [
                proxy.timestamps ? "timestamp" : nil, proxy.selectiveAcknowledgements ? "sack-perm" : nil,
            ].compactMap { $0 }
            return [
                "synproxy": .object([
                    "mss": .integer(proxy.mss), "wscale": .integer(proxy.windowScale),
                    "flags": flags.isEmpty ? nil : .texts(flags),
                ])
            ]
        }
    }
}

extension Statement {
    fileprivate static func element(_ key: Expression, _ timeout: Int?) -> JSON {
        timeout.map { ["elem": ["val": key.json, "timeout": .integer($0)]] } ?? key.json
    }
}

extension Selector {
    /// Something is there, or it isn't.
    fileprivate var isBoolean: Bool {
        switch self {
        case .fib(_, .interface), .isFragment: true
        default: false
        }
    }
}

extension Statement.Limit {
    fileprivate var json: JSON {
        let unit: JSON? = measure == .packets ? nil : .text(measure.rawValue)
        return [
            "limit": .object([
                "rate": .integer(rate), "per": .text(per.rawValue), "burst": .integer(burst),
                "inv": isOver ? true : nil, "rate_unit": unit, "burst_unit": unit,
            ])
        ]
    }

    fileprivate init(_ body: JSON, _ json: JSON) throws(UnsupportedRuleset) {
        guard let rate = body["rate"]?.integer, rate > 0, let per = (body["per"]?.text).flatMap(Unit.init) else {
            throw UnsupportedRuleset(json, "this limit", allowed: Unit.allCases.map { "a rate a \($0.rawValue)" })
        }
        let units = ["rate_unit", "burst_unit"].map { body[$0]?.text ?? "packets" }
        guard let measure = Measure(rawValue: units[0]), units[0] == units[1] else {
            throw UnsupportedRuleset(
                json, "the units of this limit", allowed: Measure.allCases.map { "\($0.rawValue) for both" })
        }
        self.init(
            rate: rate, measure, per: per, burst: body["burst"]?.integer ?? 5, isOver: body["inv"]?.boolean ?? false)
    }
}

extension Statement.Log {
    fileprivate init(_ body: JSON, _ json: JSON) throws(UnsupportedRuleset) {
        self.init(prefix: body["prefix"]?.text, level: body["level"]?.text, group: body["group"]?.integer)
        if let prefix, prefix.utf8.count > 127 { throw UnsupportedRuleset(json, "a log prefix beyond 127 bytes") }
        if let level, !Self.levels.contains(level) {
            throw UnsupportedRuleset(json, "this log level", allowed: Self.levels)
        }
        if body["snaplen"] != nil || body["queue-threshold"] != nil || body["flags"] != nil {
            throw UnsupportedRuleset(json, "a log with snaplen, queue-threshold or flags")
        }
    }
}

extension Statement.Rejection {
    fileprivate init(_ body: JSON, _ json: JSON) throws(UnsupportedRuleset) {
        switch (body["type"]?.text, body["expr"]?.text) {
        case ("tcp reset", nil): self = .tcpReset
        case ("icmpx", let code?) where Symbols.icmpxCodes[code] != nil: self = .icmpx(code)
        default:
            throw UnsupportedRuleset(
                json, "this rejection",
                allowed: ["tcp reset"] + Symbols.icmpxCodes.keys.sorted().map { "icmpx \($0)" })
        }
    }
}
