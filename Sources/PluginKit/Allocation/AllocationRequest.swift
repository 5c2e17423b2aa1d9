/// What a plugin needs of the numbers that all plugins of an image share: the manifest's key
/// `allocates`. Names are the plugin's own; ``Allocation`` has the numbers.
public struct AllocationRequest: Sendable, Hashable {
    /// A field of packet marks.
    public enum Mark: Sendable, Hashable {
        /// One of ``MarkField/shared``, which all plugins that name it write.
        case shared
        /// A field of the plugin's own.
        ///
        /// - isSaved: whether the connection keeps it, for all of its packets in both directions.
        case own(bits: Int, isSaved: Bool)
    }

    /// Consecutive numbers.
    public enum Numbers: Sendable, Hashable {
        case count(Int)
        /// Of priorities: before those of the site's own policy routes.
        case early(Int)
        /// Exactly these, because a person writes them in the site document.
        case fixed(ClosedRange<Int>)
    }

    public var marks: [String: Mark]
    /// Zones of connection tracking.
    public var zones: [String: Numbers]
    /// Routing tables.
    public var tables: [String: Numbers]
    /// Priorities of policy rules.
    public var priorities: [String: Numbers]
    /// Network namespaces.
    public var namespaces: [String]

    public init(
        marks: [String: Mark] = [:], zones: [String: Numbers] = [:], tables: [String: Numbers] = [:],
        priorities: [String: Numbers] = [:], namespaces: [String] = []
    ) {
        (self.marks, self.zones, self.tables) = (marks, zones, tables)
        (self.priorities, self.namespaces) = (priorities, namespaces)
    }

    public var isEmpty: Bool { self == AllocationRequest() }

    /// For people: each kind, and what is needed of it.
    public var words: [(kind: String, words: String)] {
        func list(_ all: [String: Numbers]) -> String {
            all.sorted { $0.key < $1.key }.map { "\($0.key) (\($0.value.words))" }.joined(separator: ", ")
        }
        let fields = marks.sorted { $0.key < $1.key }.map { name, mark in
            switch mark {
            case .shared: "\(name) (shared)"
            case .own(let bits, let isSaved): "\(name) (\(bits) bits\(isSaved ? ", saved" : ""))"
            }
        }
        return [
            ("marks", fields.joined(separator: ", ")), ("zones", list(zones)), ("tables", list(tables)),
            ("priorities", list(priorities)), ("namespaces", namespaces.joined(separator: ", ")),
        ]
    }

    var json: JSON {
        func numbers(_ all: [String: Numbers]) -> JSON? {
            all.isEmpty ? nil : .object(all.mapValues(\.json))
        }
        return .object([
            "marks": marks.isEmpty ? nil : .object(marks.mapValues(\.json)), "zones": numbers(zones),
            "tables": numbers(tables), "priorities": numbers(priorities),
            "namespaces": namespaces.isEmpty ? nil : .texts(namespaces),
        ])
    }

    static var shape: Shape<AllocationRequest> {
        .mapping("what the plugin allocates") { fields in
            func byName<Value>(_ pairs: [(key: String, value: Value)]?) -> [String: Value] {
                Dictionary((pairs ?? []).map { ($0.key, $0.value) }) { $1 }
            }
            let marks = byName(fields.optional("marks", .dictionary(.name, Mark.shape.located)))
            for (name, mark) in marks.sorted(by: { $0.key < $1.key }) {
                let isShared = MarkField.shared.contains { $0.name == name }
                guard isShared != (mark.value == .shared) else { continue }
                let names = MarkField.shared.map(\.name).joined(separator: ", ")
                fields.problems.add(
                    mark.problem(
                        isShared
                            ? "the field \(name) is one that plugins share, found a field of the plugin's own"
                            : "the field \(name) is none that plugins share",
                        hint: isShared
                            ? "write \"\(name)\": \"shared\", or give the field another name"
                            : "shared fields are \(names); a field of its own has {\"bits\": N}"))
            }
            let ranges = (Allocation.zoneNumbers, Allocation.tableNumbers, Allocation.priorityNumbers)
            let zones = byName(fields.optional("zones", .dictionary(.name, Numbers.shape(ranges.0))))
            let tables = byName(fields.optional("tables", .dictionary(.name, Numbers.shape(ranges.1))))
            let priorities = byName(
                fields.optional("priorities", .dictionary(.name, Numbers.shape(ranges.2, canBeEarly: true))))
            let namespaces = fields.optional("namespaces", .list(of: .name)) ?? []
            return AllocationRequest(
                marks: marks.mapValues(\.value), zones: zones, tables: tables, priorities: priorities,
                namespaces: namespaces)
        }
    }
}

extension AllocationRequest.Mark {
    var json: JSON {
        switch self {
        case .shared: "shared"
        case .own(let bits, let isSaved):
            .object(["bits": .integer(bits), "saved": isSaved ? .boolean(true) : nil])
        }
    }

    fileprivate static var shape: Shape<Self> {
        let own = Shape<Self>.mapping("bits, and whether they are saved") { fields in
            let bits = fields.required("bits", .integer(1...32))
            let isSaved = fields.optional("saved", .boolean) ?? false
            return bits.map { .own(bits: $0, isSaved: isSaved) }
        }
        return Shape("\"shared\", or an object with bits from 1 to 32 and saved") { node, path, problems in
            if case .scalar(let scalar) = node.value, scalar.text == "shared" { return .shared }
            return own.read(node, path: path, into: problems)
        }
    }
}

extension AllocationRequest.Numbers {
    fileprivate var words: String {
        switch self {
        case .count(let count): "\(count)"
        case .early(let count): "\(count), early"
        case .fixed(let numbers): "\(numbers.lowerBound) to \(numbers.upperBound)"
        }
    }

    var json: JSON {
        switch self {
        case .count(let count): .integer(count)
        case .early(let count): ["count": .integer(count), "early": true]
        case .fixed(let numbers): [.integer(numbers.lowerBound), .integer(numbers.upperBound)]
        }
    }

    fileprivate static func shape(_ allowed: ClosedRange<Int>, canBeEarly: Bool = false) -> Shape<Self> {
        let count = Shape<Int>.integer(1...allowed.count)
        let number = Shape<Int>.integer(allowed)
        let early = Shape<Self>.mapping("count and early") { fields in
            let count = fields.required("count", count)
            let isEarly = fields.optional("early", .boolean) ?? false
            return count.map { isEarly ? .early($0) : .count($0) }
        }
        let words =
            "how many, or [FIRST, LAST] from \(allowed.lowerBound) to \(allowed.upperBound)"
            + (canBeEarly ? ", or an object with count and early" : "")
        return Shape(words) { node, path, problems in
            switch node.value {
            case .sequence:
                guard let ends = Shape.list(of: number).read(node, path: path, into: problems) else { return nil }
                guard ends.count == 2, ends[0] <= ends[1] else {
                    problems.add(node, path, "found \(node.summary)", hint: "allowed is \(words)")
                    return nil
                }
                return .fixed(ends[0]...ends[1])
            case .mapping where canBeEarly: return early.read(node, path: path, into: problems)
            default: return count.read(node, path: path, into: problems).map { .count($0) }
            }
        }
    }
}
