import Documents

/// A number from 0 to below `modulus`: the next one, or one by chance.
public struct NumberGenerator: Sendable, Hashable {
    public enum Mode: String, Sendable, CaseIterable {
        case increment = "inc"
        case random
    }

    public var mode: Mode
    public var modulus: Int
    /// Added to the number.
    public var offset: Int

    public init(_ mode: Mode, modulus: Int, offset: Int = 0) {
        (self.mode, self.modulus, self.offset) = (mode, modulus, offset)
    }

    init(_ body: JSON, of json: JSON) throws(UnsupportedRuleset) {
        guard let mode = body["mode"]?.text.flatMap(Mode.init) else {
            throw UnsupportedRuleset(json, "this mode of numgen", allowed: Mode.allCases.map(\.rawValue))
        }
        let numbers = try JSON.modulus(body, of: json)
        self.init(mode, modulus: numbers.modulus, offset: numbers.offset)
    }

    var json: JSON {
        ["numgen": ["mode": .text(mode.rawValue), "mod": .integer(modulus), "offset": .integer(offset)]]
    }
}
