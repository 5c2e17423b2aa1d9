/// Numbers by chance, the same ones for the same seed (SplitMix64).
public struct Random: RandomNumberGenerator {
    private var state: UInt64

    public init(seed: UInt64) { state = seed }

    public mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ z >> 30) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ z >> 27) &* 0x94D0_49BB_1331_11EB
        return z ^ z >> 31
    }

    /// One from 0 to `bound` - 1.
    public mutating func next(_ bound: Int) -> Int { Int(next() % UInt64(bound)) }

    /// Changes bytes in a few places as a hand, a disk or an enemy would; `signs` are what the format lives on.
    public mutating func spoil(_ bytes: inout [UInt8], signs: [UInt8]) {
        for _ in 0...next(6) where !bytes.isEmpty {
            let place = next(bytes.count)
            switch next(6) {
            case 0: bytes[place] = UInt8(next(256))
            case 1: bytes.insert(signs[next(signs.count)], at: place)
            case 2: bytes.removeSubrange(place..<min(bytes.count, place + 1 + next(40)))
            case 3:
                let end = min(bytes.count, place + 1 + next(80))
                bytes.insert(contentsOf: bytes[place..<end], at: next(bytes.count))
            case 4: bytes[place] ^= 1 << next(8)
            default: bytes = Array(bytes.prefix(place + 1))
            }
        }
    }
}
