import Addresses
import CMnl
import Glibc

/// A policy rule: which routing table packets are looked up in.
public struct PolicyRule: Sendable, Hashable {
    public var family: IPAddress.Family
    /// The lower one is asked first.
    public var priority: Int
    public var table: Int
    public var source: IPPrefix?
    public var destination: IPPrefix?
    public var mark: UInt32?
    public var markMask: UInt32?
    /// The link that packets came by.
    public var interface: String?
    /// Who made it: RTPROT_*.
    public var origin: UInt8

    public init(
        family: IPAddress.Family, priority: Int, table: Int, source: IPPrefix? = nil, destination: IPPrefix? = nil,
        mark: UInt32? = nil, markMask: UInt32? = nil, interface: String? = nil, origin: UInt8 = 0
    ) {
        self.family = family
        self.priority = priority
        self.table = table
        self.source = source
        self.destination = destination
        self.mark = mark
        self.markMask = markMask
        self.interface = interface
        self.origin = origin
    }

    init?(_ answer: Answer) {
        guard answer.type == Int(RTM_NEWRULE) else { return nil }
        let body = answer.body(fib_rule_hdr.self)
        guard body.family == UInt8(AF_INET) || body.family == UInt8(AF_INET6),
            body.action == UInt8(FR_ACT_TO_TBL)
        else { return nil }
        let attributes = answer.attributes(behind: fib_rule_hdr.self)
        func prefix(_ attribute: UInt32, _ length: UInt8) -> IPPrefix? {
            attributes[Int(attribute)]?.address.flatMap { IPPrefix($0, length: Int(length)) }
        }
        family = body.family == UInt8(AF_INET) ? .ipv4 : .ipv6
        priority = attributes[Int(FRA_PRIORITY)]?.number ?? 0
        table = attributes[Int(FRA_TABLE)]?.number ?? Int(body.table)
        source = prefix(UInt32(FRA_SRC), body.src_len)
        destination = prefix(UInt32(FRA_DST), body.dst_len)
        mark = attributes[Int(FRA_FWMARK)].map { UInt32(truncatingIfNeeded: $0.number) }
        markMask = attributes[Int(FRA_FWMASK)].map { UInt32(truncatingIfNeeded: $0.number) }
        interface = attributes[Int(FRA_IIFNAME)]?.text
        origin = attributes[Int(FRA_PROTOCOL)]?.bytes.first ?? 0
    }

    func message(_ type: Int, flags: Int32) -> Message {
        var body = fib_rule_hdr()
        body.family = UInt8(family.number)
        body.action = UInt8(FR_ACT_TO_TBL)
        body.src_len = UInt8(source?.length ?? 0)
        body.dst_len = UInt8(destination?.length ?? 0)
        let message = Message(type, flags: flags, body)
        message.put(Int(FRA_PRIORITY), UInt32(clamping: priority))
        message.put(Int(FRA_TABLE), UInt32(clamping: table))
        if let source { message.put(Int(FRA_SRC), source.address.bytes) }
        if let destination { message.put(Int(FRA_DST), destination.address.bytes) }
        if let mark { message.put(Int(FRA_FWMARK), mark) }
        if let markMask { message.put(Int(FRA_FWMASK), markMask) }
        if let interface { message.put(Int(FRA_IIFNAME), interface) }
        if origin != 0 { message.put(Int(FRA_PROTOCOL), origin) }
        return message
    }
}

extension RouteSocket {
    /// The policy rules of both families.
    public func policyRules() throws(NetlinkError) -> [PolicyRule] {
        try dump({ Message(Int(RTM_GETRULE), fib_rule_hdr()) }, "the policy rules") { PolicyRule($0) }
    }

    public func add(_ rule: PolicyRule) throws(NetlinkError) {
        try change(
            rule.message(Int(RTM_NEWRULE), flags: NLM_F_CREATE | NLM_F_EXCL),
            "the policy rule \(rule.priority) to table \(rule.table)")
    }

    public func delete(_ rule: PolicyRule) throws(NetlinkError) {
        try change(
            rule.message(Int(RTM_DELRULE), flags: 0),
            "the end of the policy rule \(rule.priority) to table \(rule.table)")
    }
}
