import Glibc

/// A line of a plan, compared by its bytes. Strings are compared by canonical equivalence (Unicode
/// Standard, section 3.7): to them, é as one scalar and as two are the same, and a file's other
/// content no change.
struct LineBytes: Hashable, Comparable {
    let text: String

    init(_ text: String) { self.text = text }

    /// Below 0 for a line that is before the other one, 0 for the same bytes.
    private func order(_ other: LineBytes) -> Int {
        var (one, two) = (text, other.text)
        return one.withUTF8 { one in
            two.withUTF8 { two in
                if let first = one.baseAddress, let second = two.baseAddress {
                    let order = memcmp(first, second, min(one.count, two.count))
                    if order != 0 { return Int(order) }
                }
                return one.count - two.count
            }
        }
    }

    static func == (left: LineBytes, right: LineBytes) -> Bool {
        left.text.utf8.count == right.text.utf8.count && left.order(right) == 0
    }

    static func < (left: LineBytes, right: LineBytes) -> Bool { left.order(right) < 0 }

    func hash(into hasher: inout Hasher) {
        var text = text
        text.withUTF8 { hasher.combine(bytes: UnsafeRawBufferPointer($0)) }
    }
}
