/// The numbers that the plugins of an image share, by plugin and name: made from the manifests when
/// the image is built, and a file of the image.
public struct Allocation: Sendable, Hashable {
    /// What a plugin has, by the names of its manifest.
    public struct Share: Sendable, Hashable {
        public var marks: [String: MarkField] = [:]
        public var zones: [String: ClosedRange<Int>] = [:]
        public var tables: [String: ClosedRange<Int>] = [:]
        public var priorities: [String: ClosedRange<Int>] = [:]
        /// The names that the namespaces have on the box.
        public var namespaces: [String: String] = [:]

        public init() {}

        public var isEmpty: Bool { self == Share() }
    }

    /// 0 is the zone of packets without `ct zone`.
    public static let zoneNumbers = 1...65_535
    /// 0 is RT_TABLE_UNSPEC, and 253 to 255 are the kernel's own (linux/rtnetlink.h).
    public static let tableNumbers = 1...Int(UInt32.max)
    /// 0, 32766 and 32767 are the kernel's own rules.
    public static let priorityNumbers = 1...32_765

    static let kernelTables = 253...255
    /// Where counted ones are: beside what people write in site documents, and other programs take.
    static let (countedTables, countedPriorities, earlyPriorities) = (10_000...65_535, 10_000...32_765, 1...999)

    /// By plugin; plugins without any are absent.
    public internal(set) var shares: [String: Share] = [:]

    /// Nothing is allocated.
    public init() {}

    public func share(of plugin: String) -> Share { shares[plugin] ?? Share() }

    /// All fields of marks, from the lowest bit on; a shared one once.
    public var fields: [MarkField] {
        Set(shares.values.flatMap(\.marks.values)).sorted { ($0.shift, $0.name) < ($1.shift, $1.name) }
    }

    /// The bits of packet marks that connections keep.
    public var savedMarks: UInt32 { fields.filter(\.isSaved).reduce(0) { $0 | $1.mask } }

    // MARK: - The file

    /// The name of its file in the folder of the plugins.
    public static let fileName = "allocation.json"

    public var json: JSON { .object(shares.mapValues(\.json)) }

    public static var shape: Shape<Allocation> {
        Shape<[(key: String, value: Share)]>.dictionary(.text, Share.shape).map { pairs in
            var allocation = Allocation()
            for (plugin, share) in pairs { allocation.shares[plugin] = share }
            return allocation
        }
    }

    /// For people: a line for each field, range and namespace, in the order of the numbers.
    public var lines: [String] {
        var lines = fields.map { field in
            let bits = field.bits == 1 ? "bit \(field.shift)" : "bits \(field.shift)-\(field.shift + field.bits - 1)"
            return "mark \(field.name): \(bits)\(field.isSaved ? ", saved" : "")"
        }
        let kinds: [(String, KeyPath<Share, [String: ClosedRange<Int>]>)] = [
            ("zones", \.zones), ("tables", \.tables), ("priorities", \.priorities),
        ]
        for (kind, path) in kinds {
            let all = shares.flatMap { plugin, share in share[keyPath: path].map { ("\(plugin).\($0.key)", $0.value) } }
            lines += all.sorted { $0.1.lowerBound < $1.1.lowerBound }.map { name, numbers in
                "\(kind) \(name): \(numbers.lowerBound)-\(numbers.upperBound)"
            }
        }
        return lines + shares.values.flatMap(\.namespaces.values).sorted().map { "namespace \($0)" }
    }
}

extension Allocation.Share {
    /// As the plugin gets it.
    public var json: JSON {
        func numbers(_ all: [String: ClosedRange<Int>]) -> JSON? {
            all.isEmpty
                ? nil : .object(all.mapValues { [.integer($0.lowerBound), .integer($0.upperBound)] })
        }
        return .object([
            "marks": marks.isEmpty ? nil : .object(marks.mapValues(\.json)), "zones": numbers(zones),
            "tables": numbers(tables), "priorities": numbers(priorities),
            "namespaces": namespaces.isEmpty ? nil : .object(namespaces.mapValues { .text($0) }),
        ])
    }

    public static var shape: Shape<Self> {
        .mapping("what a plugin has of shared numbers") { fields in
            func byName<Value>(_ pairs: [(key: String, value: Value)]?) -> [String: Value] {
                Dictionary((pairs ?? []).map { ($0.key, $0.value) }) { $1 }
            }
            let ends = Shape.list(of: .integer(1...Int(UInt32.max))).map("[FIRST, LAST]") { ends in
                ends.count == 2 && ends[0] <= ends[1] ? ends[0]...ends[1] : nil
            }
            var share = Self()
            share.marks = byName(fields.optional("marks", .dictionary(.name, MarkField.shape)))
            share.zones = byName(fields.optional("zones", .dictionary(.name, ends)))
            share.tables = byName(fields.optional("tables", .dictionary(.name, ends)))
            share.priorities = byName(fields.optional("priorities", .dictionary(.name, ends)))
            share.namespaces = byName(fields.optional("namespaces", .dictionary(.name, .text)))
            return share
        }
    }
}

extension Allocation.Share {
    /// Whether it has what a manifest asks for.
    public func isOf(_ request: AllocationRequest) -> Bool {
        func fits(_ wanted: [String: AllocationRequest.Numbers], _ own: [String: ClosedRange<Int>]) -> Bool {
            wanted.count == own.count
                && wanted.allSatisfy { name, numbers in
                    guard let found = own[name] else { return false }
                    return switch numbers {
                    case .count(let count), .early(let count): found.count == count
                    case .fixed(let numbers): found == numbers
                    }
                }
        }
        let haveMarks =
            request.marks.count == marks.count
            && request.marks.allSatisfy { name, mark in
                guard let field = marks[name] else { return false }
                return switch mark {
                case .shared: field.name == name
                case .own(let bits, let isSaved): field.bits == bits && field.isSaved == isSaved
                }
            }
        return haveMarks && fits(request.zones, zones) && fits(request.tables, tables)
            && fits(request.priorities, priorities) && Set(request.namespaces) == Set(namespaces.keys)
    }

    func field(_ name: String, of plugin: String) throws(AllocationViolation) -> MarkField {
        guard let field = marks[name] else {
            throw AllocationViolation(name: name, "marks", marks.keys.sorted(), of: plugin)
        }
        return field
    }
}

extension MarkField {
    /// A value at its place within the mark.
    func mark(_ value: Int) throws(AllocationViolation) -> UInt32 {
        guard let placed = placed(value) else {
            throw AllocationViolation(
                "the mark field \(name) has the values 0 to \(values.upperBound), found \(value); have its manifest "
                    + "allocate more bits")
        }
        return placed
    }
}
