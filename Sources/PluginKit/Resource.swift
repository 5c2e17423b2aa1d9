/// The kinds of resources that the engine has drivers for.
public enum ResourceKind: String, Sendable, CaseIterable {
    case kernelModule = "kernel-module"
    case sysctl, nftables, link, address, route, rule, directory, file, service, secret, probe, setting
}

/// Something that the box shall have: a value with an identity that stays, and one owner.
public enum Resource: Sendable, Hashable {
    case kernelModule(String)
    /// The key with slashes, as below /proc/sys: an interface's name may hold a dot.
    case sysctl(key: String, value: String)
    case chain(Chain, stage: StageUse?)
    case set(NamedSet)
    /// A part of a large set's elements: a small change of the set touches few parts.
    case elements(SetPart)
    case counter(NamedCounter)
    case helper(NamedHelper)
    /// The fast path of forwarded connections that are established. One for all; links that can't have it, and a kernel that
    /// can't, go without.
    case flowtable(Flowtable)
    /// Sets that are filled from beside the plan.
    case feed(FeedResource)
    case link(LinkResource)
    case address(link: String, IPPrefix)
    case route(RouteResource)
    /// Below /run/vcpe/NAME or /data/NAME.
    case directory(path: String, owner: String, mode: Int)
    case file(path: String, content: String, owner: String, mode: Int)
    case service(ServiceResource)
    case rule(RuleResource)
    /// What the engine makes once and keeps: `${secret:NAME}` in a file stands for it.
    case secret(name: String, SecretSource)
    case probe(ProbeResource)
    /// What the engine itself is told.
    case setting(Setting)

    /// Where in the packet path a chain is called; `docs/packet-path.md` has the stages.
    public struct StageUse: Sendable, Hashable {
        public var stage: Stage
        /// The lower one is called first.
        public var order: Int
        /// Of `early-drop`: the links whose packets it is for, as far as they are there.
        public var devices: [String]

        public init(_ stage: Stage, order: Int, devices: [String] = []) {
            self.stage = stage
            self.order = order
            self.devices = devices
        }
    }
}

/// A place in the packet path where plugins' chains are called.
public enum Stage: String, Sendable, CaseIterable {
    /// Where packets come in, before anything else is done with them: drops only.
    case earlyDrop = "early-drop"
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
    /// Packets that leave, as they are after their translation.
    case translated
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

/// A route.
public struct RouteResource: Sendable, Hashable {
    /// The kernel's main table.
    public static let mainTable = 254

    public var destination: IPPrefix
    public var gateway: IPAddress?
    public var link: String?
    public var metric: Int
    public var table: Int

    public init(
        to destination: IPPrefix, via gateway: IPAddress? = nil, link: String? = nil, metric: Int = 0,
        table: Int = RouteResource.mainTable
    ) {
        self.destination = destination
        self.gateway = gateway
        self.link = link
        self.metric = metric
        self.table = table
    }
}

/// A policy rule: packets that satisfy all of it are looked up in a table of routes.
public struct RuleResource: Sendable, Hashable {
    public var family: IPAddress.Family
    /// The lower one is asked first.
    public var priority: Int
    public var table: Int
    public var source: IPPrefix?
    public var destination: IPPrefix?
    /// The interface that packets came by.
    public var interface: String?
    public var mark: UInt32?
    public var mask: UInt32?

    public init(
        _ family: IPAddress.Family, priority: Int, table: Int, source: IPPrefix? = nil,
        destination: IPPrefix? = nil, interface: String? = nil, mark: UInt32? = nil, mask: UInt32? = nil
    ) {
        self.family = family
        self.priority = priority
        self.table = table
        self.source = source
        self.destination = destination
        self.interface = interface
        self.mark = mark
        self.mask = mask
    }
}

/// What the engine tries by and by, to know whether the box does what it is there for.
public struct ProbeResource: Sendable, Hashable {
    public enum Check: Sendable, Hashable {
        /// An address answers an echo request, or is seen to be alive on its network.
        case ping(IPAddress)
        /// A connection is accepted.
        case tcp(IPAddress, port: Int)
        /// A name server gives any answer to a question for a name.
        case dns(server: IPAddress, name: String)
    }

    /// The plugin's name, a dot, and one of its own.
    public var name: String
    public var check: Check
    /// Seconds from one try to the next.
    public var interval: Int
    /// Seconds after which a try has failed.
    public var timeout: Int
    /// Failures in a row after which the probe has failed.
    public var threshold: Int

    public init(_ name: String, _ check: Check, interval: Int = 5, timeout: Int = 2, threshold: Int = 3) {
        self.name = name
        self.check = check
        self.interval = interval
        self.timeout = timeout
        self.threshold = threshold
    }
}

/// What a secret is made of.
public enum SecretSource: Sendable, Hashable {
    /// So many random ones, in hexadecimal digits.
    case bytes(Int)
    /// What a program of the image writes into the file that the word `${file}` stands for, or on its standard output
    /// where no word does.
    case program([String])
}

/// What the engine itself is told, by one plugin for all.
public enum Setting: Sendable, Hashable {
    public enum Drift: String, Sendable, CaseIterable {
        /// What others change of ours is put right.
        case repair
        /// It is only said; the next change of the configuration puts it right.
        case adopt
    }

    case drift(Drift)
    /// What every console of the box shows.
    case notice(String)
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
    /// It is told by SIGHUP when one of these files of the plan has changed.
    public var reloadFiles: [String]
    /// Bytes that it and all it starts may use.
    public var memory: Int?

    public init(
        name: String, command: [String], user: String = "root", capabilities: [String] = [],
        readiness: Readiness = .started, directories: [String] = [], configurationFiles: [String] = [],
        reloadFiles: [String] = [], memory: Int? = nil
    ) {
        self.name = name
        self.command = command
        self.user = user
        self.capabilities = capabilities
        self.readiness = readiness
        self.directories = directories
        self.configurationFiles = configurationFiles
        self.reloadFiles = reloadFiles
        self.memory = memory
    }
}
