/// The subset of ASN.1 DER (ITU-T X.690) that a signature needs.
enum DER {
    static let null: [UInt8] = [0x05, 0x00]

    /// A tag, a length and contents.
    static func element(_ tag: UInt8, _ contents: [UInt8]) -> [UInt8] {
        let count = contents.count
        if count < 0x80 { return [tag, UInt8(count)] + contents }
        var length: [UInt8] = []
        var rest = count
        while rest > 0 {
            length.insert(UInt8(rest & 0xFF), at: 0)
            rest >>= 8
        }
        return [tag, 0x80 | UInt8(length.count)] + length + contents
    }

    static func sequence(_ parts: [UInt8]...) -> [UInt8] { element(0x30, parts.flatMap { $0 }) }

    /// The members' encodings in ascending order, as DER requires.
    static func set(_ members: [UInt8]...) -> [UInt8] {
        element(0x31, members.sorted { $0.lexicographicallyPrecedes($1) }.flatMap { $0 })
    }

    /// A constructed element of the context-specific class.
    static func context(_ number: UInt8, _ contents: [UInt8]) -> [UInt8] { element(0xA0 | number, contents) }

    static func octets(_ bytes: [UInt8]) -> [UInt8] { element(0x04, bytes) }

    /// A small number.
    static func integer(_ value: UInt8) -> [UInt8] { element(0x02, [value]) }

    /// An object identifier by its numbers.
    static func identifier(_ numbers: UInt...) -> [UInt8] {
        var bytes: [UInt8] = [UInt8(numbers[0] * 40 + numbers[1])]
        for number in numbers.dropFirst(2) {
            var digits = [UInt8(number & 0x7F)]
            var rest = number >> 7
            while rest > 0 {
                digits.insert(UInt8(rest & 0x7F) | 0x80, at: 0)
                rest >>= 7
            }
            bytes += digits
        }
        return element(0x06, bytes)
    }
}
