/// Reads the keys of a plan's line.
public struct ResourceLine: Sendable {
    public let json: JSON

    init(_ json: JSON) { self.json = json }

    public subscript(key: String) -> JSON? { json[key] }

    public func invalid(_ problem: String) -> InvalidResource { InvalidResource(problem, json) }

    public func required(_ key: String) throws(InvalidResource) -> String {
        guard let text = json[key]?.text else { throw invalid("the text \"\(key)\" is missing") }
        return text
    }

    /// A text; nil where the key is absent.
    public func text(_ key: String) throws(InvalidResource) -> String? {
        json[key] == nil ? nil : try required(key)
    }

    /// A number within a range; nil where the key is absent.
    public func number(_ key: String, _ range: ClosedRange<Int>) throws(InvalidResource) -> Int? {
        guard let value = json[key] else { return nil }
        guard let number = value.integer, range.contains(number) else {
            throw invalid("\"\(key)\" is not a number from \(range.lowerBound) to \(range.upperBound)")
        }
        return number
    }

    /// Two numbers within a range, the first and the last; nil where the key is absent.
    public func range(
        _ key: String, _ allowed: ClosedRange<Int>
    ) throws(InvalidResource) -> ClosedRange<Int>? {
        guard let value = json[key] else { return nil }
        guard let numbers = value.list?.compactMap(\.integer), numbers.count == 2, value.list?.count == 2,
            numbers.allSatisfy(allowed.contains), numbers[0] <= numbers[1]
        else {
            throw invalid(
                "\"\(key)\" is not [FIRST, LAST] of numbers from \(allowed.lowerBound) to \(allowed.upperBound)")
        }
        return numbers[0]...numbers[1]
    }

    /// True or false; false where the key is absent.
    public func flag(_ key: String) throws(InvalidResource) -> Bool {
        guard let value = json[key] else { return false }
        guard case .boolean(let flag) = value else { throw invalid("\"\(key)\" is neither true nor false") }
        return flag
    }

    /// A list of texts; empty where the key is absent.
    public func texts(_ key: String) throws(InvalidResource) -> [String] {
        guard let value = json[key] else { return [] }
        guard let items = value.list else { throw invalid("\"\(key)\" is not a list") }
        var texts: [String] = []
        for item in items {
            guard let text = item.text else { throw invalid("\"\(key)\" has an item that is not a text") }
            texts.append(text)
        }
        return texts
    }

    public func value<Value>(_ key: String, _ make: (String) -> Value?) throws(InvalidResource) -> Value {
        let text = try required(key)
        guard let value = make(text) else { throw invalid("\"\(key)\" can't be \"\(text)\"") }
        return value
    }

    public func optional<Value>(_ key: String, _ make: (String) -> Value?) throws(InvalidResource) -> Value? {
        json[key] == nil ? nil : try value(key, make)
    }

    /// The line of an object in this line, with errors that show that object.
    public func nested(_ key: String) -> ResourceLine? { json[key].map(ResourceLine.init) }

    /// What another reader throws becomes an error of this line.
    func rethrowing<Value>(_ body: () throws -> Value) throws(InvalidResource) -> Value {
        do {
            return try body()
        } catch let error as InvalidResource {
            throw error
        } catch {
            throw invalid("\(error)")
        }
    }
}
