/// EFI programs (Microsoft's PE format specification).
public enum PortableExecutable {
    /// Whether a program carries a signature: its certificate table, the fifth data directory, is
    /// not empty.
    ///
    /// - Returns: false for bytes that are not a PE32+ program.
    public static func isSigned(_ program: [UInt8]) -> Bool {
        func number(_ offset: Int, _ count: Int) -> Int? {
            guard offset >= 0, offset + count <= program.count else { return nil }
            return program[offset..<offset + count].reversed().reduce(0) { $0 << 8 | Int($1) }
        }
        // PE32+ has magic 0x20B, and its directories begin at offset 112 of the optional header.
        guard let header = number(0x3C, 4), number(header, 4) == 0x0000_4550, number(header + 24, 2) == 0x20B,
            let size = number(header + 24 + 112 + 4 * 8 + 4, 4)
        else { return false }
        return size > 0
    }
}
