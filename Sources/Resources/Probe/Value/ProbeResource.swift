/// A test that the engine repeats, to know whether the box does its work.
public struct ProbeResource: ResourceType {
    public static let kind = "probe"

    public enum Check: Sendable, Hashable {
        /// An address answers an echo request, or neighbour discovery where it is on a link.
        case ping(IPAddress)
        /// A connection is accepted.
        case tcp(IPAddress, port: Int)
        /// A name server answers a query for a name, with any answer.
        case dns(server: IPAddress, name: String)
    }

    /// The plugin's name, a dot, and a name of its own.
    public var name: String
    public var check: Check
    /// Seconds from one try to the next.
    public var interval: Int
    /// Seconds after which a try has failed.
    public var timeout: Int
    /// The probe fails after this number of failed tries in a row.
    public var threshold: Int
    /// A probe that fails passes again after this number of tries in a row that pass.
    public var rise: Int

    public init(
        _ name: String, _ check: Check, interval: Int = 5, timeout: Int = 2, threshold: Int = 3, rise: Int = 1
    ) {
        self.name = name
        self.check = check
        self.interval = interval
        self.timeout = timeout
        self.threshold = threshold
        self.rise = rise
    }

    public init(_ line: ResourceLine) throws(InvalidResource) {
        let seconds = 1...3600
        self.init(
            try line.required("id"), try Self.check(line), interval: try line.number("interval", seconds) ?? 5,
            timeout: try line.number("timeout", seconds) ?? 2, threshold: try line.number("threshold", 1...100) ?? 3,
            rise: try line.number("rise", 1...100) ?? 1)
    }

    private static func check(_ line: ResourceLine) throws(InvalidResource) -> Check {
        if line["ping"] != nil { return .ping(try line.value("ping") { IPAddress($0) }) }
        if let tcp = line.nested("tcp") {
            guard let port = try tcp.number("port", 1...65535) else { throw tcp.invalid("the port is missing") }
            return .tcp(try tcp.value("address") { IPAddress($0) }, port: port)
        }
        if let dns = line.nested("dns") {
            return .dns(server: try dns.value("server") { IPAddress($0) }, name: try dns.required("name"))
        }
        throw line.invalid("a probe needs ping, tcp or dns")
    }

    public var identity: String { name }

    public var fields: [String: JSON] {
        var entries: [String: JSON] = [
            "interval": .integer(interval), "timeout": .integer(timeout), "threshold": .integer(threshold),
        ]
        if rise != 1 { entries["rise"] = .integer(rise) }
        switch check {
        case .ping(let address): entries["ping"] = .text(address.description)
        case .tcp(let address, let port):
            entries["tcp"] = ["address": .text(address.description), "port": .integer(port)]
        case .dns(let server, let name):
            entries["dns"] = ["server": .text(server.description), "name": .text(name)]
        }
        return entries
    }

    public func objection(to plugin: String) -> String? { Self.objection(toName: name, of: plugin) }
}
