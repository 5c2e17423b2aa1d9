import Ruleset

/// What the kernel takes at most. libnftnl writes messages without looking at where its buffer ends: whatever is longer
/// must be refused before.
enum Bounds {
    /// NFT_NAME_MAXLEN, without the zero at its end.
    private static let name = 255
    /// NFT_RULE_MAXEXPRS.
    static let instructions = 128
    /// NFT_DATA_VALUE_MAXLEN: bytes of a key.
    private static let key = 64
    /// Types of which a concatenation's number has room for six bits each.
    private static let parts = 5

    static func check(name text: String) throws(UnsupportedRuleset) {
        guard (1...name).contains(text.utf8.count), !text.utf8.contains(0) else {
            throw UnsupportedRuleset(
                "the name \"\(text.prefix(40))…\" of \(text.utf8.count) bytes: 1 to \(name) are allowed")
        }
    }

    static func check(_ set: NamedSet) throws(UnsupportedRuleset) {
        try check(name: set.name)
        guard (1...parts).contains(set.key.count), set.keyLength <= key else {
            throw UnsupportedRuleset(
                "the set \(set.name) with a key of \(set.key.count) parts and \(set.keyLength) bytes: \(parts) and \(key) are allowed"
            )
        }
    }
}
