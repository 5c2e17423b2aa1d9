import PluginKit

/// What packets are about, without where they come from and go to: a protocol, and of some protocols more.
struct Service: Sendable, Hashable {
    /// IANA's number.
    var transport: Int
    /// Destination ports; none for all.
    var ports: [ClosedRange<UInt128>] = []
    var sourcePorts: [ClosedRange<UInt128>] = []
    /// By nft's names, of the family that the protocol is of; none for all.
    var icmpTypes: [String] = []
    var flags: Flags?

    /// Of TCP.
    struct Flags: Sendable, Hashable {
        /// These are set …
        var set: [String]
        /// … and those are not.
        var clear: [String]
    }

    init(_ transport: Int, ports: [ClosedRange<Int>] = []) {
        self.transport = transport
        self.ports = Self.united(ports)
    }

    private static func united(_ ports: [ClosedRange<Int>]) -> [ClosedRange<UInt128>] {
        .united(ports.map { UInt128($0.lowerBound)...UInt128($0.upperBound) })
    }

    /// What its keys in a rule or a service are read as.
    struct Parts {
        let transport: Shape<String>
        let ports: Shape<[ClosedRange<Int>]>
        let icmpTypes: Shape<[String]>
        let flags: Shape<Flags>
    }

    static var shape: Parts {
        let names = Transports.names + ["tcp-and-udp"]
        let number = Shape<String>.scalar("one of \(names.joined(separator: ", ")), or a protocol's number") { scalar in
            names.contains(scalar.text) || Int(scalar.text).map { (0...255).contains($0) } == true ? scalar.text : nil
        }
        let types = Set(DataType.icmpType.symbols.keys).union(DataType.icmpv6Type.symbols.keys).sorted()
        let flags = Shape.list(of: Shape<String>.oneOf(DataType.tcpFlag.symbols.keys.sorted()))
        return Parts(
            transport: number, ports: .list(of: .ports), icmpTypes: .list(of: .oneOf(types)),
            flags: .mapping("flags that are set and such that are not") { fields in
                Flags(set: fields.optional("set", flags) ?? [], clear: fields.optional("clear", flags) ?? [])
            })
    }

    /// Reads `protocol`, `ports`, `source-ports`, `icmp-types` and `tcp-flags`; nil when they can't be read.
    static func read(_ parts: Parts, _ fields: inout Fields) -> [Service]? {
        let name = fields.optional("protocol", parts.transport)
        let ports = fields.optional("ports", parts.ports) ?? []
        let sourcePorts = fields.optional("source-ports", parts.ports) ?? []
        let types = fields.optional("icmp-types", parts.icmpTypes) ?? []
        let flags = fields.optional("tcp-flags", parts.flags)
        fields.refuseEmptyLists(["ports", "source-ports", "icmp-types"])
        if name == nil, ports.isEmpty, sourcePorts.isEmpty, types.isEmpty, flags == nil { return [] }
        func mustBe(_ isRight: Bool, _ key: String, _ message: String, _ hint: String) {
            guard !isRight, let node = fields.node[key]?.value else { return }
            fields.problems.add(node, "\(fields.path).\(key)", message, hint: hint)
        }
        let numbers =
            switch name {
            case nil: [Int]()
            case "tcp-and-udp": [6, 17]
            // One rule for both families.
            case "icmp": [1, 58]
            case let name?: [Transports.number(of: name) ?? 0]
            }
        let hasPorts = !numbers.isEmpty && numbers.allSatisfy(Transports.withPorts.contains)
        for key in ["ports", "source-ports"] {
            mustBe(hasPorts, key, "ports without a protocol that has ports", "protocol: tcp, udp, tcp-and-udp or sctp")
        }
        mustBe(numbers == [1, 58], "icmp-types", "ICMP's types without its protocol", "protocol: icmp")
        mustBe(numbers == [6], "tcp-flags", "TCP's flags without its protocol", "protocol: tcp")
        if let flags, flags.set.isEmpty, flags.clear.isEmpty {
            mustBe(false, "tcp-flags", "no flag is named", "give set or clear, or leave tcp-flags out")
        }
        if let flags, !Set(flags.set).isDisjoint(with: flags.clear) {
            mustBe(false, "tcp-flags", "a flag can't be set and clear at once", "leave it out of one")
        }
        return numbers.map { number in
            var service = Service(number, ports: ports)
            service.sourcePorts = united(sourcePorts)
            if number == 1 { service.icmpTypes = types.filter { DataType.icmpType.symbols[$0] != nil } }
            if number == 58 { service.icmpTypes = types.filter { DataType.icmpv6Type.symbols[$0] != nil } }
            service.flags = flags
            return service
        }.filter { types.isEmpty || !$0.icmpTypes.isEmpty }
    }

    /// Well-known services by the names that IANA has for them; what a site names itself goes before.
    static let wellKnown: [String: [Service]] = {
        func both(_ port: Int) -> [Service] { [Service(6, ports: [port...port]), Service(17, ports: [port...port])] }
        func tcp(_ ports: Int...) -> [Service] { [Service(6, ports: ports.map { $0...$0 })] }
        func udp(_ ports: Int...) -> [Service] { [Service(17, ports: ports.map { $0...$0 })] }
        return [
            "ftp": tcp(21), "ssh": tcp(22), "telnet": tcp(23), "smtp": tcp(25), "tacacs": tcp(49), "domain": both(53),
            "bootps": udp(67), "bootpc": udp(68), "tftp": udp(69), "http": tcp(80), "kerberos": both(88),
            "pop3": tcp(110),
            "sunrpc": both(111), "nntp": tcp(119), "ntp": udp(123), "netbios-ns": udp(137), "netbios-dgm": udp(138),
            "netbios-ssn": tcp(139), "imap": tcp(143), "snmp": udp(161), "snmptrap": udp(162), "bgp": tcp(179),
            "irc": tcp(194), "ldap": both(389), "https": tcp(443) + udp(443), "microsoft-ds": tcp(445),
            "isakmp": udp(500),
            "syslog": udp(514), "printer": tcp(515), "rtsp": tcp(554), "submissions": tcp(465), "submission": tcp(587),
            "ipp": tcp(631), "ldaps": tcp(636), "syslog-tls": tcp(6514), "domain-s": both(853), "rsync": tcp(873),
            "ftps": tcp(990), "imaps": tcp(993), "pop3s": tcp(995), "socks": tcp(1080), "openvpn": both(1194),
            "ms-sql-s": tcp(1433), "l2tp": udp(1701), "pptp": tcp(1723), "radius": udp(1812), "radius-acct": udp(1813),
            "nfs": both(2049), "mysql": tcp(3306), "ms-wbt-server": tcp(3389) + udp(3389), "stun": both(3478),
            "ipsec-nat-t": udp(4500), "sip": both(5060), "sips": tcp(5061), "xmpp-client": tcp(5222), "mdns": udp(5353),
            "postgresql": tcp(5432), "amqp": tcp(5672), "rfb": tcp(5900), "x11": tcp(6000), "redis": tcp(6379),
            "http-alt": tcp(8080), "mqtt": tcp(1883), "secure-mqtt": tcp(8883), "wireguard": udp(51_820),
        ]
    }()
}
