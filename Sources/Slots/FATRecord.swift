/// A folder's records, of which a name has several: parts of the long one, the last first, and behind them one with everything else.
enum FATRecord {
    /// Bytes.
    static let size = 32
    static let deleted: UInt8 = 0xE5
    private static let (longName, label, folder): (UInt8, UInt8, UInt8) = (0x0F, 0x08, 0x10)
    /// Where a part of a long name has its characters.
    private static let characters = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30]

    static func isFree(_ first: UInt8) -> Bool { first == 0 || first == deleted }
    static func isLongName(_ record: [UInt8]) -> Bool { record[11] & 0x3F == longName }
    static func isLabel(_ record: [UInt8]) -> Bool { !isLongName(record) && record[11] & label != 0 }
    static func isFolder(_ record: [UInt8]) -> Bool { record[11] & folder != 0 }

    static func longPart(_ record: [UInt8]) -> [UInt16] { characters.map { UInt16(record.number(at: $0, 2)) } }

    static func shortName(_ record: [UInt8]) -> String {
        func part(_ range: Range<Int>, isLower: Bool) -> String {
            let text = String(decoding: record[range], as: UTF8.self)
            let trimmed = String(text.prefix { $0 != " " })
            return isLower ? trimmed.lowercased() : trimmed
        }
        let (name, type) = (
            part(0..<8, isLower: record[12] & 0x08 != 0), part(8..<11, isLower: record[12] & 0x10 != 0)
        )
        return type.isEmpty ? name : "\(name).\(type)"
    }

    static func fill(_ record: inout [UInt8], firstCluster: Int, size: Int) {
        record.put(firstCluster >> 16, at: 20, 2)
        record.put(firstCluster & 0xFFFF, at: 26, 2)
        record.put(size, at: 28, 4)
    }

    /// Those of a long name, and behind them the one that has everything else.
    static func records(_ name: String, short: [UInt8]) -> [[UInt8]] {
        let sum = short[..<11].reduce(UInt8(0)) { ($0 & 1) << 7 &+ $0 >> 1 &+ $1 }
        var units = Array(name.utf16)
        if units.count % characters.count != 0 {
            units.append(0)
            while units.count % characters.count != 0 { units.append(0xFFFF) }
        }
        let parts = units.count / characters.count
        let long = (1...parts).reversed().map { number -> [UInt8] in
            var record = [UInt8](repeating: 0, count: size)
            record[0] = UInt8(number) | (number == parts ? 0x40 : 0)
            (record[11], record[13]) = (longName, sum)
            for (i, place) in characters.enumerated() {
                record.put(Int(units[(number - 1) * characters.count + i]), at: place, 2)
            }
            return record
        }
        return long + [short]
    }
}

extension [UInt8] {
    func number(at offset: Int, _ size: Int) -> Int {
        (0..<size).reduce(0) { $0 | Int(self[offset + $1]) << (8 * $1) }
    }

    mutating func put(_ value: Int, at offset: Int, _ size: Int) {
        for i in 0..<size { self[offset + i] = UInt8(truncatingIfNeeded: value >> (8 * i)) }
    }
}
