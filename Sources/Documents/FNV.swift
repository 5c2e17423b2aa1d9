extension StringProtocol {
    /// Tells one text from another, the same everywhere and for ever, and no more: FNV-1a, 64 bits.
    public var fnv1a: UInt64 {
        utf8.reduce(0xCBF2_9CE4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01B3 }
    }
}
