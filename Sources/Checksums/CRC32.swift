/// The two 32-bit cyclic redundancy checks of the formats written here, bit-reflected.
public struct CRC32: Sendable {
    private let table: [UInt32]
    private let inverted: Bool

    /// The CRC of GPT, zip and Ethernet (ISO 3309).
    public static let iso = CRC32(polynomial: 0xEDB8_8320, inverted: true)
    /// CRC-32C (Castagnoli) without the final inversion, as in the kernel's `crc32c()` and in
    /// EROFS.
    public static let castagnoliKernel = CRC32(polynomial: 0x82F6_3B78, inverted: false)

    private init(polynomial: UInt32, inverted: Bool) {
        table = (0..<256).map { (byte: UInt32) in
            (0..<8).reduce(byte) { crc, _ in crc & 1 == 1 ? crc >> 1 ^ polynomial : crc >> 1 }
        }
        self.inverted = inverted
    }

    public func callAsFunction(_ bytes: some Sequence<UInt8>) -> UInt32 {
        let crc = bytes.reduce(UInt32.max) { crc, byte in crc >> 8 ^ table[Int(UInt8(truncatingIfNeeded: crc) ^ byte)] }
        return inverted ? ~crc : crc
    }
}
