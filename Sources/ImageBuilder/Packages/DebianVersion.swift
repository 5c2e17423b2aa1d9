/// A package's version, in the order of Debian Policy 5.6.12.
public struct DebianVersion: Comparable, Sendable {
    private let epoch: Int
    private let upstream: [UInt8]
    private let revision: [UInt8]

    public init(_ text: String) {
        var rest = text[...]
        var epoch = 0
        if let colon = rest.firstIndex(of: ":"), let number = Int(rest[..<colon]) {
            epoch = number
            rest = rest[rest.index(after: colon)...]
        }
        self.epoch = epoch
        if let hyphen = rest.lastIndex(of: "-") {
            upstream = Array(rest[..<hyphen].utf8)
            revision = Array(rest[rest.index(after: hyphen)...].utf8)
        } else {
            upstream = Array(rest.utf8)
            revision = []
        }
    }

    /// - Parameter relation: `<<`, `<=`, `=`, `>=` or `>>` (Debian Policy 7.1).
    func satisfies(_ relation: String, _ other: DebianVersion) -> Bool {
        switch relation {
        case "<<": self < other
        case "<=", "<": self <= other
        case ">=", ">": self >= other
        case ">>": self > other
        default: self == other
        }
    }

    public static func == (a: Self, b: Self) -> Bool { !(a < b) && !(b < a) }

    public static func < (a: Self, b: Self) -> Bool {
        if a.epoch != b.epoch { return a.epoch < b.epoch }
        let upstream = compare(a.upstream, b.upstream)
        return upstream != 0 ? upstream < 0 : compare(a.revision, b.revision) < 0
    }

    /// Compares alternately parts without digits by their characters, and parts of digits by their
    /// value.
    private static func compare(_ a: [UInt8], _ b: [UInt8]) -> Int {
        var (i, j) = (0, 0)
        func isDigit(_ byte: UInt8) -> Bool { (0x30...0x39).contains(byte) }
        // A tilde sorts before the end, letters sort before all other characters.
        func weight(_ text: [UInt8], _ index: Int) -> Int {
            guard index < text.count, !isDigit(text[index]) else { return 0 }
            let byte = text[index]
            if byte == UInt8(ascii: "~") { return -1 }
            let isLetter = (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte)
            return isLetter ? Int(byte) : Int(byte) + 256
        }
        while i < a.count || j < b.count {
            while (i < a.count && !isDigit(a[i])) || (j < b.count && !isDigit(b[j])) {
                let difference = weight(a, i) - weight(b, j)
                if difference != 0 { return difference }
                i += 1
                j += 1
            }
            while i < a.count, a[i] == UInt8(ascii: "0") { i += 1 }
            while j < b.count, b[j] == UInt8(ascii: "0") { j += 1 }
            var first = 0
            while i < a.count, j < b.count, isDigit(a[i]), isDigit(b[j]) {
                if first == 0 { first = Int(a[i]) - Int(b[j]) }
                i += 1
                j += 1
            }
            if i < a.count, isDigit(a[i]) { return 1 }
            if j < b.count, isDigit(b[j]) { return -1 }
            if first != 0 { return first }
        }
        return 0
    }
}
