extension StringProtocol {
    /// Tells one text from another, the same everywhere and for ever, and no more: FNV-1a, 64 bits.
    public var fnv1a: UInt64 {
        if let hash = utf8.withContiguousStorageIfAvailable({ FNV.hash($0) }) { return hash }
        return Array(utf8).withUnsafeBufferPointer { FNV.hash($0) }
    }
}

/// FNV-1a of bytes.
public enum FNV {
    public static func hash(_ bytes: UnsafeBufferPointer<UInt8>) -> UInt64 {
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        for byte in bytes { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
        return hash
    }
}
