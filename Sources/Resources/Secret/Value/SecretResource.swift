/// A secret that the engine makes once and keeps: `${secret:NAME}` in a file stands for it.
public struct SecretResource: ResourceType {
    public static let kind = "secret"

    public enum Source: Sendable, Hashable {
        /// This number of random bytes, in hexadecimal digits.
        case bytes(Int)
        /// What a program of the image writes into the file that the word `${file}` stands for, or on
        /// its standard output where no word is `${file}`.
        case program([String])
    }

    /// The plugin's name, a dot, and a name of its own.
    public var name: String
    public var source: Source

    public init(name: String, _ source: Source) { (self.name, self.source) = (name, source) }

    public init(_ line: ResourceLine) throws(InvalidResource) {
        name = try line.required("id")
        guard line["program"] != nil else {
            source = .bytes(try line.number("bytes", 8...1024) ?? 32)
            return
        }
        let words = try line.texts("program")
        guard words.first?.hasPrefix("/") == true else {
            throw line.invalid("\"program\" is not a list of an absolute path and its arguments")
        }
        source = .program(words)
    }

    public var identity: String { name }

    public var fields: [String: JSON] {
        switch source {
        case .bytes(let bytes): ["bytes": .integer(bytes)]
        case .program(let words): ["program": .texts(words)]
        }
    }

    public var programs: [String] {
        if case .program(let words) = source { Array(words.prefix(1)) } else { [] }
    }

    public func objection(to plugin: String) -> String? { Self.objection(toName: name, of: plugin) }
}
