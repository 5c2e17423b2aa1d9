import PluginKit

/// `lan:` of a site document.
public struct LANConfiguration: Sendable {
    struct Served {
        var interface: Located<String>
        var range: (first: IPAddress, last: IPAddress)?
        /// Seconds.
        var leaseTime: Int
        var path: String
    }

    struct Host {
        var name: String
        var address: IPAddress
        var mac: MACAddress?
    }

    var networks: [Located<Served>]
    var domain: String
    var hosts: [Located<Host>]
}

extension LANConfiguration {
    static var shape: Shape<LANConfiguration> {
        .mapping("what the LAN is served with") { fields in
            let networks = fields.required("networks", .list(of: served.located)) ?? []
            let domain = fields.optional("domain", hostName) ?? "lan"
            let hosts = fields.optional("hosts", .list(of: host.located)) ?? []
            fields.problems.checkUnique(networks, "interface") { $0.interface.value }
            // Names have no case (RFC 4343).
            fields.problems.checkUnique(hosts, "host") { $0.name.lowercased() }
            // Of reservations alone: an address may have several names, and a card one of each family.
            let reserved = hosts.filter { $0.value.mac != nil && $0.value.address.family == .ipv4 }
            fields.problems.checkUnique(reserved, "address", hint: "give every host with a MAC an address of its own") {
                "\($0.address)"
            }
            fields.problems.checkUnique(reserved, "MAC address", hint: "a card has one host: remove one of the two") {
                $0.mac?.description
            }
            return LANConfiguration(networks: networks, domain: domain, hosts: hosts)
        }
    }

    private static var hostName: Shape<String> {
        .text("a name of letters, digits, hyphens and dots, as DNS has them") { text in
            !text.isEmpty && text.utf8.count <= 253
                && text.split(separator: ".", omittingEmptySubsequences: false).allSatisfy { label in
                    !label.isEmpty && label.utf8.count <= 63 && label.first != "-" && label.last != "-"
                        && label.utf8.allSatisfy {
                            (0x61...0x7A).contains($0) || (0x41...0x5A).contains($0) || (0x30...0x39).contains($0)
                                || $0 == 0x2D
                        }
                }
        }
    }

    /// A host's name. `dhcp-host` of dnsmasq(8) takes some words in its place for something else: for a
    /// lease time, or for a host that gets no lease.
    private static var reservedName: Shape<String> {
        hostName.map("a host's name that is neither an address, nor ignore, infinite or a time such as 45m") { name in
            let digits = name.lowercased().last.map { "smhdw".contains($0) } == true ? name.dropLast() : name[...]
            let isTime = !digits.isEmpty && digits.utf8.allSatisfy { (0x30...0x39).contains($0) }
            return isTime || ["ignore", "infinite"].contains(name) || IPAddress(name) != nil ? nil : name
        }
    }

    private static var ipv4: Shape<IPAddress> {
        Shape.ipAddress.map("an IPv4 address, such as 192.168.1.100") { $0.family == .ipv4 ? $0 : nil }
    }

    private static var served: Shape<Served> {
        .mapping("a network of the LAN") { fields in
            let interface = fields.required("interface", Shape.text.located)
            let leaseTime = fields.optional("lease-time", .integer(120...2_592_000)) ?? 43_200
            let dhcp = fields.optional(
                "dhcp",
                Shape<(IPAddress, IPAddress)>.mapping("the range of addresses to lend") { fields in
                    let first = fields.required("from", ipv4)
                    let last = fields.required("to", ipv4)
                    guard let first, let last else { return nil }
                    if last < first {
                        fields.problems.add(
                            fields.node, fields.path, "the range ends (\(last)) before it begins (\(first))")
                    }
                    return (first, last)
                })
            let path = fields.path
            return interface.map { Served(interface: $0, range: dhcp, leaseTime: leaseTime, path: path) }
        }
    }

    private static var host: Shape<Host> {
        .mapping("a host") { fields in
            let name = fields.required("name", reservedName)
            let address = fields.required("address", .ipAddress)
            let mac = fields.optional("mac", .macAddress)
            guard let name, let address else { return nil }
            return Host(name: name, address: address, mac: mac)
        }
    }
}

/// DHCPv4 and DNS for the LAN, by dnsmasq.
public enum LAN: Plugin {
    public static let manifest = PluginManifest(
        name: "lan", version: "0.1.0", summary: "DHCPv4 and DNS for the LAN, by dnsmasq", key: "lan",
        yang: "vcpe-lan.yang", publishes: ["openings"], reads: ["interfaces", "resolvers", "names"],
        permissions: Permissions(
            programs: ["/usr/sbin/dnsmasq --test"],
            services: [
                "lan-dnsmasq": .init(
                    ["/usr/sbin/dnsmasq"], users: ["dnsmasq"],
                    capabilities: ["net_admin", "net_bind_service", "net_raw"], families: [.netlink])
            ], openings: ["tcp 53", "udp 53", "udp 67"]),
        resources: ["file", "directory", "service", "probe"],
        features: [.init("base", packages: ["dnsmasq-base"], users: ["dnsmasq": "/var/lib/misc"])],
        commands: [
            .init(.show, "leases", "Who was lent which address", inputs: [.file(leaseFile)]),
            .init(.act, "flush", "Forget all names that were looked up"),
        ])

    private static let leaseFile = "/data/lan/leases"

    public static var configuration: Shape<LANConfiguration> { LANConfiguration.shape }

    public static func publish(_ configuration: LANConfiguration, facts: Facts, into output: inout PublishOutput) {
        for network in configuration.networks.map(\.value) {
            let name = network.interface.value
            output.add(Opening(name: "lan.\(name)-dns-tcp", interface: name, transport: .tcp, port: 53))
            output.add(Opening(name: "lan.\(name)-dns-udp", interface: name, transport: .udp, port: 53))
            if network.range != nil {
                output.add(Opening(name: "lan.\(name)-dhcp", interface: name, transport: .udp, port: 67))
            }
        }
    }

    public static func plan(_ configuration: LANConfiguration, input: PlanInput, into output: inout PlanOutput) {
        var lines = [
            "# Written by vcpe's plugin lan.", "keep-in-foreground", "no-resolv", "no-hosts", "bind-dynamic",
            "log-facility=-", "domain-needed", "bogus-priv", "stop-dns-rebind", "rebind-localhost-ok",
            "domain=\(configuration.domain)", "local=/\(configuration.domain)/", "expand-hosts", "dhcp-authoritative",
            "dhcp-leasefile=\(leaseFile)", "cache-size=1000",
            "dhcp-lease-max=\(mostLeases(configuration))", "dns-forward-max=500",
        ]
        lines += namesOfOthers(configuration, input)
        var lent: [IPPrefix] = []
        for network in configuration.networks.map(\.value) {
            guard
                let interface = output.interface(
                    network.interface.value, at: network.interface.path, in: input.published)
            else { continue }
            lines.append("interface=\(interface.name)")
            if let own = interface.addresses.first(where: { $0.family == .ipv4 })?.address {
                // It may be starting anew.
                let check = ProbeResource.Check.dns(server: own, name: "localhost")
                output.add(
                    ProbeResource("lan.dns-\(interface.name)", check, threshold: 6), at: network.path)
            }
            guard let range = network.range else { continue }
            guard let own = interface.addresses.first(where: { $0.contains(range.first) && $0.contains(range.last) })
            else {
                let known = interface.addresses.filter { $0.family == .ipv4 }.map(\.network.description)
                output.say(
                    .error, path: network.path + ".dhcp",
                    "\(range.first) to \(range.last) is in no network of the interface \(interface.name)",
                    hint: "its networks are " + (known.isEmpty ? "none" : known.joined(separator: ", ")))
                continue
            }
            if !(own.address < range.first || range.last < own.address) {
                output.say(
                    .error, path: network.path + ".dhcp", "the range holds the box's own address \(own.address)")
            }
            lent.append(own)
            // Without "set:" a name such as "cafe" is read as an address.
            lines.append("dhcp-range=set:\(interface.name),\(range.first),\(range.last),\(network.leaseTime)")
        }
        for server in input.published.resolvers.sorted(by: { $0.key < $1.key }).flatMap(\.value) {
            lines.append("server=\(server)")
        }
        for located in configuration.hosts {
            let host = located.value
            checkReservation(of: located, in: lent, into: &output)
            lines.append("host-record=\(host.name),\(host.name).\(configuration.domain),\(host.address)")
            if let mac = host.mac, host.address.family == .ipv4 {
                lines.append("dhcp-host=\(mac),\(host.address),\(host.name)")
            }
        }
        output.add(DirectoryResource(path: "/run/vcpe/lan", owner: "root", mode: 0o755))
        output.add(DirectoryResource(path: "/data/lan", owner: "dnsmasq", mode: 0o755))
        let file = "/run/vcpe/lan/dnsmasq.conf"
        output.add(
            FileResource(
                path: file, content: lines.joined(separator: "\n") + "\n", owner: "root", mode: 0o644,
                check: ["/usr/sbin/dnsmasq", "--test", "--conf-file=\(file)"]), at: "networks")
        output.add(
            ServiceResource(
                name: "lan-dnsmasq", command: ["/usr/sbin/dnsmasq", "--conf-file=\(file)", "--user="],
                user: "dnsmasq", capabilities: ["net_bind_service", "net_admin", "net_raw"],
                configurationFiles: [file], memory: 64 << 20,
                profile: .init(writable: ["/data/lan"], families: [.netlink])), at: "networks")
    }

    /// Names that mean something to other hosts, which no DHCP client gets (CERT VU#598349): by
    /// wpad and isatap they find their proxy and their tunnel; the others are the box's, and the
    /// site's hosts'. A reservation gives its own name all the same.
    private static func namesOfOthers(_ configuration: LANConfiguration, _ input: PlanInput) -> [String] {
        let own = input.published.names.compactMap { $0.split(separator: ".").first?.lowercased() }
        let hosts = configuration.hosts.map { $0.value.name.lowercased() }
        let names = Set(["wpad", "isatap", "localhost"] + own + hosts)
        let first = Set(names.compactMap { $0.split(separator: ".").first.map(String.init) })
        // A client may send the domain with it.
        return first.sorted().flatMap { ["\($0)", "\($0).*"] }.map { "dhcp-name-match=set:name-of-others,\($0)" }
            + ["dhcp-ignore-names=tag:name-of-others"]
    }

    /// What bounds the file of leases; the ranges bound what a client that makes itself hardware
    /// addresses gets.
    private static func mostLeases(_ configuration: LANConfiguration) -> Int {
        let sizes = configuration.networks.compactMap { network in
            network.value.range.map { Int(clamping: $0.last.value - $0.first.value) + 1 }
        }
        // Reservations are leases, too, and so is what an earlier, longer range has lent: with more
        // of them in its file dnsmasq does not start.
        return min(largestLeases, 1000 + sizes.reduce(configuration.hosts.count) { min(largestLeases, $0 + $1) })
    }

    /// A lease is some 300 bytes of dnsmasq's memory.
    private static let largestLeases = 50_000

    /// A reserved address that the server never gives, or gives wrongly.
    ///
    /// - Parameter networks: the box's own addresses in the networks with DHCP.
    private static func checkReservation(
        of host: Located<LANConfiguration.Host>, in networks: [IPPrefix], into output: inout PlanOutput
    ) {
        let address = host.value.address
        guard host.value.mac != nil, address.family == .ipv4 else { return }
        guard let own = networks.first(where: { $0.contains(address) }) else {
            let known = networks.map(\.network.description).joined(separator: ", ")
            return output.say(
                .warning, path: host.path,
                "\(address) is in no network with DHCP, so \(host.value.name) never gets it",
                hint: networks.isEmpty ? "no network has dhcp" : "networks with DHCP are \(known)")
        }
        let meaning: String? =
            if address == own.address {
                "the box's own address"
            } else if own.length < 31, address == own.network.address {
                "the address of the network \(own.network)"
            } else if own.length < 31, address == own.last {
                "the broadcast address of the network \(own.network)"
            } else { nil }
        guard let meaning else { return }
        output.say(
            .error, path: host.path, "\(host.value.name) has \(meaning), \(address)",
            hint: "give it another address of \(own.network)")
    }

    // MARK: - Commands

    /// A line a lease: the end as seconds since 1970 or 0, MAC, address, name or *, client identifier (dnsmasq(8)).
    public static func show(
        _ command: String, _ configuration: LANConfiguration, input: CommandInput, into output: inout ShowOutput
    ) {
        output.columns = ["address", "mac", "name", "seconds left"]
        for line in (input.files[leaseFile] ?? "").split(separator: "\n") {
            let words = line.split(separator: " ").map(String.init)
            guard words.count >= 4, let end = Int(words[0]), end == 0 || end > input.now else { continue }
            output.add(
                .text(words[2]), .text(words[1]), .text(words[3] == "*" ? "" : words[3]),
                end == 0 ? "for ever" : .integer(end - input.now))
        }
    }

    public static func act(
        _ command: String, _ configuration: LANConfiguration, input: CommandInput, into output: inout ActOutput
    ) {
        output.add(.signal(service: "lan-dnsmasq", .hup))
        output.add(.say("names are looked up anew"))
    }
}
