import CMnl
import Glibc

/// Receives notifications of changes to links, addresses, routes and policy rules, by any program.
public final class Monitor {
    public enum Change: Sendable, Hashable, CaseIterable {
        case link, address, route, rule
    }

    private let socket: OpaquePointer

    public init() throws(NetlinkError) {
        guard
            let socket = mnl_socket_open2(
                NETLINK_ROUTE, Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue))
        else { throw NetlinkError("socket(NETLINK_ROUTE)") }
        self.socket = socket
        let groups: [rtnetlink_groups] = [
            RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE,
            RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_RULE,
        ]
        let mask = groups.reduce(UInt32(0)) { $0 | 1 << ($1.rawValue - 1) }
        guard mnl_socket_bind(socket, mask, MNL_SOCKET_AUTOPID) == 0 else {
            let error = NetlinkError("bind(NETLINK_ROUTE)")
            mnl_socket_close(socket)
            throw error
        }
        var size: Int32 = 4 << 20
        setsockopt(descriptor, SOL_SOCKET, SO_RCVBUFFORCE, &size, socklen_t(MemoryLayout<Int32>.size))
    }

    deinit { mnl_socket_close(socket) }

    /// Readable when something changed.
    public var descriptor: Int32 { mnl_socket_get_fd(socket) }

    /// What changed since the last call; every kind when notifications were lost (ENOBUFS), so that
    /// the caller inspects all of them.
    public func changes() -> Set<Change> {
        var changes: Set<Change> = []
        let failure = RouteSocket.read(descriptor, wait: false) { answer in
            switch answer.type {
            case Int(RTM_NEWLINK), Int(RTM_DELLINK): changes.insert(.link)
            case Int(RTM_NEWADDR), Int(RTM_DELADDR): changes.insert(.address)
            case Int(RTM_NEWROUTE), Int(RTM_DELROUTE): changes.insert(.route)
            case Int(RTM_NEWRULE), Int(RTM_DELRULE): changes.insert(.rule)
            default: break
            }
            return true
        }
        return failure == 0 ? changes : Set(Change.allCases)
    }
}
