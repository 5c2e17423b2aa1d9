import Documents

/// A number from 0 to below `modulus`, by Jenkins' hash of the key: the same key always has the same number.
public struct JHash: Sendable, Hashable {
    /// A selector, or a concatenation of them.
    public var key: Expression
    public var modulus: Int
    /// Nil for one that the kernel chooses.
    public var seed: Int?
    /// Added to the number.
    public var offset: Int

    public init(_ key: Expression, modulus: Int, seed: Int? = nil, offset: Int = 0) {
        (self.key, self.modulus, self.seed, self.offset) = (key, modulus, seed, offset)
    }

    init(_ body: JSON, of json: JSON) throws(UnsupportedRuleset) {
        guard let key = body["expr"] else { throw UnsupportedRuleset(json, "jhash without expr") }
        let numbers = try JSON.modulus(body, of: json)
        guard body["seed"] == nil || body["seed"]?.integer.map({ (0...Int(UInt32.max)).contains($0) }) == true else {
            throw UnsupportedRuleset(json, "this seed of jhash", allowed: ["0 to \(UInt32.max)"])
        }
        self.init(
            try Expression(key), modulus: numbers.modulus, seed: body["seed"]?.integer, offset: numbers.offset)
    }

    var json: JSON {
        [
            "jhash": .object([
                "mod": .integer(modulus), "seed": seed.map { .integer($0) },
                "offset": offset == 0 ? nil : .integer(offset), "expr": key.json,
            ])
        ]
    }
}

extension JSON {
    /// What `jhash` and `numgen` have in common.
    static func modulus(_ body: JSON, of json: JSON) throws(UnsupportedRuleset) -> (modulus: Int, offset: Int) {
        guard let modulus = body["mod"]?.integer, (1...Int(UInt32.max)).contains(modulus) else {
            throw UnsupportedRuleset(json, "this mod", allowed: ["1 to \(UInt32.max)"])
        }
        let offset = body["offset"] == nil ? 0 : body["offset"]?.integer ?? -1
        // The kernel refuses a sum beyond 32 bits.
        guard offset >= 0, offset + modulus - 1 <= Int(UInt32.max) else {
            throw UnsupportedRuleset(
                json, "this offset", allowed: ["0 to \(Int(UInt32.max) - modulus + 1) with this mod"])
        }
        return (modulus, offset)
    }
}
