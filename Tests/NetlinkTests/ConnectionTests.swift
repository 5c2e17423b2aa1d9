import Addresses
import Glibc
import Processes
import Testing

@testable import Netlink

/// Against conntrack(8), which writes and lists the connections of the same network namespace.
@Suite struct ConnectionTests {
    private let namespace: NetworkNamespace

    init() throws { namespace = try NetworkNamespace() }

    @discardableResult
    private func conntrack(_ arguments: String) throws -> String {
        try Command("conntrack", arguments.split(separator: " ").map(String.init)).check().text
    }

    private func count() throws -> Int { try #require(Int(conntrack("-C").prefix { $0 != "\n" })) }

    private func all(_ family: IPAddress.Family? = nil) throws -> [TrackedConnection] {
        let dump = try ConnectionDump(of: family)
        var found: [TrackedConnection] = []
        while let connection = try dump.next() { found.append(connection) }
        #expect(dump.isWhole)
        return found
    }

    private func only(_ family: IPAddress.Family? = nil) throws -> TrackedConnection {
        let found = try all(family)
        #expect(found.count == 1)
        return try #require(found.first)
    }

    /// The words of `conntrack -I` for one connection of each kind.
    private static let kinds = [
        "-s 10.0.0.1 -d 192.0.2.1 -p tcp --sport 4001 --dport 80 -t 600 --state ESTABLISHED -u SEEN_REPLY,ASSURED",
        "-s 10.0.0.1 -d 192.0.2.1 -p udp --sport 4001 --dport 53 -t 600 -m 7 -w 5",
        "-s 10.0.0.1 -d 192.0.2.1 -p icmp --icmp-type 8 --icmp-code 0 --icmp-id 77 -t 600",
        "-s 10.0.0.1 -d 192.0.2.1 -p gre --srckey 1 --dstkey 2 -t 600",
        "-s fd00::1 -d 2001:db8::1 -p tcp --sport 4001 --dport 80 -t 600 --state SYN_SENT",
        "-s fd00::1 -d 2001:db8::1 -p udp --sport 4001 --dport 53 -t 600 --orig-zone 9",
        "-s fd00::1 -d 2001:db8::1 -p udp --sport 4001 --dport 54 -t 600 --reply-zone 9",
        "-s fd00::1 -d 2001:db8::1 -p icmpv6 --icmpv6-type 128 --icmpv6-code 0 --icmpv6-id 78 -t 600",
        "-s 10.0.0.1 -d 192.0.2.1 -p 50 -t 600",
    ]

    @Test func fieldsAreAsTheyWereWritten() throws {
        try namespace.run {
            try conntrack("-I \(Self.kinds[0])")
            let tcp = try only()
            let (client, server) = (try address("10.0.0.1"), try address("192.0.2.1"))
            #expect(tcp.original.source == client && tcp.original.destination == server)
            #expect(tcp.reply.source == server && tcp.reply.destination == client)
            #expect(tcp.original.sourcePort == 4001 && tcp.original.port == 80 && tcp.reply.sourcePort == 80)
            #expect(tcp.transport == 6 && tcp.state == "established" && tcp.isAnswered && !tcp.isExpected)
            #expect((590...600).contains(tcp.timeout) && tcp.mark == 0 && tcp.zone == 0)
            try conntrack("-F")
            try conntrack("-I \(Self.kinds[1])")
            let udp = try only(.ipv4)
            #expect(udp.transport == 17 && udp.state == "new" && udp.mark == 7 && udp.tcpState == nil)
            #expect(udp.zone == 5 && udp.original.zone == 5 && udp.reply.zone == 5)
            for kind in Self.kinds[4...6] { try conntrack("-I \(kind)") }
            let six = try all(.ipv6)
            #expect(six.count == 3 && six.allSatisfy { $0.original.source.description == "fd00::1" })
            #expect(six.first { $0.transport == 6 }?.state == "syn-sent")
            #expect(six.first { $0.original.port == 53 }?.zone == 9)
            // `ct zone` of its packets is 9, and `ct original zone` 0.
            let reply = try #require(six.first { $0.original.port == 54 })
            #expect(reply.original.zone == 0 && reply.reply.zone == 9 && reply.zone == nil)
            #expect(try all().count == 4 && all(.ipv4).count == 1)
        }
    }

    @Test(arguments: kinds) func oneIsDeletedAndTheOthersAreNot(_ kind: String) throws {
        try namespace.run {
            try conntrack("-I \(kind)")
            let connection = try only()
            for other in Self.kinds where other != kind { try conntrack("-I \(other)") }
            let socket = try ConnectionSocket()
            let isDeleted = try socket.delete(connection)
            #expect(isDeleted)
            let left = try all()
            #expect(left.count == Self.kinds.count - 1 && !left.contains { $0.original == connection.original })
            let isGone = try !socket.delete(connection)
            #expect(isGone)
        }
    }

    @Test func aLaterConnectionWithTheSameTupleStays() throws {
        try namespace.run {
            try conntrack("-I \(Self.kinds[0])")
            // The kernel may give a later one the same number, so another number stands in for it.
            var earlier = try only()
            earlier.id &+= 1
            let isDeleted = try ConnectionSocket().delete(earlier)
            #expect(try !isDeleted && count() == 1)
        }
    }

    @Test func theSameTupleInAnotherZoneIsAnotherConnection() throws {
        try namespace.run {
            for zone in 1...3 { try conntrack("-I \(Self.kinds[0]) -w \(zone)") }
            try ConnectionSocket().delete(try #require(try all().first { $0.zone == 2 }))
            #expect(try Set(all().map(\.zone)) == [1, 3])
        }
    }

    /// What was not asked for is not read in advance: connections that end meanwhile are not
    /// reported.
    @Test func aDumpWaitsForItsReader() throws {
        try namespace.run {
            let socket = try ConnectionSocket()
            try Command("sh", ["-ec", Self.load(5000)]).check()
            #expect(try count() == 5000)
            let dump = try ConnectionDump()
            for _ in 0..<10 { _ = try #require(try dump.next()) }
            // Other requests go on meanwhile, over other sockets.
            let first = try #require(try dump.next())
            let isDeleted = try socket.delete(first)
            #expect(isDeleted)
            try conntrack("-F")
            var rest = 0
            while try dump.next() != nil { rest += 1 }
            // One datagram here, and one in the socket, of 32 KiB each at most.
            #expect(rest < 1000, "\(rest)")
            let isOver = try dump.next() == nil
            #expect(isOver && dump.isWhole)
        }
    }

    /// A script that writes connections with sources of their own.
    private static func load(_ count: Int) -> String {
        """
        for i in $(seq \(count)); do
            echo "-I -s 10.0.$((i / 250)).$((i % 250)) -d 192.0.2.1 -p udp --sport 4000 --dport 53 -t 600"
        done | conntrack --load-file - > /dev/null 2>&1
        """
    }
}
