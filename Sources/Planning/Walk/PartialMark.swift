/// A mark of which some bits may be unknown.
public struct PartialMark: Sendable, Hashable, ExpressibleByIntegerLiteral {
    /// Unknown bits are 0.
    public let value: UInt32
    /// The bits that are known.
    public let known: UInt32

    public init(_ value: UInt32, known: UInt32 = .max) { (self.value, self.known) = (value & known, known) }

    public init(integerLiteral value: UInt32) { self.init(value) }

    public static let unknown = PartialMark(0, known: 0)

    /// Nil while a bit is unknown.
    public var number: UInt32? { known == .max ? value : nil }

    func and(_ bits: UInt32) -> PartialMark { PartialMark(value & bits, known: known | ~bits) }
    func or(_ bits: UInt32) -> PartialMark { PartialMark(value | bits, known: known | bits) }

    /// This one or another: what both agree in is known.
    func or(perhaps other: PartialMark) -> PartialMark {
        PartialMark(value, known: known & other.known & ~(value ^ other.value))
    }
}
