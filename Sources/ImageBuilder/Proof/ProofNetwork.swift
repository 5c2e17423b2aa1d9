import Addresses
import CSystem
import Files
import Glibc
import Planning
import PluginKit
import Processes

/// What stands around the box under proof: a network on its first port, the WAN, with servers and a provider's DHCP, DNS
/// and router advertisements; and one on its second, the LAN, with a host.
final class ProofNetwork {
    /// Addresses of one side's host, and of the box as that side reaches it.
    struct Side {
        var host4: IPAddress
        var host6: IPAddress
        var network4: IPPrefix
        var network6: IPPrefix
        /// Nil where DHCP or advertisements decide.
        var box4: IPAddress?
        var box6: IPAddress?
        var boxMAC: MACAddress
    }

    let lan = try? NetworkNamespace()
    let wan = try? NetworkNamespace()
    private(set) var sides: [Proof.Place: Side] = [:]
    /// QEMU's ends of the cables, the WAN's first.
    private(set) var taps: [File] = []
    /// The network that the cables lead to where the box is no machine but a network of its own.
    private let box: NetworkNamespace?
    private var servers: [RunningProcess] = []
    /// The name that the provider's DNS knows, and its address.
    static let knownName = (name: "www.example.test", address: "198.18.0.80")

    /// - Parameters:
    ///   - plan: of the site that the box follows.
    ///   - box: a network that plays the box; nil for a machine, whose cables are TAP links.
    ///   - folder: for what the provider's servers write.
    init(plan: [Resource], box: NetworkNamespace? = nil, folder: String) throws {
        self.box = box
        let mayTap = box != nil || access("/dev/net/tun", R_OK | W_OK) == 0
        guard geteuid() == 0, mayTap, lan != nil, wan != nil else {
            throw BuildFailure(
                "proofs with real packets need networks and TAP links of their own",
                hint: "run it as root, or in a user namespace in which /dev/net/tun may be opened")
        }
        guard let wanMAC = MACAddress("52:54:00:00:00:01"), let lanMAC = MACAddress("52:54:00:00:00:02") else { return }
        sides[.lan] = try Self.side(
            of: "lan", plan, mac: lanMAC, fallback4: "192.168.1.1/24", fallback6: "fd00:1::1/64")
        sides[.wan] = try Self.wanSide(plan, mac: wanMAC)
        for place in [Proof.Place.wan, .lan] { try connect(place) }
        try startProvider(plan, folder: folder)
    }

    func namespace(_ place: Proof.Place) throws -> NetworkNamespace {
        guard let namespace = place == .lan ? lan : wan else { throw BuildFailure("there is no network of the test") }
        return namespace
    }

    func side(_ place: Proof.Place) throws -> Side {
        guard let side = sides[place] else { throw BuildFailure("nothing is known of the side \(place.rawValue)") }
        return side
    }

    /// A machine whose ports are on both sides; it inherits ``taps``.
    ///
    /// - Parameters:
    ///   - disk: a copy of the image's.
    ///   - folder: for `events`, and for the console's file, which begins anew.
    func machine(
        _ firmware: VirtualMachine.Firmware, disk: String, of image: BuiltImage, in folder: String
    ) throws -> VirtualMachine {
        let isVirtual = image.profile == "virtio"
        var machine = VirtualMachine(
            firmware: firmware, disks: [.init(path: disk, bus: isVirtual ? .virtio : .nvme)])
        let card = isVirtual ? "virtio-net-pci" : "e1000e"
        machine.networks = [
            .init(.tap(descriptor: 3), card: card, mac: try side(.wan).boxMAC.description),
            .init(.tap(descriptor: 4), card: card, mac: try side(.lan).boxMAC.description),
        ]
        machine.memory = 1024
        machine.events = "\(folder)/events"
        for name in ["events", "console"] { try FileSystem.replace("\(folder)/\(name)", with: "") }
        return machine
    }

    // MARK: - Addresses

    private static func address(_ plan: [Resource], _ link: String, _ family: IPAddress.Family) -> IPPrefix? {
        for case .address(let name, let prefix) in plan where name == link && prefix.family == family { return prefix }
        return nil
    }

    private static func side(
        of link: String, _ plan: [Resource], mac: MACAddress, fallback4: String, fallback6: String
    ) throws -> Side {
        let (own4, own6) = (address(plan, link, .ipv4), address(plan, link, .ipv6))
        guard let box4 = own4 ?? IPPrefix(fallback4), let box6 = own6 ?? IPPrefix(fallback6),
            let host4 = host(10, in: box4), let host6 = host(0x10, in: box6)
        else { throw BuildFailure("no addresses for the side \(link)") }
        return Side(
            host4: host4, host6: host6, network4: box4.network, network6: box6.network, box4: own4?.address,
            box6: own6?.address, boxMAC: mac)
    }

    /// The WAN's host is the provider's router and server: the gateway, where the plan names one.
    private static func wanSide(_ plan: [Resource], mac: MACAddress) throws -> Side {
        var side = try side(of: "wan", plan, mac: mac, fallback4: "203.0.113.2/24", fallback6: "2001:db8:1::2/64")
        let gateway = plan.compactMap { resource -> IPAddress? in
            if case .route(let route) = resource, route.destination.length == 0, route.gateway?.family == .ipv4,
                route.table == RouteResource.mainTable
            {
                return route.gateway
            }
            return nil
        }.first
        if let host = gateway ?? host(1, in: side.network4) { side.host4 = host }
        if let host = host(1, in: side.network6) { side.host6 = host }
        return side
    }

    /// The network's address whose last byte is `number`.
    private static func host(_ number: UInt8, in prefix: IPPrefix) -> IPAddress? {
        var bytes = prefix.network.address.bytes
        bytes[bytes.count - 1] |= number
        return IPAddress(bytes)
    }

    // MARK: - Links

    private func ip(_ namespace: NetworkNamespace, _ line: String) throws {
        try namespace.run { _ = try Command("ip", line.split(separator: " ").map(String.init)).check() }
    }

    private func connect(_ place: Proof.Place) throws {
        let (namespace, side) = (try namespace(place), try side(place))
        let name = place.rawValue
        if let box {
            let port = place == .wan ? "eth0" : "eth1"
            try ip(namespace, "link add \(name) type veth peer name \(port) address \(side.boxMAC) netns \(box.path)")
        } else {
            let tap = try namespace.run {
                let descriptor = csystem_tap(name)
                guard descriptor >= 0 else { throw SystemError("TUNSETIFF", "/dev/net/tun") }
                return File(descriptor: descriptor, path: "/dev/net/tun")
            }
            taps.append(tap)
        }
        try ip(namespace, "addr add \(side.host4)/\(side.network4.length) dev \(name)")
        try ip(namespace, "addr add \(side.host6)/\(side.network6.length) dev \(name) nodad")
        try ip(namespace, "link set \(name) up")
        if place == .lan {
            if let box = side.box4 {
                // Known from the first moment: a flood must not wait for an answer.
                try ip(namespace, "neigh replace \(box) lladdr \(side.boxMAC) dev \(name)")
                try ip(namespace, "route add default via \(box)")
            }
            if let box = side.box6 { try ip(namespace, "-6 route add default via \(box)") }
        } else {
            if let known = IPAddress(Self.knownName.address) { try ip(namespace, "addr add \(known)/32 dev \(name)") }
            let other = try self.side(.lan)
            guard let linkLocal = Self.linkLocal(side.boxMAC), let far = Self.host(77, in: side.network4) else {
                return
            }
            // Whatever address the box will have: packets to its LAN are sent at it from the first moment.
            try ip(namespace, "neigh replace \(far) lladdr \(side.boxMAC) dev \(name) nud permanent")
            try ip(namespace, "route add \(other.network4) via \(far)")
            try ip(namespace, "-6 neigh replace \(linkLocal) lladdr \(side.boxMAC) dev \(name) nud permanent")
            try ip(namespace, "-6 route add \(other.network6) via \(linkLocal) dev \(name)")
        }
    }

    /// RFC 4291, appendix A.
    static func linkLocal(_ mac: MACAddress) -> IPAddress? {
        let m = mac.bytes
        return IPAddress([0xFE, 0x80, 0, 0, 0, 0, 0, 0, m[0] ^ 2, m[1], m[2], 0xFF, 0xFE, m[3], m[4], m[5]])
    }

    // MARK: - The provider

    /// DHCP, DNS and router advertisements by dnsmasq, in the WAN.
    private func startProvider(_ plan: [Resource], folder: String) throws {
        guard FileSystem.exists("/usr/sbin/dnsmasq") else {
            throw BuildFailure("there is no dnsmasq, which plays the provider", hint: "apt-get install dnsmasq-base")
        }
        let side = try side(.wan)
        guard let first = Self.host(100, in: side.network4), let last = Self.host(150, in: side.network4) else {
            return
        }
        let configuration = """
            no-resolv
            no-hosts
            interface=wan
            bind-interfaces
            except-interface=lo
            dhcp-range=\(first),\(last),1h
            dhcp-option=option:router,\(side.host4)
            dhcp-option=option:dns-server,\(side.host4)
            dhcp-authoritative
            dhcp-leasefile=\(folder)/provider.leases
            enable-ra
            ra-param=wan,5,600
            dhcp-range=\(side.network6.address),ra-only
            address=/\(Self.knownName.name)/\(Self.knownName.address)

            """
        try FileSystem.replace("\(folder)/provider.conf", with: configuration)
        let log = try File("\(folder)/provider.log", O_WRONLY | O_CREAT | O_TRUNC)
        let server = try namespace(.wan).run {
            try Command(
                "/usr/sbin/dnsmasq",
                [
                    "--keep-in-foreground", "--user=root", "--log-facility=-", "--conf-file=\(folder)/provider.conf",
                    "--pid-file=",
                ]
            ).start(output: log)
        }
        servers.append(server)
        usleep(300_000)
        guard server.poll() == nil else {
            let said = String(decoding: try FileSystem.read("\(folder)/provider.log"), as: UTF8.self)
            throw BuildFailure("the provider's dnsmasq doesn't run: \(said)")
        }
    }
}
