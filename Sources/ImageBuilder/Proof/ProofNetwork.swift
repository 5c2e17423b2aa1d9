import Addresses
import CSystem
import Files
import Glibc
import Planning
import PluginKit
import Processes

/// The networks around the box under test: on its first port the WAN, with servers and a provider's
/// DHCP, DNS and router advertisements; on its second port the LAN, with one host.
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
        /// Of the side's host.
        var hostMAC: MACAddress
    }

    let lan = try? NetworkNamespace()
    let wan = try? NetworkNamespace()
    private(set) var sides: [Proof.Endpoint: Side] = [:]
    /// The TAP devices that QEMU inherits, the WAN's first.
    private(set) var taps: [File] = []
    /// The namespace that acts as the box, if the box is not a virtual machine.
    private let box: NetworkNamespace?
    private var servers: [RunningProcess] = []
    private let folder: String
    /// The name that the provider's DNS resolves, and its address.
    static let knownName = (name: "www.example.test", address: "198.18.0.80")

    /// - Parameters:
    ///   - plan: the resources of the box's site.
    ///   - box: a namespace that acts as the box; nil for a virtual machine, which is attached by
    ///     TAP devices.
    ///   - folder: for the files of the provider's servers.
    init(plan: [Resource], box: NetworkNamespace? = nil, folder: String) throws {
        self.box = box
        self.folder = folder
        let mayTap = box != nil || access("/dev/net/tun", R_OK | W_OK) == 0
        guard geteuid() == 0, mayTap, lan != nil, wan != nil else {
            throw BuildFailure(
                "can't create a network namespace or a TAP device",
                hint: "run it as root, or in a user namespace in which /dev/net/tun may be opened")
        }
        guard let wanMAC = MACAddress("52:54:00:00:00:01"), let lanMAC = MACAddress("52:54:00:00:00:02"),
            let wanHost = MACAddress("52:54:00:00:01:01"), let lanHost = MACAddress("52:54:00:00:01:02")
        else { return }
        sides[.lan] = try Self.side(
            of: "lan", plan, mac: lanMAC, hostMAC: lanHost, fallback4: "192.168.1.1/24", fallback6: "fd00:1::1/64")
        sides[.wan] = try Self.wanSide(plan, mac: wanMAC, hostMAC: wanHost)
        for endpoint in [Proof.Endpoint.wan, .lan] { try connect(endpoint) }
        try startProvider(plan, folder: folder)
    }

    func namespace(_ endpoint: Proof.Endpoint) throws -> NetworkNamespace {
        guard let namespace = endpoint == .lan ? lan : wan else {
            throw BuildFailure(
                "the test has no network namespace for the \(endpoint.rawValue)",
                hint: "run it as root, or in a user namespace in which /dev/net/tun may be opened")
        }
        return namespace
    }

    func side(_ endpoint: Proof.Endpoint) throws -> Side {
        guard let side = sides[endpoint] else { throw BuildFailure("the test has no side \(endpoint.rawValue)") }
        return side
    }

    /// A machine with a port on each side; it inherits ``taps``.
    ///
    /// - Parameters:
    ///   - disk: a copy of the image's disk.
    ///   - hardware: of the image's hardware profile.
    ///   - folder: for the files `events` and `console`, which are emptied.
    func machine(
        _ firmware: VirtualMachine.Firmware, disk: String, _ hardware: VirtualMachine.Hardware, in folder: String
    ) throws -> VirtualMachine {
        var machine = VirtualMachine(firmware: firmware, disks: [.init(path: disk, bus: hardware.disk)])
        let card = hardware.network.rawValue
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

    /// The addresses of probe packets from a side to the other side's host.
    func route(from endpoint: Proof.Endpoint, _ family: IPAddress.Family) throws -> ProbePacket.Route {
        let (own, other) = (try side(endpoint), try side(endpoint == .lan ? .wan : .lan))
        // An address of the other side; and, for the LAN, an address outside of both sides:
        // TEST-NET-2 (RFC 5737) and the documentation prefix (RFC 3849). The WAN may send from any
        // address but the LAN's.
        let stranger = family == .ipv4 ? "198.51.100.66" : "2001:db8:bad::66"
        let foreign = [
            family == .ipv4 ? Self.host(77, in: other.network4) : Self.host(0x77, in: other.network6),
            endpoint == .lan ? IPAddress(stranger) : nil,
        ].compactMap { $0 }
        // The WAN sends from many hosts of the Internet, which are not the proofs' host: a site may
        // bound what each source opens, and then neither may every probe packet meet that bound nor
        // a proof because of them.
        let internet = (1...16).compactMap {
            IPAddress(family == .ipv4 ? "198.19.0.\($0)" : "2001:db8:1de::\($0)")
        }
        let host = family == .ipv4 ? own.host4 : own.host6
        return ProbePacket.Route(
            sourceMAC: own.hostMAC, boxMAC: own.boxMAC, sources: endpoint == .wan ? internet : [host],
            destination: family == .ipv4 ? other.host4 : other.host6, foreignSources: foreign)
    }

    /// The address that the provider's DHCP server leased to the box; nil without a lease.
    func leasedAddress() throws -> IPAddress? {
        let wanted = try side(.wan).boxMAC.description
        let leases = (try? FileSystem.read("\(folder)/provider.leases")) ?? []
        // A lease a line: expiry, MAC, address, name, client (dnsmasq(8), --dhcp-leasefile).
        let lines = String(decoding: leases, as: UTF8.self).split(separator: "\n").map { $0.split(separator: " ") }
        return lines.last { $0.count >= 3 && $0[1] == wanted }.flatMap { IPAddress(String($0[2])) }
    }

    private static func address(_ plan: [Resource], _ link: String, _ family: IPAddress.Family) -> IPPrefix? {
        plan.of(AddressResource.self).first { $0.link == link && $0.prefix.family == family }?.prefix
    }

    private static func side(
        of link: String, _ plan: [Resource], mac: MACAddress, hostMAC: MACAddress, fallback4: String, fallback6: String
    ) throws -> Side {
        let (own4, own6) = (address(plan, link, .ipv4), address(plan, link, .ipv6))
        guard let box4 = own4 ?? IPPrefix(fallback4), let box6 = own6 ?? IPPrefix(fallback6),
            let host4 = host(10, in: box4), let host6 = host(0x10, in: box6)
        else { throw BuildFailure("no addresses for the side \(link)") }
        return Side(
            host4: host4, host6: host6, network4: box4.network, network6: box6.network, box4: own4?.address,
            box6: own6?.address, boxMAC: mac, hostMAC: hostMAC)
    }

    /// The WAN's host is the provider's router and server: the plan's gateway, if it has one.
    private static func wanSide(_ plan: [Resource], mac: MACAddress, hostMAC: MACAddress) throws -> Side {
        var side = try side(
            of: "wan", plan, mac: mac, hostMAC: hostMAC, fallback4: "203.0.113.2/24", fallback6: "2001:db8:1::2/64")
        let gateway = plan.of(RouteResource.self).first {
            $0.destination.length == 0 && $0.table == RouteResource.mainTable
                && $0.paths.first?.gateway?.family == .ipv4
        }?.paths.first?.gateway
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

    private func connect(_ endpoint: Proof.Endpoint) throws {
        let (namespace, side) = (try namespace(endpoint), try side(endpoint))
        let name = endpoint.rawValue
        if let box {
            let port = endpoint == .wan ? "eth0" : "eth1"
            try ip(namespace, "link add \(name) type veth peer name \(port) address \(side.boxMAC) netns \(box.path)")
        } else {
            let tap = try namespace.run {
                let descriptor = csystem_tap(name)
                guard descriptor >= 0 else { throw SystemError("TUNSETIFF", "/dev/net/tun") }
                return File(descriptor: descriptor, path: "/dev/net/tun")
            }
            taps.append(tap)
        }
        try ip(namespace, "link set \(name) address \(side.hostMAC)")
        try ip(namespace, "addr add \(side.host4)/\(side.network4.length) dev \(name)")
        try ip(namespace, "addr add \(side.host6)/\(side.network6.length) dev \(name) nodad")
        try ip(namespace, "link set \(name) up")
        if endpoint == .lan {
            if let box = side.box4 {
                // Known from the start: probe packets must not wait for an answer.
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
            // The box's address is not known yet: packets to its LAN are sent to its MAC from the
            // start.
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
            throw BuildFailure(
                "there is no /usr/sbin/dnsmasq, which acts as the provider", hint: "apt-get install dnsmasq-base")
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
            let log = String(decoding: try FileSystem.read("\(folder)/provider.log"), as: UTF8.self)
            throw BuildFailure("the provider's dnsmasq exited: \(log)", hint: "\(folder)/provider.conf")
        }
    }
}
