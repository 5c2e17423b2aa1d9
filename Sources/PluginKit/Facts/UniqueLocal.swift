extension Facts {
    /// The networks that a box may use without a provider (RFC 4193). The collection has one object,
    /// `box`.
    public struct UniqueLocal: FactType {
        public static let collection = "unique-local"

        /// 48 bits, within fd00::/8.
        public var prefix: IPPrefix

        public init(prefix: IPPrefix) { self.prefix = prefix }

        public var json: JSON { ["prefix": .text(prefix.description)] }

        public static var shape: Shape<UniqueLocal> {
            .mapping("the box's own prefix") { fields in
                fields.required("prefix", prefix).map(UniqueLocal.init)
            }
        }

        private static var prefix: Shape<IPPrefix> {
            Shape.network.map("a network of 48 bits within fd00::/8") { prefix in
                prefix.family == .ipv6 && prefix.length == 48 && prefix.address.bytes[0] == 0xFD ? prefix : nil
            }
        }
    }
}

extension Facts {
    /// The box's own prefix; nil where it has none.
    public var uniqueLocal: IPPrefix? { values(UniqueLocal.self)["box"]?.prefix }

    public mutating func set(uniqueLocal prefix: IPPrefix) { set(["box": UniqueLocal(prefix: prefix)]) }
}
