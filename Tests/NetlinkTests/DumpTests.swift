import Addresses
import CMnl
import Glibc
import Processes
import Testing

@testable import Netlink

/// How a dump ends.
@Suite struct DumpTests {
    /// The far end of a socket, in the kernel's place: its messages are written before the request.
    private final class ScriptedKernel {
        let socket: RouteSocket
        private let end: Int32

        init() throws {
            var ends: [Int32] = [0, 0]
            try #require(socketpair(AF_UNIX, Int32(SOCK_SEQPACKET.rawValue), 0, &ends) == 0)
            end = ends[1]
            socket = try RouteSocket(descriptor: ends[0])
        }

        deinit { close(end) }

        /// One datagram, of one message: the answer to the first request.
        func send(_ type: Int32, flags: Int32 = NLM_F_MULTI, sequence: UInt32 = 1, payload: [UInt8]) {
            var header = nlmsghdr()
            header.nlmsg_len = UInt32(MemoryLayout<nlmsghdr>.size + payload.count)
            header.nlmsg_type = UInt16(type)
            header.nlmsg_flags = UInt16(flags)
            header.nlmsg_seq = sequence
            let bytes = withUnsafeBytes(of: header) { Array($0) } + payload
            _ = Glibc.send(end, bytes, bytes.count, 0)
        }

        func sendNeighbour(_ last: UInt8) {
            var body = ndmsg()
            body.ndm_family = UInt8(AF_INET)
            // NDA_DST
            let attribute = LinkAttribute.encode([.init(1, .bytes([192, 0, 2, last]))])
            send(Int32(RTM_NEWNEIGH), payload: withUnsafeBytes(of: body) { Array($0) } + attribute)
        }

        func sendEnd(_ code: Int32, flags: Int32 = NLM_F_MULTI, behind: [UInt8] = []) {
            send(NLMSG_DONE, flags: flags, payload: withUnsafeBytes(of: code) { Array($0) } + behind)
        }
    }

    @Test func oneThatEndsWithoutAnErrorIsWhole() throws {
        let kernel = try ScriptedKernel()
        kernel.sendNeighbour(1)
        kernel.sendNeighbour(2)
        kernel.sendEnd(0)
        #expect(try kernel.socket.neighbours().map(\.address.description) == ["192.0.2.1", "192.0.2.2"])
    }

    @Test func oneThatEndsWithAnErrorThrowsIt() throws {
        let kernel = try ScriptedKernel()
        kernel.sendNeighbour(1)
        kernel.sendEnd(-ENOMEM)
        #expect { try kernel.socket.neighbours() } throws: { ($0 as? NetlinkError)?.code == ENOMEM }
    }

    @Test func theKernelsWordsBehindTheErrorAreRead() throws {
        let kernel = try ScriptedKernel()
        let words = LinkAttribute.encode([.init(Int(NLMSGERR_ATTR_MSG.rawValue), .text("no such thing"))])
        kernel.sendEnd(-ENOENT, flags: NLM_F_MULTI | NLM_F_ACK_TLVS, behind: words)
        #expect { try kernel.socket.neighbours() } throws: { "\($0)".contains("no such thing") }
    }

    @Test func answersToAnEarlierRequestAreIgnored() throws {
        let kernel = try ScriptedKernel()
        kernel.send(NLMSG_DONE, sequence: 77, payload: [0, 0, 0, 0])
        kernel.sendNeighbour(1)
        kernel.sendEnd(0)
        #expect(try kernel.socket.neighbours().count == 1)
    }

    @Test func oneThatWasInterruptedIsRequestedAgain() throws {
        let kernel = try ScriptedKernel()
        kernel.send(NLMSG_DONE, flags: NLM_F_MULTI | NLM_F_DUMP_INTR, payload: [0, 0, 0, 0])
        kernel.send(NLMSG_DONE, sequence: 2, payload: [0, 0, 0, 0])
        #expect(try kernel.socket.neighbours().isEmpty)
    }

    @Test func aFarEndThatClosesIsAnError() throws {
        var kernel: ScriptedKernel? = try ScriptedKernel()
        let socket = try #require(kernel?.socket)
        kernel?.sendNeighbour(1)
        kernel = nil
        #expect(throws: NetlinkError.self) { try socket.neighbours() }
    }

    /// The kernel itself: it ends the dump of one family with ENOENT when the table is missing.
    @Test func aMissingTableIsAnErrorOfTheDumpAndAnEmptyTable() throws {
        let network = try TestNetwork()
        try network.run { socket in
            var body = rtmsg()
            body.rtm_family = UInt8(AF_INET)
            let message = Message(Int(RTM_GETROUTE), body, about: "the routes")
            try message.put(Int(RTA_TABLE.rawValue), UInt32(4242))
            #expect {
                try socket.dump(message) { Route($0) }
            } throws: {
                ($0 as? NetlinkError)?.code == ENOENT && "\($0)".contains("FIB table does not exist")
            }
            #expect(try socket.routes(table: 4242).isEmpty)
        }
    }

    /// A full receive buffer: the socket also receives notifications that nothing reads.
    @Test func oneThatMeetsAFullBufferIsRequestedAgain() throws {
        let network = try TestNetwork()
        try network.runWithLinks { socket, links in
            for number in 0..<2000 {
                let destination = try prefix("10.\(number / 250).\(number % 250).0/24")
                try socket.add(Route(to: destination, link: links.wan, origin: TestNetwork.origin))
            }
            let listening = try RouteSocket()
            var (size, group) = (Int32(4096), Int32(RTNLGRP_LINK.rawValue))
            let length = socklen_t(MemoryLayout<Int32>.size)
            #expect(setsockopt(listening.descriptor, SOL_SOCKET, SO_RCVBUF, &size, length) == 0)
            let level = Int32(270)  // SOL_NETLINK of linux/socket.h
            #expect(setsockopt(listening.descriptor, level, NETLINK_ADD_MEMBERSHIP, &group, length) == 0)
            for mtu in 1300..<1400 { try socket.setLink(links.wan, mtu: mtu) }
            #expect(try listening.routes(origin: TestNetwork.origin).count == 2000)
            for mtu in 1300..<1400 { try socket.setLink(links.wan, mtu: mtu) }
            #expect(try Set(listening.links().map(\.name)) == ["lo", "wan", "wan-peer", "lan", "lan-peer"])
        }
    }
}
