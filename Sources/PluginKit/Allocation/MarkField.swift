/// Bits of packet marks that have a meaning of their own.
public struct MarkField: Sendable, Hashable {
    /// As plans and operators write it: a shared field's name, or `PLUGIN.NAME`.
    public var name: String
    /// The place of the lowest bit.
    public var shift: Int
    public var bits: Int
    /// Whether the connection keeps the field: the engine restores it for each further packet, in
    /// both directions. Other fields are those of one packet.
    public var isSaved: Bool

    public init(_ name: String, shift: Int, bits: Int, isSaved: Bool) {
        (self.name, self.shift, self.bits, self.isSaved) = (name, shift, bits, isSaved)
    }

    /// Fields that plugins share by their names, of a manifest that lists them.
    ///
    /// - `route`: the path that a packet takes; each direction has its own.
    /// - `hop`: the place in a chain of services that a packet has come to.
    /// - `class`: the traffic class of a connection.
    public static let shared: [MarkField] = [
        MarkField("route", shift: 0, bits: 8, isSaved: false), MarkField("hop", shift: 0, bits: 8, isSaved: false),
        MarkField("class", shift: 0, bits: 8, isSaved: true),
    ]

    /// The values that fit.
    public var values: ClosedRange<Int> { 0...(1 << bits) - 1 }

    public var mask: UInt32 { UInt32(truncatingIfNeeded: values.upperBound << shift) }

    /// A value at its place within the mark; nil for one that does not fit.
    public func placed(_ value: Int) -> UInt32? {
        values.contains(value) ? UInt32(truncatingIfNeeded: value << shift) : nil
    }

    /// The field's value within a mark.
    public func value(in mark: UInt32) -> Int { Int(mark & mask) >> shift }

    var json: JSON {
        .object([
            "name": .text(name), "shift": .integer(shift), "bits": .integer(bits), "mask": .integer(Int(mask)),
            "saved": isSaved ? .boolean(true) : nil,
        ])
    }

    static var shape: Shape<MarkField> {
        .mapping("a field of marks") { fields in
            let name = fields.required("name", .text)
            let shift = fields.required("shift", .integer(0...31))
            let bits = fields.required("bits", .integer(1...32))
            let isSaved = fields.optional("saved", .boolean) ?? false
            _ = fields.optional("mask", .integer(1...Int(UInt32.max)))
            guard let name, let shift, let bits, shift + bits <= 32 else { return nil }
            return MarkField(name, shift: shift, bits: bits, isSaved: isSaved)
        }
    }
}
