import Glibc

/// A line of a plan, compared by its bytes. Strings are compared by canonical equivalence (Unicode Standard,
/// section 3.7): to them, é as one scalar and as two are the same, and a file's other content no change.
struct LineBytes: Hashable, Comparable {
    let text: String

    init(_ text: String) { self.text = text }

    /// Below 0 for a line that is before the other one, 0 for the same bytes.
    private func order(_ other: LineBytes) -> Int {
        Self.withBytes(of: text) { one in
            Self.withBytes(of: other.text) { two in
                if let first = one.baseAddress, let second = two.baseAddress {
                    let order = memcmp(first, second, min(one.count, two.count))
                    if order != 0 { return Int(order) }
                }
                return one.count - two.count
            }
        }
    }

    private static func withBytes<Result>(
        of text: String, _ body: (UnsafeBufferPointer<UInt8>) -> Result
    ) -> Result {
        text.utf8.withContiguousStorageIfAvailable(body) ?? Array(text.utf8).withUnsafeBufferPointer(body)
    }

    static func == (left: LineBytes, right: LineBytes) -> Bool {
        left.text.utf8.count == right.text.utf8.count && left.order(right) == 0
    }

    static func < (left: LineBytes, right: LineBytes) -> Bool { left.order(right) < 0 }

    func hash(into hasher: inout Hasher) {
        Self.withBytes(of: text) { hasher.combine(bytes: UnsafeRawBufferPointer($0)) }
    }
}
