import PluginKit

/// A packet that was not sent: the first one of a connection.
public struct SupposedPacket: Sendable, Hashable {
    /// The interface that it comes by.
    public var input: String
    /// The one that it leaves by; nil before that is known, and for one to the box itself.
    public var output: String?
    public var source: IPAddress
    public var destination: IPAddress
    /// `tcp`, `udp`, `icmp` or `icmpv6`.
    public var transport: String
    public var sourcePort: Int?
    public var port: Int?
    public var mark: PartialMark = 0
    /// Of its connection.
    public var connectionMark = PartialMark.unknown
    /// Of its connection; nil: unknown.
    public var zone: Int?
    /// The handle of its class of traffic; nil: unknown.
    public var priority: Int?
    /// Its code point; nil: unknown.
    public var codePoint: Int?
    /// Of the frame that carries it; nil where it is unknown.
    public var mac: MACAddress?

    public init(input: String, source: IPAddress, destination: IPAddress, transport: String, port: Int?) {
        (self.input, self.source, self.destination, self.transport) = (input, source, destination, transport)
        (self.port, sourcePort) = (port, port == nil ? nil : 49_152)
    }

    /// What may be said of a packet's transport.
    public static let transports = ["tcp", "udp", "icmp", "icmpv6"]

    var protocolNumber: Int { DataType.protocolNumber.symbols[transport].map(Int.init) ?? Int(transport) ?? 255 }
}
