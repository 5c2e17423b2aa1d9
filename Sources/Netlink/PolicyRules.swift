import Addresses
import CMnl
import Glibc

/// A policy rule: which routing table packets are looked up in (RTM_NEWRULE, ip-rule(8)).
public struct PolicyRule: Sendable, Hashable {
    /// What happens to packets that match (FR_ACT_* of linux/fib_rules.h).
    public enum Action: UInt8, Sendable, CaseIterable {
        /// Looked up in `table`.
        case lookup = 1
        /// Continues with another rule. Only read: the target is not kept.
        case goto = 2
        /// Continues with the next rule.
        case nothing = 3
        /// Dropped.
        case blackhole = 6
        /// Dropped, and answered with "network unreachable".
        case unreachable = 7
        /// Dropped, and answered with "administratively prohibited".
        case prohibit = 8
    }

    public var family: IPAddress.Family
    /// The lower one is asked first. Rules of one priority have no order that can be relied on.
    public var priority: Int
    /// The number of the table of `lookup`; 0 for another action and for `isL3mdev`.
    public var table: Int
    public var action: Action
    public var source: IPPrefix?
    public var destination: IPPrefix?
    /// The packet mark that is compared under `markMask`; nil for 0.
    public var mark: UInt32?
    /// Nil, of a rule in its normal form: the mark is not compared.
    public var markMask: UInt32?
    /// The name of the link that packets came by; `lo` for those of the box itself (FRA_IIFNAME).
    public var interface: String?
    /// The name of the link that packets of a bound socket leave by (FRA_OIFNAME).
    public var outputInterface: String?
    /// Looks up in the table of the VRF that the packet belongs to (FRA_L3MDEV).
    public var isL3mdev: Bool
    /// Ignores routes whose prefix is of this length or shorter; 0 ignores default routes.
    public var suppressedPrefixLength: Int?
    /// The IANA number of the transport protocol.
    public var transport: UInt8?
    /// 1 through 65534; the kernel refuses others (EINVAL).
    public var sourcePorts: ClosedRange<UInt16>?
    /// 1 through 65534; the kernel refuses others (EINVAL).
    public var destinationPorts: ClosedRange<UInt16>?
    /// User ids of the sockets of the box itself, as the user namespace of the caller counts them.
    public var users: ClosedRange<UInt32>?
    /// Matches packets that do not match the rest (FIB_RULE_INVERT).
    public var isInverted: Bool
    /// Which program made it: RTPROT_*.
    public var origin: UInt8

    /// A rule in its normal form: what no kernel tells apart is equal.
    ///
    /// - Parameters:
    ///   - mark: a mark without a mask is compared whole, also 0.
    ///   - markMask: a mask without a mark compares with 0.
    public init(
        family: IPAddress.Family, priority: Int, table: Int = 0, source: IPPrefix? = nil,
        destination: IPPrefix? = nil, mark: UInt32? = nil, markMask: UInt32? = nil, interface: String? = nil,
        origin: UInt8 = 0, action: Action = .lookup, outputInterface: String? = nil, isL3mdev: Bool = false,
        suppressedPrefixLength: Int? = nil, transport: UInt8? = nil, sourcePorts: ClosedRange<UInt16>? = nil,
        destinationPorts: ClosedRange<UInt16>? = nil, users: ClosedRange<UInt32>? = nil, isInverted: Bool = false
    ) {
        self.family = family
        self.priority = priority
        self.table = table
        self.action = action
        self.source = source
        self.destination = destination
        self.mark = mark
        self.markMask = markMask
        self.interface = interface
        self.outputInterface = outputInterface
        self.isL3mdev = isL3mdev
        self.suppressedPrefixLength = suppressedPrefixLength
        self.transport = transport
        self.sourcePorts = sourcePorts
        self.destinationPorts = destinationPorts
        self.users = users
        self.isInverted = isInverted
        self.origin = origin
        self = normalForm
    }

    /// The rule in the form in which the kernel reports it after it was added: equal to what
    /// `policyRules()` reads.
    ///
    /// - Prefixes have no bits beyond their length; one of length 0 is none.
    /// - The mark has no bits beyond its mask. The kernel reports a mark of 0 by its mask alone,
    ///   and a mask of 0 compares nothing (`fib_nl_fill_rule` of net/core/fib_rules.c).
    /// - Only `lookup` without `isL3mdev` has a table, only `lookup` suppresses prefixes.
    /// - Transport 0, an empty name, and all ports or users are none.
    public var normalForm: PolicyRule {
        var rule = self
        rule.source = source.flatMap { $0.length > 0 ? $0.network : nil }
        rule.destination = destination.flatMap { $0.length > 0 ? $0.network : nil }
        let mask = markMask ?? (mark == nil ? 0 : .max)
        let value = (mark ?? 0) & mask
        rule.mark = value == 0 ? nil : value
        rule.markMask = mask == 0 ? nil : mask
        if action != .lookup {
            rule.isL3mdev = false
            rule.suppressedPrefixLength = nil
        }
        if action != .lookup || isL3mdev { rule.table = 0 }
        if interface == "" { rule.interface = nil }
        if outputInterface == "" { rule.outputInterface = nil }
        if transport == 0 { rule.transport = nil }
        if sourcePorts == 0...UInt16.max { rule.sourcePorts = nil }
        if destinationPorts == 0...UInt16.max { rule.destinationPorts = nil }
        if users == 0...UInt32.max { rule.users = nil }
        return rule
    }
}
