/// A number of an allocation, as a plan writes it: `{"uplinks": 2}` is the third number of the
/// plugin's `uplinks`. A number by itself is meant as it is.
public struct AllocatedNumber: Sendable, Hashable, ExpressibleByIntegerLiteral, CustomStringConvertible {
    /// Nil: `offset` is the number itself.
    public var name: String?
    public var offset: Int

    public init(_ name: String, _ offset: Int = 0) { (self.name, self.offset) = (name, offset) }

    public init(_ number: Int) { (name, offset) = (nil, number) }

    public init(integerLiteral value: Int) { self.init(value) }

    /// The number; of one with a name, which the engine resolves before it applies anything, the offset.
    public var number: Int { offset }

    public var description: String { name.map { "\($0)+\(offset)" } ?? "\(offset)" }

    public var json: JSON { name.map { .object([$0: .integer(offset)]) } ?? .integer(offset) }

    /// - Parameters:
    ///   - what: the manifest's key below `allocates`.
    ///   - free: numbers that every plugin may use.
    func resolved(
        _ what: String, _ own: [String: ClosedRange<Int>], of plugin: String, free: Set<Int> = []
    ) throws(AllocationViolation) -> AllocatedNumber {
        guard let name else {
            guard free.contains(offset) || own.values.contains(where: { $0.contains(offset) }) else {
                throw AllocationViolation(number: offset, what, own, of: plugin)
            }
            return self
        }
        guard let range = own[name] else { throw AllocationViolation(name: name, what, own.keys.sorted(), of: plugin) }
        guard (0..<range.count).contains(offset) else {
            throw AllocationViolation(
                "\(what) \(name) of the plugin \(plugin) has the offsets 0 to \(range.count - 1), found \(offset); "
                    + "have its manifest allocate more")
        }
        return AllocatedNumber(range.lowerBound + offset)
    }
}

extension ResourceLine {
    /// A number within a range, or a name with an offset; nil where the key is absent.
    func allocated(_ key: String, _ range: ClosedRange<Int>) throws(InvalidResource) -> AllocatedNumber? {
        guard let object = json[key]?.object else { return try number(key, range).map { AllocatedNumber($0) } }
        guard object.count == 1, let name = object.keys.first, let offset = object[name]?.integer, offset >= 0 else {
            throw invalid("\"\(key)\" is neither a number nor {NAME: OFFSET}")
        }
        return AllocatedNumber(name, offset)
    }
}

/// A plan that uses what its plugin's manifest does not allocate.
public struct AllocationViolation: Error, Sendable, Hashable, CustomStringConvertible {
    public var description: String

    init(_ description: String) { self.description = description }

    init(name: String, _ what: String, _ known: [String], of plugin: String) {
        let own = known.isEmpty ? "it allocates none" : "it allocates \(known.joined(separator: ", "))"
        let line: JSON
        if what == "marks" {
            let isShared = MarkField.shared.contains { $0.name == name }
            line = .object([name: isShared ? "shared" : ["bits": 4]])
        } else {
            line = .object([name: 1])
        }
        self.init(
            "the manifest of the plugin \(plugin) does not allocate \(what) \(name): \(own); add "
                + "\"allocates\": {\"\(what)\": \(line.line)} to the manifest")
    }

    init(number: Int, _ what: String, _ own: [String: ClosedRange<Int>], of plugin: String) {
        let ranges = own.sorted { $0.key < $1.key }.map { "\($0.value.lowerBound) to \($0.value.upperBound)" }
        self.init(
            "the number \(number) is none of the \(what) of the plugin \(plugin), which are "
                + "\(ranges.isEmpty ? "none" : ranges.joined(separator: ", ")); allocate \(what) in its manifest, such "
                + "as \"allocates\": {\"\(what)\": {\"NAME\": 1}}, and write {\"NAME\": 0}")
    }

    init(namespace: String, _ known: [String], of plugin: String) {
        let own = known.isEmpty ? "it allocates none" : "it allocates \(known.joined(separator: ", "))"
        self.init(
            "the manifest of the plugin \(plugin) does not allocate the namespace \(namespace): \(own); add "
                + "\"allocates\": {\"namespaces\": [\"\(namespace)\"]} to the manifest")
    }
}
