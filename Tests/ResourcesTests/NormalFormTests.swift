import Addresses
import Documents
@testable import Engine
import Files
import Glibc
import Netlink
import Planning
import PluginKit
import Processes
import TestSupport
import Testing

/// The kernel's normal form: after any sequence of plans the kernel's state depends on the last one
/// alone, and applying a plan twice sends nothing.
@Suite(.serialized) struct NormalFormTests {
    private let folder: String
    private let namespace: NetworkNamespace

    init() throws {
        folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-normal")
        namespace = try NetworkNamespace()
    }

    /// The engine's drivers in the namespace.
    private final class Box {
        let context: DriverContext
        var applied = AppliedState()

        init(folder: String) throws {
            var places = Places()
            (places.run, places.data) = ("\(folder)/run", "\(folder)/data")
            places.initSocket = "\(folder)/none"
            context = DriverContext(
                places: places, socket: try RouteSocket(), filter: try FilterTable(),
                secrets: SecretStore(folder: "\(folder)/secrets", scratch: folder))
        }

        func apply(_ plan: Plan) throws {
            var context = context
            context.remember = { values in self.applied.sysctls.merge(values) { known, _ in known } }
            let transaction = Transaction(context, from: applied, to: plan)
            try transaction.checkAll()
            try transaction.apply()
            applied = applied.settled(plan)
        }

        func drift() throws -> [String] {
            try Drivers.drift(context, from: applied.plan, .netlink)
                + Drivers.drift(context, from: applied.plan, .polling)
        }
    }

    private static func plan(_ resources: [Resource]) -> Plan {
        Plan(resources.map { PlannedResource(resource: $0, plugin: "test", line: $0.json.line) })
    }

    /// What the kernel has, without counters and what changes by itself.
    private func state() throws -> [String] {
        let script = """
            ip -d link | sed -E 's/^[0-9]+: [^:@]+(@[^:]*)?//; s/qdisc [^ ]+//; s/qlen.*//; /link-netnsid|veth|bridge_id/d; /altname/d'
            ip -o addr show scope global | sed -E 's/^[0-9]+: [^ ]+//'
            ip -4 route show table all proto 118; ip -6 route show table all proto 118
            ip -4 rule; ip -6 rule
            """
        return try Command("sh", ["-c", script]).check().text.split(separator: "\n").map(String.init)
    }

    private func makePorts(_ count: Int) throws -> [MACAddress] {
        for i in 0..<count {
            try Command("ip", ["link", "add", "eth\(i)", "type", "veth", "peer", "name", "far\(i)"]).check()
            try Command("ip", ["link", "set", "far\(i)", "up"]).check()
        }
        return try RouteSocket().links().filter { $0.name.hasPrefix("eth") }.compactMap(\.address)
    }

    @Test func theKernelFollowsTheLastPlanAlone() throws {
        let seed = UInt64(getpid()) << 32 ^ UInt64(time(nil))
        let count = 60
        try namespace.run {
            var network = RandomNetwork(ports: try makePorts(3), random: Random(seed: seed))
            let box = try Box(folder: folder)
            try box.apply(Plan())
            let before = try state()
            for i in 0..<count {
                let plan = Self.plan(network.next())
                let about = Comment(rawValue: "seed \(seed), state \(i): \(plan.lines.joined(separator: "\n"))")
                do { try box.apply(plan) } catch { Issue.record(error, about); throw error }
                try compare(plan, about)
                let drift = try box.drift()
                #expect(drift.isEmpty, about)
                let changes = box.context.socket.changeCount
                try box.apply(plan)
                #expect(box.context.socket.changeCount == changes, about)
                if !drift.isEmpty || box.context.socket.changeCount != changes { return }
            }
            try box.apply(Plan())
            // A link's state follows its carrier a moment later (linkwatch of the kernel).
            var after: [String] = []
            let isBack = try Wait.until {
                after = try state()
                return after == before
            }
            #expect(isBack, "seed \(seed): \(after.difference(from: before))")
        }
        print("normal form: \(count) states, seed \(seed)")
    }

    /// Looks for the plan's resources in what ip(8) lists.
    private func compare(_ plan: Plan, _ about: Comment) throws {
        let script =
            "ip -o link; ip -o addr; ip -4 rule; ip -6 rule; ip -4 route show table all; ip -6 route show table all"
        let text = try Command("sh", ["-c", script]).check().text
        let waiting = plan.values(LinkResource.self).filter { $0.type.as(ExternalLink.self) != nil }.map(\.name)
        for link in plan.values(LinkResource.self) where !waiting.contains(link.name) {
            #expect(text.contains(": \(link.name)@") || text.contains(": \(link.name): "), about)
        }
        for address in plan.values(AddressResource.self) where !waiting.contains(address.link) {
            let line = text.split(separator: "\n").contains {
                $0.contains(": \(address.link) ") && $0.contains(" \(address.prefix) ")
            }
            #expect(line, about)
        }
        for rule in plan.values(RuleResource.self) { #expect(text.contains("\(rule.priority):\t"), about) }
        let routes = plan.values(RouteResource.self).filter { route in
            !route.paths.contains { $0.link.map(waiting.contains) ?? false }
        }
        #expect(
            text.split(separator: "\n").count { $0.contains("proto 118") && !$0.contains(":\t") } == routes.count, about
        )
    }

    private func apply(_ resources: [any ResourceType]...) throws -> [[String]] {
        try namespace.run {
            let box = try Box(folder: folder)
            return try resources.map { resources in
                try box.apply(Self.plan(resources.map { value in Resource(value) }))
                return try box.drift()
            }
        }
    }

    @Test func aRuleOfAllSourcesOrWithTheMarkZeroIsAppliedTwice() throws {
        for rule in [
            RuleResource(.ipv4, priority: 1000, table: 10, source: IPPrefix("0.0.0.0/0")),
            RuleResource(.ipv6, priority: 1000, table: 10, destination: IPPrefix("::/0")),
            RuleResource(.ipv4, priority: 1001, table: 10, mark: 0, mask: 0xFF),
            RuleResource(.ipv4, priority: 1002, table: 10),
        ] {
            #expect(try apply([rule], [rule], []) == [[], [], []], "\(rule)")
        }
    }

    @Test func aRuleOfAUserHasItsNumber() throws {
        var rule = RuleResource(.ipv4, priority: 1003, table: 10)
        rule.user = "daemon"
        let drift = try apply([rule], [rule])
        #expect(drift == [[], []])
        // base-passwd's number.
        let text = try namespace.run { try Command("ip", ["rule"]).check().text }
        let line = text.split(separator: "\n").first { $0.hasPrefix("1003:") }
        #expect(line?.contains("uidrange 1-1") == true && line?.contains("lookup 10") == true, "\(text)")
        rule.user = "nobody-has-this-name"
        #expect(throws: EngineError.self) { _ = try self.apply([rule]) }
    }

    @Test func anMTUThatThePlanNoLongerHasGoesBackToTheDefault() throws {
        let (mtus, macs) = try namespace.run {
            let macs = try makePorts(1)
            let box = try Box(folder: folder)
            func mtu(_ mtu: Int?) throws -> [Int] {
                let port = LinkResource(name: "wan", PortLink(path: "", mac: macs[0]), master: "lan", mtu: mtu)
                let bridge = LinkResource(name: "lan", BridgeLink(), mtu: nil)
                try box.apply(Self.plan([Resource(port), Resource(bridge)]))
                return try box.context.socket.links().filter { ["wan", "lan"].contains($0.name) }.map(\.mtu)
            }
            return ([try mtu(9000), try mtu(nil)], macs)
        }
        #expect(mtus == [[9000, 9000], [1500, 1500]], "\(macs)")
    }

    /// One router advertisement of 2001:db8:77::/64 and a default route, out of a link.
    private static let advertisement = """
        import socket, struct, sys
        index = socket.if_nametoindex(sys.argv[1])
        s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        prefix = struct.pack("!BBBBIII16s", 3, 4, 64, 0xC0, 86400, 86400, 0, socket.inet_pton(socket.AF_INET6, "2001:db8:77::"))
        s.sendto(struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + prefix, ("ff02::1", 0, 0, index))
        """

    /// The link stays, its acceptance of advertisements goes: by 0, and by the value before, which a
    /// box that forwards does not accept by.
    @Test func whatAdvertisementsLeftGoesWithTheirAcceptance() throws {
        try namespace.run {
            let macs = try makePorts(1)
            let box = try Box(folder: folder)
            func plan(_ value: String?) throws -> Plan {
                let sysctl = value.map {
                    [Resource(SysctlResource(key: "net/ipv6/conf/wan/accept_ra", value: $0))]
                }
                // The packet filter drops what no plan accepts.
                let accept =
                    #"{"kind": "nftables", "id": "chain test.input", "stage": "input", "order": 1, "#
                    + #""chain": {"name": "test.input", "rules": [{"expr": [{"accept": null}]}]}}"#
                let port = LinkResource(name: "wan", PortLink(path: "", mac: macs[0]))
                return Self.plan([Resource(port), try Resource(JSON.parse(accept))] + (sysctl ?? []))
            }
            func learned() throws -> String {
                let text = try Command("sh", ["-c", "ip -6 addr show dev wan; ip -6 route show dev wan"]).check().text
                return text.split(separator: "\n").filter { $0.contains("2001:db8:77:") || $0.hasPrefix("default via") }
                    .joined(separator: "\n")
            }
            for after in ["0", nil] {
                try box.apply(plan("2"))
                var sent: Command.Result?
                let isLearned = try Wait.until {
                    // Not before the far end has a link-local address.
                    sent = try Command("python3", ["-c", Self.advertisement, "far0"]).run()
                    let text = try learned()
                    return text.contains("2001:db8:77:") && text.contains("default via")
                }
                let present = try Command("ip", ["-6", "addr"]).check().text
                try #require(isLearned, "\(String(describing: sent)) \(present)")
                if after == nil { try Command("sysctl", ["-qw", "net.ipv6.conf.wan.forwarding=1"]).check() }
                try box.apply(plan(after))
                let left = try learned()
                #expect(left == "", "\(after ?? "the value before")")
                #expect(try box.drift() == [])
            }
        }
    }

    /// Two ports that exchange their names, whose indexes are the names' numbers.
    @Test func portsExchangeNamesOfAnyForm() throws {
        try namespace.run {
            let macs = try makePorts(2)
            let links = try RouteSocket().links()
            let indexes = macs.compactMap { mac in links.first { $0.address == mac }?.index }
            let names = indexes.map { "port-\($0)" }
            let box = try Box(folder: folder)
            func plan(_ names: [String]) -> Plan {
                Self.plan(zip(names, macs).map { Resource(LinkResource(name: $0, PortLink(path: "", mac: $1))) })
            }
            try box.apply(plan(names))
            try box.apply(plan(names.reversed()))
            #expect(try box.drift() == [])
        }
    }
}
