extension NftablesResource {
    public static func mayAllocate(_ line: String) -> Bool {
        // An escape may hide a word. Most lines are rules without marks, and there may be thousands.
        let words = ["\"mark\"", "\"zone\"", "\\u"].map { Array($0.utf8) }
        var line = line
        return line.withUTF8 { all in
            words.contains { word in
                var rest = all[...]
                while let place = rest.firstIndex(of: word[0]) {
                    if all[place...].starts(with: word) { return true }
                    rest = all[(place + 1)...]
                }
                return false
            }
        }
    }

    public func allocated(
        by share: Allocation.Share, of plugin: String
    ) throws(AllocationViolation) -> NftablesResource {
        guard case .chain(var chain, let use) = self else { return self }
        let names = RuleNames(share: share, plugin: plugin)
        for rule in chain.rules.indices {
            for place in chain.rules[rule].statements.indices {
                chain.rules[rule].statements[place] = try names.resolved(chain.rules[rule].statements[place])
            }
        }
        return .chain(chain, stage: use)
    }
}

/// Puts bits of marks and numbers of zones in the place of a plugin's names, in statements.
private struct RuleNames {
    let share: Allocation.Share
    let plugin: String

    func resolved(_ statement: Statement) throws(AllocationViolation) -> Statement {
        switch statement {
        case .match(.selector(.markField(let holder, let name)), let comparison, let right):
            let field = try readable(holder, name)
            return .match(masked(holder, field), comparison, try placed(right, in: field))
        case .match(.selector(.zone(let direction)), let comparison, let right):
            return .match(.selector(.zone(direction)), comparison, try zone(right))
        case .match(let left, _, let right):
            try check(left.json)
            try check(right.json)
        case .verdictMap(.selector(.markField(let holder, let name)), var entries):
            let field = try readable(holder, name)
            for place in entries.indices { entries[place].key = try placed(entries[place].key, in: field) }
            return .verdictMap(masked(holder, field), entries)
        case .verdictMap(.selector(.zone(let direction)), var entries):
            for place in entries.indices { entries[place].key = try zone(entries[place].key) }
            return .verdictMap(.selector(.zone(direction)), entries)
        case .verdictMap(let key, _), .namedVerdictMap(let key, _): try check(key.json)
        case .verdict, .counter: break
        case .other(let other):
            if let mangle = other.value as? Statement.Mangle { return try resolved(mangle) }
            try check(other.value.json)
        }
        return statement
    }

    private func resolved(_ mangle: Statement.Mangle) throws(AllocationViolation) -> Statement {
        switch mangle.target {
        case .markField(.packet, let name):
            let field = try share.field(name, of: plugin)
            guard case .number(let number) = mangle.value else {
                throw AllocationViolation(
                    "the mark field \(name) is set to \(mangle.value.json.line), and the kernel masks constants alone; "
                        + "use a vmap to chains that each set a constant")
            }
            let (value, rest) = (try field.mark(number), Expression.and(.meta(.mark), .number(Int(~field.mask))))
            return .setMark(.meta(.mark), value == 0 ? rest : .or(rest, .number(Int(value))))
        case .markField(.connection, let name):
            let field = try share.field(name, of: plugin)
            throw AllocationViolation(
                "the mark field \(name) is set in the connection's mark; set it in the packet's, {\"meta\": {\"key\": "
                    + "\"mark\", \"field\": \"\(name)\"}}"
                    + (field.isSaved
                        ? ": the engine saves it for the connection" : ", and have the manifest say \"saved\": true"))
        case .meta(.mark), .ct(.mark): throw rawMark(mangle.target)
        case .zone(let direction):
            let value: Expression
            if case .valueMap(let key, var entries) = mangle.value {
                try check(key.json)
                for place in entries.indices { entries[place].value = try zone(entries[place].value) }
                value = .valueMap(key, entries)
            } else {
                value = try zone(mangle.value)
            }
            return .mangle(.zone(direction), value)
        default:
            try check(mangle.value.json)
            return .mangle(mangle.target, mangle.value)
        }
    }

    // MARK: - Marks

    private func readable(_ holder: MarkHolder, _ name: String) throws(AllocationViolation) -> MarkField {
        let field = try share.field(name, of: plugin)
        guard holder == .packet || field.isSaved else {
            throw AllocationViolation(
                "no connection has the mark field \(name), which is one packet's; compare the packet's, {\"meta\": "
                    + "{\"key\": \"mark\", \"field\": \"\(name)\"}}")
        }
        return field
    }

    private func masked(_ holder: MarkHolder, _ field: MarkField) -> Expression {
        .and(holder == .packet ? .meta(.mark) : .ct(.mark), .number(Int(field.mask)))
    }

    private func placed(_ value: Expression, in field: MarkField) throws(AllocationViolation) -> Expression {
        switch value {
        case .number(let number): return .number(Int(try field.mark(number)))
        case .range(let first, let last): return .range(try placed(first, in: field), try placed(last, in: field))
        case .set(let items):
            return .set(try all(items) { item throws(AllocationViolation) in try placed(item, in: field) })
        default:
            throw AllocationViolation(
                "the mark field \(field.name) is compared with \(value.json.line); allowed are numbers, ranges and sets "
                    + "of them")
        }
    }

    private func all(
        _ items: [Expression], _ body: (Expression) throws(AllocationViolation) -> Expression
    ) throws(AllocationViolation) -> [Expression] {
        var result: [Expression] = []
        for item in items { result.append(try body(item)) }
        return result
    }

    private func rawMark(_ selector: Selector) -> AllocationViolation {
        AllocationViolation(
            "a rule of the plugin \(plugin) uses \(Expression.selector(selector).json.line) without a field; allocate one "
                + "in the manifest, such as \"allocates\": {\"marks\": {\"hop\": \"shared\"}}, and add \"field\": \"hop\""
        )
    }

    /// Marks in other places than those above: bits without a meaning.
    private func check(_ json: JSON) throws(AllocationViolation) {
        switch json {
        case .list(let items): for item in items { try check(item) }
        case .object(let entries):
            for holder in MarkHolder.allCases {
                guard let body = entries[holder.rawValue], body["key"]?.text == "mark" else { continue }
                guard let name = body["field"]?.text else {
                    throw rawMark(holder == .packet ? .meta(.mark) : .ct(.mark))
                }
                throw AllocationViolation(
                    "the mark field \(name) is used in another place than on the left of a match, as the key of a vmap "
                        + "in place, or as what mangle sets")
            }
            for value in entries.values { try check(value) }
        default: break
        }
    }

    // MARK: - Zones

    private func zone(_ value: Expression) throws(AllocationViolation) -> Expression {
        func resolved(_ number: AllocatedNumber) throws(AllocationViolation) -> Expression {
            .number(try number.resolved("zones", share.zones, of: plugin, free: [0]).number)
        }
        switch value {
        case .zone(let name, let offset): return try resolved(AllocatedNumber(name, offset))
        case .number(let number): return try resolved(AllocatedNumber(number))
        case .text(let text):
            guard let number = Int(text) else { break }
            return try resolved(AllocatedNumber(number))
        case .range(let first, let last): return .range(try zone(first), try zone(last))
        case .set(let items): return .set(try all(items) { item throws(AllocationViolation) in try zone(item) })
        default: break
        }
        throw AllocationViolation(
            "the zone \(value.json.line) of the plugin \(plugin) is neither a number nor {\"zone\": {NAME: OFFSET}}, nor "
                + "a set of them or a map to them in place")
    }
}
