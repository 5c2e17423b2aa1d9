import Addresses
import CMnl
import Glibc
import Planning
import PluginKit
import Testing

@testable import Engine
@testable import Netlink

/// Which of the kernel's connections a new policy deletes, and in which steps.
@Suite struct EvictionTests {
    private let network: RouterNetwork

    init() throws { network = try RouterNetwork() }

    /// Accepts all but what is to be dropped.
    private static func policy(dropping matches: [Statement] = []) -> Eviction.Policy {
        var rules = matches.map { Rule([$0, .verdict(.drop)]) }
        rules.append(Rule([.verdict(.accept)]))
        let table = TablePlan([.chain(Chain("x.forward", rules: rules), stage: .init(.forward, order: 1))])
        return Eviction.Policy(table: table, fed: [:], time: 0)
    }

    private static func port(_ number: Int) -> Statement {
        .match(.payload(.udp, "dport"), .equal, .number(number))
    }

    /// The policy in effect, which a test changes.
    private final class Present {
        var policy = EvictionTests.policy()
    }

    private func eviction(_ present: Present, _ routes: RouteSocket) -> Eviction {
        Eviction(present: { present.policy }, routes: routes, members: { _ in [] })
    }

    /// Has an eviction make all its steps.
    private func finish(_ eviction: Eviction) {
        while eviction.due != nil { eviction.step() }
    }

    @Test func ofFiftyThousandItDeletesTheForbiddenOnesInBoundedSteps() throws {
        var lines = ""
        for number in 0..<50_000 { lines += RouterNetwork.connection(number, to: number % 2 == 0 ? 443 : 53) }
        try network.run { routes in
            try network.load(lines)
            let present = Present()
            let eviction = eviction(present, routes)
            #expect(eviction.due == nil)
            eviction.watch(since: present.policy)
            present.policy = Self.policy(dropping: [Self.port(53)])
            var longest = 0
            while eviction.due != nil {
                let before = eviction.inspected
                eviction.step()
                longest = max(longest, eviction.inspected - before)
            }
            #expect(longest > 0 && longest <= Eviction.stepSize)
            let ports = try network.ports([53, 443])
            #expect(ports == [0, 25_000])
        }
    }

    @Test func answersAboutAddressesAreForgottenWhenTheyAreTooMany() throws {
        try network.run { routes in
            let near = Neighbourhood(routes)
            for number in 0..<(Neighbourhood.mostKnown + 1000) {
                let address = try #require(IPAddress(RouterNetwork.source(number)))
                #expect(near.link(to: address) == "lan")
                #expect(near.knownCount <= Neighbourhood.mostKnown)
            }
        }
    }

    @Test func marksAndZonesAreThoseOfTheConnection() throws {
        let drops: [Statement] = [
            .match(.ct(.mark), .equal, .number(7)), .match(.selector(.zone(nil)), .equal, .number(5)),
        ]
        try network.run { routes in
            let kinds = ["-m 7", "-m 8", "-w 5", "-w 6", "--orig-zone 5", "--reply-zone 5", ""]
            var lines = ""
            for (number, more) in kinds.enumerated() { lines += RouterNetwork.connection(number, to: 443, more) }
            lines += "-I -s fd00:1::1 -d 2001:db8::1 -p tcp --sport 1 --dport 443 -t 600 --state ESTABLISHED -w 5\n"
            lines += "-I -s fd00:1::1 -d 2001:db8::1 -p icmpv6 --icmpv6-type 128 --icmpv6-code 0 --icmpv6-id 1 -t 600\n"
            try network.load(lines)
            let present = Present()
            let eviction = eviction(present, routes)
            eviction.watch(since: present.policy)
            present.policy = Self.policy(dropping: drops)
            finish(eviction)
            // Whether a rule means the zone of the reply direction can't be told: that connection
            // stays.
            for (number, stays) in [false, true, false, true, false, true, true].enumerated() {
                let listed = try network.listed("--src", RouterNetwork.source(number))
                #expect((listed == 1) == stays, "\(kinds[number])")
            }
            let six = try network.listed("--family", "ipv6")
            #expect(six == 1)
        }
    }

    /// What the packet's mark is decides its route, and with it the links that rules ask for.
    @Test func anUnknownMarkEvictsNothing() throws {
        func policy(_ mark: Expression, dropping matches: [Statement]) -> Eviction.Policy {
            var objects: [NftablesResource] = [.savedMarks(0xF000_0000)]
            let classify = Chain("x.classify", rules: [Rule([.setMark(.meta(.mark), mark)])])
            objects.append(.chain(classify, stage: .init(.classify, order: 1)))
            let rules = matches.map { Rule([$0, .verdict(.drop)]) } + [Rule([.verdict(.accept)])]
            objects.append(.chain(Chain("x.forward", rules: rules), stage: .init(.forward, order: 1)))
            return Eviction.Policy(table: TablePlan(objects), fed: [:], time: 0)
        }
        let hash = Expression.jhash(JHash(.payload(.ip, "saddr"), modulus: 2))
        let color = Statement.match(
            .and(.meta(.mark), .number(0xF000_0000)), .equal, .number(0x3000_0000))
        let kept = Expression.or(.and(.meta(.mark), .number(0xFFFF_FF00)), .number(1))
        let cases: [(mark: Expression, matches: [Statement], stays: Int)] = [
            (hash, [Self.port(53)], 2), (.number(1), [Self.port(53)], 0), (kept, [color], 1), (.number(1), [color], 2),
        ]
        for (mark, matches, stays) in cases {
            let network = try RouterNetwork()
            try network.run { routes in
                let marked = RouterNetwork.connection(1, to: 53, "-m \(0x3000_0000)")
                try network.load(marked + RouterNetwork.connection(2, to: 53))
                let present = Present()
                let eviction = eviction(present, routes)
                eviction.watch(since: present.policy)
                present.policy = policy(mark, dropping: matches)
                finish(eviction)
                let left = try network.listed()
                #expect(left == stays, "\(mark)")
            }
        }
    }

    @Test func aChangeDuringAPassIsFollowedForAllConnections() throws {
        var lines = ""
        for number in 0..<6000 { lines += RouterNetwork.connection(number, to: [53, 80, 443][number % 3]) }
        try network.run { routes in
            try network.load(lines)
            let present = Present()
            let eviction = eviction(present, routes)
            eviction.watch(since: present.policy)
            present.policy = Self.policy(dropping: [Self.port(53)])
            eviction.step()
            #expect(eviction.due != nil && eviction.inspected > 0)
            // Some of port 80 are inspected already; others begin, allowed.
            var more = ""
            for number in 6000..<7000 { more += RouterNetwork.connection(number, to: 443) }
            try network.load(more)
            eviction.watch(since: present.policy)
            present.policy = Self.policy(dropping: [Self.port(80)])
            eviction.step()
            eviction.watch(since: present.policy)
            present.policy = Self.policy(dropping: [Self.port(53), Self.port(80)])
            finish(eviction)
            let ports = try network.ports([53, 80, 443])
            #expect(ports == [0, 0, 3000])
        }
    }

    /// The next pass has what a dump with NLM_F_DUMP_INTR may lack.
    @Test func anInterruptedPassIsFollowedByAnother() throws {
        try network.run { routes in
            try network.load(RouterNetwork.connection(1, to: 53))
            let present = Present()
            var opened = 0
            let eviction = Eviction(present: { present.policy }, routes: routes, members: { _ in [] }) {
                opened += 1
                return opened == 1 ? try Self.emptyDump(flags: NLM_F_DUMP_INTR) : try ConnectionDump()
            }
            eviction.watch(since: present.policy)
            present.policy = Self.policy(dropping: [Self.port(53)])
            eviction.step()
            #expect(eviction.due != nil)
            finish(eviction)
            let left = try network.listed()
            #expect(opened == 2 && left == 0)
        }
    }

    @Test func aDumpThatFailsIsRequestedAgainSomeTimes() throws {
        try network.run { routes in
            let present = Present()
            var opened = 0
            let eviction = Eviction(present: { present.policy }, routes: routes, members: { _ in [] }) {
                opened += 1
                return try Self.emptyDump(flags: 0, code: -ENOMEM)
            }
            eviction.watch(since: present.policy)
            let start = Uptime.milliseconds
            eviction.step()
            let due = try #require(eviction.due)
            #expect(due > start)
            while eviction.due != nil {
                eviction.step()
                usleep(10_000)
            }
            #expect(opened == 5)
        }
    }

    /// A dump without a connection, from a far end in the kernel's place.
    private static func emptyDump(flags: Int32, code: Int32 = 0) throws -> ConnectionDump {
        var ends: [Int32] = [0, 0]
        try #require(socketpair(AF_UNIX, Int32(SOCK_SEQPACKET.rawValue), 0, &ends) == 0)
        var header = nlmsghdr()
        header.nlmsg_len = UInt32(MemoryLayout<nlmsghdr>.size + MemoryLayout<Int32>.size)
        header.nlmsg_type = UInt16(NLMSG_DONE)
        header.nlmsg_flags = UInt16(NLM_F_MULTI | flags)
        header.nlmsg_seq = 1
        let bytes = withUnsafeBytes(of: header) { Array($0) } + withUnsafeBytes(of: code) { Array($0) }
        _ = send(ends[1], bytes, bytes.count, 0)
        let dump = try ConnectionDump(on: ConnectionSocket(descriptor: ends[0]))
        // A far end that closes before it has read the request resets the connection.
        var request = [UInt8](repeating: 0, count: 64)
        #expect(recv(ends[1], &request, request.count, 0) > 0)
        close(ends[1])
        return dump
    }

    @Test func theListingEndsAtItsBound() throws {
        var lines = ""
        for number in 0..<(ConnectionListing.most + 2000) { lines += RouterNetwork.connection(number, to: 443) }
        lines += "-I -s fd00:1::1 -d 2001:db8::1 -p tcp --sport 1 --dport 443 -t 600 --state ESTABLISHED\n"
        try network.run { _ in
            try network.load(lines)
            let all = try ConnectionListing(of: nil).read()
            #expect(all.count == ConnectionListing.most)
            let one = try ConnectionListing(of: IPRange(RouterNetwork.source(4000))).read()
            #expect(one.map(\.original.source.description) == [RouterNetwork.source(4000)])
            let target = try ConnectionListing(of: IPRange("198.51.100.1")).read()
            #expect(target.count == (ConnectionListing.most + 2000) / 250)
            let six = try ConnectionListing(of: IPRange("2001:db8::/32")).read()
            #expect(six.count == 1)
        }
    }
}
