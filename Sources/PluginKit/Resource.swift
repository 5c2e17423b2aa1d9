/// The kinds of resources that the engine has drivers for.
public enum ResourceKind: String, Sendable, CaseIterable {
    case kernelModule = "kernel-module"
    case sysctl, nftables, link, address, route, rule, directory, file, service
}

/// Something that the box shall have: a value with an identity that stays, and one owner.
public enum Resource: Sendable, Hashable {
    case kernelModule(String)
    /// The key with slashes, as below /proc/sys: an interface's name may hold a dot.
    case sysctl(key: String, value: String)
    case chain(Chain, stage: StageUse?)
    case set(NamedSet)
    case counter(NamedCounter)
    case link(LinkResource)
    case address(link: String, IPPrefix)
    case route(RouteResource)
    /// Below /run/vcpe/NAME or /data/NAME.
    case directory(path: String, owner: String, mode: Int)
    case file(path: String, content: String, owner: String, mode: Int)
    case service(ServiceResource)

    /// Where in the packet path a chain is called; `docs/packet-path.md` has the stages.
    public struct StageUse: Sendable, Hashable {
        public var stage: Stage
        /// The lower one is called first.
        public var order: Int

        public init(_ stage: Stage, order: Int) {
            self.stage = stage
            self.order = order
        }
    }
}

/// A place in the packet path where plugins' chains are called.
public enum Stage: String, Sendable, CaseIterable {
    case defend
    case noTrack = "no-track"
    case classify, steer, dnat
    /// Packets to the box that nobody may accept any more: drops only.
    case inputGuard = "input-guard"
    case openings, input
    /// Forwarded packets, established ones too: drops only.
    case forwardGuard = "forward-guard"
    case noOffload = "no-offload"
    case forward, inspect, output, shape, snat
}

/// A network link.
public struct LinkResource: Sendable, Hashable {
    public enum Kind: Sendable, Hashable {
        /// A port of the hardware: where it is plugged in, or its own address where that isn't known.
        case port(path: String, mac: MACAddress)
        case bridge
    }

    /// What it is called from then on.
    public var name: String
    public var kind: Kind
    /// The bridge that it is a port of.
    public var master: String?
    public var mtu: Int?

    public init(name: String, kind: Kind, master: String? = nil, mtu: Int? = nil) {
        self.name = name
        self.kind = kind
        self.master = master
        self.mtu = mtu
    }
}

/// A route of the main table.
public struct RouteResource: Sendable, Hashable {
    public var destination: IPPrefix
    public var gateway: IPAddress?
    public var link: String?
    public var metric: Int

    public init(to destination: IPPrefix, via gateway: IPAddress? = nil, link: String? = nil, metric: Int = 0) {
        self.destination = destination
        self.gateway = gateway
        self.link = link
        self.metric = metric
    }
}

/// A program that PID 1 keeps running; `docs/init.md` has what each word means.
public struct ServiceResource: Sendable, Hashable {
    public enum Readiness: Sendable, Hashable {
        /// As soon as it runs.
        case started
        /// When it says so on the notify socket.
        case notified
        case file(String)
    }

    /// The plugin's name, a hyphen, and one of its own.
    public var name: String
    public var command: [String]
    public var user: String
    /// Linux capabilities that it keeps, such as `net_bind_service`.
    public var capabilities: [String]
    public var readiness: Readiness
    /// Folders that must stand before it starts, owned by its user.
    public var directories: [String]
    /// It is started anew when one of these files of the plan has changed.
    public var configurationFiles: [String]
    /// Bytes that it and all it starts may use.
    public var memory: Int?

    public init(
        name: String, command: [String], user: String = "root", capabilities: [String] = [],
        readiness: Readiness = .started, directories: [String] = [], configurationFiles: [String] = [],
        memory: Int? = nil
    ) {
        self.name = name
        self.command = command
        self.user = user
        self.capabilities = capabilities
        self.readiness = readiness
        self.directories = directories
        self.configurationFiles = configurationFiles
        self.memory = memory
    }
}
