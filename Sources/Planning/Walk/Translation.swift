import PluginKit

extension PacketWalk {
    /// What a rule does with the addresses of a connection.
    public struct Translation: Sendable, Hashable, CustomStringConvertible {
        /// The name of the statement, such as `snat`.
        var statement: String
        /// The new address, or a pool of which the kernel takes one; nil for one that the rule does
        /// not name.
        public var addresses: ClosedRange<IPAddress>?
        /// The same of ports.
        public var ports: ClosedRange<Int>?
        /// Whether the new address is that of the interface by which the packet leaves.
        public var isMasquerade = false

        /// As nft writes it.
        public var description: String {
            var words = statement
            if let addresses {
                let (first, last) = (addresses.lowerBound, addresses.upperBound)
                words += " to \(first)" + (first == last ? "" : "-\(last)")
            }
            if let ports {
                words += " port \(ports.lowerBound)" + (ports.count == 1 ? "" : "-\(ports.upperBound)")
            }
            return words
        }

        /// Whether an address, and a port where it is known, may be what becomes of another
        /// address. True where the rule does not say which.
        public func explains(_ before: IPAddress, becoming after: IPAddress, port: Int? = nil) -> Bool {
            if isMasquerade { return before != after }
            if let port, let ports, !ports.contains(port) { return false }
            guard let addresses else { return true }
            return addresses.lowerBound.family == after.family && addresses.contains(after)
        }
    }
}
