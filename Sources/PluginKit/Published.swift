/// A group of interfaces that a policy is about.
public struct Zone: Sendable, Hashable {
    public var name: String
    /// The set of its interfaces' names, within the table.
    public var set: String

    public init(name: String, set: String) {
        self.name = name
        self.set = set
    }
}

/// An interface, as others may build upon it.
public struct Interface: Sendable, Hashable {
    public var name: String
    public var zone: String
    /// Its own addresses with their networks, as configured.
    public var addresses: [IPPrefix]
    /// The kernel's links that its frames come by: itself, or the ports of a bridge.
    public var ports: [String]

    public init(name: String, zone: String, addresses: [IPPrefix], ports: [String]? = nil) {
        self.name = name
        self.zone = zone
        self.addresses = addresses
        self.ports = ports ?? [name]
    }
}

/// An allowed port: packets to the box that a service needs. The firewall accepts them where no
/// rule of the site decides otherwise.
public struct Opening: Sendable, Hashable {
    public enum TransportProtocol: String, Sendable, CaseIterable { case tcp, udp }

    /// Unique: the plugin's name, a dot, and one of its own.
    public var name: String
    /// The interface that they come by.
    public var interface: String
    public var transport: TransportProtocol
    public var port: Int
    /// The sources that it is for, of both families; empty for all. A rule of the site may let
    /// others in.
    public var sources: [IPRange]

    public init(
        name: String, interface: String, transport: TransportProtocol, port: Int, sources: [IPRange] = []
    ) {
        self.name = name
        self.interface = interface
        self.transport = transport
        self.port = port
        self.sources = sources
    }
}

/// What all plugins have published, by collection and name.
public struct Published: Sendable, Hashable {
    public var zones: [String: Zone] = [:]
    public var interfaces: [String: Interface] = [:]
    public var openings: [String: Opening] = [:]
    /// Servers that resolve names for the box, in their order, by interface or source.
    public var resolvers: [String: [IPAddress]] = [:]
    /// Names of the box itself, which no other host may have.
    public var names: Set<String> = []

    public init() {}

    /// Reads `{"zones": {"lan": {…}}, …}`; collections that this version doesn't know are left alone.
    public static var shape: Shape<Published> {
        Shape("published values") { node, path, problems in
            var published = Published()
            func read<Value>(_ collection: String, _ shape: Shape<Value>) -> [(key: String, value: Value)] {
                guard let entry = node[collection] else { return [] }
                return Shape.dictionary(.text, shape).read(entry.value, path: collection, into: problems) ?? []
            }
            for (name, set) in read("zones", .mapping("a zone") { $0.required("set", .text) }) {
                published.zones[name] = Zone(name: name, set: set)
            }
            let interface = Shape<Interface>.mapping("an interface") { fields in
                let zone = fields.required("zone", .text)
                let addresses = fields.optional("addresses", .list(of: .ipPrefix)) ?? []
                let ports = fields.optional("ports", .list(of: .text)) ?? []
                return zone.map { Interface(name: "", zone: $0, addresses: addresses, ports: ports) }
            }
            for (name, var value) in read("interfaces", interface) {
                value.name = name
                if value.ports.isEmpty { value.ports = [name] }
                published.interfaces[name] = value
            }
            let opening = Shape<Opening>.mapping("an opening") { fields in
                let interface = fields.required("interface", .text)
                let transport = fields.required(
                    "protocol",
                    Shape.oneOf(Opening.TransportProtocol.allCases.map(\.rawValue)).map {
                        Opening.TransportProtocol(rawValue: $0)
                    })
                let port = fields.required("port", .integer(1...65535))
                let sources = fields.optional("sources", .list(of: .addresses)) ?? []
                // A plugin that found no source must not open its port to all.
                fields.refuseEmptyLists(["sources"])
                guard let interface, let transport, let port else { return nil }
                return Opening(name: "", interface: interface, transport: transport, port: port, sources: sources)
            }
            for (name, var value) in read("openings", opening) {
                value.name = name
                published.openings[name] = value
            }
            for (name, servers) in read(
                "resolvers", .mapping("resolvers") { $0.required("servers", .list(of: .ipAddress)) })
            {
                published.resolvers[name] = servers
            }
            published.names = Set(read("names", .mapping("a name of the box") { _ in true }).map(\.key))
            return published
        }
    }
}

/// What a plugin publishes, put together line by line.
public struct PublishOutput {
    public private(set) var lines: [JSON] = []
    public private(set) var diagnostics: [Diagnostic] = []

    public init() {}

    public mutating func add(_ zone: Zone) { add("zones", zone.name, ["set": .text(zone.set)]) }

    public mutating func add(_ interface: Interface) {
        add(
            "interfaces", interface.name,
            .object([
                "zone": .text(interface.zone), "addresses": .texts(interface.addresses.map(\.description)),
                "ports": interface.ports == [interface.name] ? nil : .texts(interface.ports),
            ]))
    }

    public mutating func add(_ opening: Opening) {
        add(
            "openings", opening.name,
            .object([
                "interface": .text(opening.interface), "protocol": .text(opening.transport.rawValue),
                "port": .integer(opening.port),
                "sources": opening.sources.isEmpty ? nil : .texts(opening.sources.map(\.description)),
            ]))
    }

    public mutating func add(resolvers: [IPAddress], from source: String) {
        add("resolvers", source, ["servers": .texts(resolvers.map(\.description))])
    }

    /// A name of the box itself.
    public mutating func add(name: String) { add("names", name, [:]) }

    private mutating func add(_ collection: String, _ name: String, _ value: JSON) {
        lines.append(["publish": .text(collection), "name": .text(name), "value": value])
    }

    public mutating func say(_ diagnostic: Diagnostic) { diagnostics.append(diagnostic) }
}
