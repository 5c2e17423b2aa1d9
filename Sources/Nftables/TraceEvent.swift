import CMnl
import CNftables
import Glibc

/// A rule of a table as the kernel holds it.
public struct PlacedRule: Sendable, Hashable {
    public var chain: String
    /// Its origin.
    public var comment: String?
}

/// One step of a packet that is traced.
public struct TraceEvent: Sendable, Hashable {
    /// What the step was.
    public enum Kind: UInt32, Sendable {
        /// The end of a base chain.
        case policy = 1
        /// The end of another chain.
        case `return`, rule
    }

    /// The same for all steps of one packet.
    public var packet: UInt32
    public var kind: Kind
    public var table: String
    public var chain: String
    /// Of the rule; 0 for a step that is none.
    public var rule: UInt64
    /// `accept`, `drop`, `jump CHAIN` …
    public var verdict: String
    /// Numbers of links; 0 for none.
    public var input: UInt32
    public var output: UInt32
    /// The packet's headers, as far as the kernel tells; with its first step only.
    public var network: [UInt8]
    public var transport: [UInt8]
}

/// Hears of the steps of packets that are traced.
public final class TraceListener {
    private let socket: OpaquePointer

    public init() throws(NftablesError) {
        let flags = Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
        guard let socket = mnl_socket_open2(NETLINK_NETFILTER, flags) else {
            throw NftablesError(call: "socket(NETLINK_NETFILTER)")
        }
        self.socket = socket
        guard mnl_socket_bind(socket, 1 << (NFNLGRP_NFTRACE.rawValue - 1), MNL_SOCKET_AUTOPID) == 0 else {
            let error = NftablesError(call: "bind(NFNLGRP_NFTRACE)")
            mnl_socket_close(socket)
            throw error
        }
        var size: Int32 = 8 << 20
        setsockopt(descriptor, SOL_SOCKET, SO_RCVBUFFORCE, &size, socklen_t(MemoryLayout<Int32>.size))
    }

    deinit { mnl_socket_close(socket) }

    /// Readable when there are steps.
    public var descriptor: Int32 { mnl_socket_get_fd(socket) }

    /// The steps since the last call, in their order, at most some thousands. What came too fast is lost.
    public func events() -> [TraceEvent] {
        var events: [TraceEvent] = []
        Connection.receive(from: descriptor, wait: false) { message in
            if let event = Self.event(message) { events.append(event) }
            return events.count < 4096
        }
        return events
    }

    private static func event(_ header: UnsafePointer<nlmsghdr>) -> TraceEvent? {
        guard header.pointee.nlmsg_type & 0xFF == UInt16(NFT_MSG_TRACE.rawValue), let trace = nftnl_trace_alloc() else {
            return nil
        }
        defer { nftnl_trace_free(trace) }
        guard nftnl_trace_nlmsg_parse(header, trace) == 0 else { return nil }
        func key(_ attribute: nftnl_trace_attr) -> UInt16 { UInt16(attribute.rawValue) }
        func number(_ attribute: nftnl_trace_attr) -> UInt32 {
            nftnl_trace_is_set(trace, key(attribute)) ? nftnl_trace_get_u32(trace, key(attribute)) : 0
        }
        func text(_ attribute: nftnl_trace_attr) -> String {
            nftnl_trace_get_str(trace, key(attribute)).map { String(cString: $0) } ?? ""
        }
        func bytes(_ attribute: nftnl_trace_attr) -> [UInt8] {
            var length: UInt32 = 0
            guard let data = nftnl_trace_get_data(trace, key(attribute), &length) else { return [] }
            return Array(UnsafeRawBufferPointer(start: data, count: Int(length)))
        }
        guard let kind = TraceEvent.Kind(rawValue: number(NFTNL_TRACE_TYPE)) else { return nil }
        let isPolicy = kind == .policy
        let verdict = Int32(bitPattern: number(isPolicy ? NFTNL_TRACE_POLICY : NFTNL_TRACE_VERDICT))
        let words: String =
            switch verdict {
            case NF_ACCEPT: "accept"
            case NF_DROP: "drop"
            case NFT_JUMP.rawValue: "jump \(text(NFTNL_TRACE_JUMP_TARGET))"
            case NFT_GOTO.rawValue: "goto \(text(NFTNL_TRACE_JUMP_TARGET))"
            case NFT_RETURN.rawValue: "return"
            case NFT_CONTINUE.rawValue, NFT_BREAK.rawValue: "continue"
            default: verdict & 0xFF == 3 ? "queue" : "verdict \(verdict)"
            }
        let handle = key(NFTNL_TRACE_RULE_HANDLE)
        return TraceEvent(
            packet: number(NFTNL_TRACE_ID), kind: kind, table: text(NFTNL_TRACE_TABLE), chain: text(NFTNL_TRACE_CHAIN),
            rule: nftnl_trace_is_set(trace, handle) ? nftnl_trace_get_u64(trace, handle) : 0, verdict: words,
            input: number(NFTNL_TRACE_IIF), output: number(NFTNL_TRACE_OIF),
            network: bytes(NFTNL_TRACE_NETWORK_HEADER), transport: bytes(NFTNL_TRACE_TRANSPORT_HEADER))
    }
}

extension Connection {
    /// The rules of a table of the family `inet`, by their handles.
    public func rules(table: String) throws(NftablesError) -> [UInt64: PlacedRule] {
        var result: [UInt64: PlacedRule] = [:]
        try dump(NFT_MSG_GETRULE) { header in
            mnl_attr_put_strz(header, UInt16(NFTA_RULE_TABLE.rawValue), table)
        } _: { header in
            guard let rule = nftnl_rule_alloc() else { return }
            defer { nftnl_rule_free(rule) }
            guard nftnl_rule_nlmsg_parse(header, rule) == 0,
                nftnl_rule_get_u32(rule, UInt16(NFTNL_RULE_FAMILY.rawValue)) == UInt32(NFPROTO_INET),
                let chain = nftnl_rule_get_str(rule, UInt16(NFTNL_RULE_CHAIN.rawValue))
            else { return }
            var length: UInt32 = 0
            let data = nftnl_rule_get_data(rule, UInt16(NFTNL_RULE_USERDATA.rawValue), &length)
            let comment = data.flatMap {
                UserData.comment(in: Array(UnsafeRawBufferPointer(start: $0, count: Int(length))))
            }
            result[nftnl_rule_get_u64(rule, UInt16(NFTNL_RULE_HANDLE.rawValue))] = PlacedRule(
                chain: String(cString: chain), comment: comment)
        } restart: {
            result = [:]
        }
        return result
    }
}
