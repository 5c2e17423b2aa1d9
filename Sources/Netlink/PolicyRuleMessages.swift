import Addresses
import CMnl
import Glibc

extension PolicyRule {
    /// What FRA_SUPPRESS_PREFIXLEN holds in a rule that suppresses nothing: -1.
    private static let suppressesNothing = Int(UInt32.max)

    init?(_ answer: Answer) {
        guard answer.type == Int(RTM_NEWRULE) else { return nil }
        let body = answer.body(fib_rule_hdr.self)
        guard body.family == UInt8(AF_INET) || body.family == UInt8(AF_INET6),
            let action = Action(rawValue: body.action)
        else { return nil }
        let attributes = answer.attributes(behind: fib_rule_hdr.self)
        func prefix(_ type: Int, _ length: UInt8) -> IPPrefix? {
            attributes[type]?.address.flatMap { IPPrefix($0, length: Int(length)) }
        }
        func number(_ type: Int) -> UInt32? {
            attributes[type].map { UInt32(truncatingIfNeeded: $0.number) }
        }
        // struct fib_rule_uid_range, struct fib_rule_port_range: first and last.
        func range<Number: FixedWidthInteger>(_ type: Int) -> ClosedRange<Number>? {
            guard let bytes = attributes[type]?.bytes, bytes.count == 2 * MemoryLayout<Number>.size else { return nil }
            let ends = bytes.withUnsafeBytes {
                [
                    $0.loadUnaligned(as: Number.self),
                    $0.loadUnaligned(fromByteOffset: MemoryLayout<Number>.size, as: Number.self),
                ]
            }
            return ends[0] <= ends[1] ? ends[0]...ends[1] : nil
        }
        // Not by the public initialiser: a rule of another program is kept as it is, so that the
        // request for its removal names exactly this one.
        self.init(family: body.family == UInt8(AF_INET) ? .ipv4 : .ipv6, priority: 0)
        self.action = action
        priority = attributes[Int(FRA_PRIORITY)]?.number ?? 0
        table = attributes[Int(FRA_TABLE)]?.number ?? Int(body.table)
        source = prefix(Int(FRA_SRC), body.src_len)
        destination = prefix(Int(FRA_DST), body.dst_len)
        mark = number(Int(FRA_FWMARK))
        markMask = number(Int(FRA_FWMASK))
        interface = attributes[Int(FRA_IIFNAME)]?.text
        outputInterface = attributes[Int(FRA_OIFNAME)]?.text
        isL3mdev = (number(Int(FRA_L3MDEV)) ?? 0) != 0
        suppressedPrefixLength = attributes[Int(FRA_SUPPRESS_PREFIXLEN)].flatMap {
            $0.number == Self.suppressesNothing ? nil : $0.number
        }
        transport = attributes[Int(FRA_IP_PROTO)]?.bytes.first
        sourcePorts = range(Int(FRA_SPORT_RANGE))
        destinationPorts = range(Int(FRA_DPORT_RANGE))
        users = range(Int(FRA_UID_RANGE))
        isInverted = body.flags & UInt32(FIB_RULE_INVERT) != 0
        origin = attributes[Int(FRA_PROTOCOL)]?.bytes.first ?? 0
    }

    private func message(_ type: Int, flags: Int32) throws(NetlinkError) -> Message {
        var body = fib_rule_hdr()
        body.family = UInt8(family.number)
        body.action = action.rawValue
        body.flags = isInverted ? UInt32(FIB_RULE_INVERT) : 0
        body.src_len = UInt8(source?.length ?? 0)
        body.dst_len = UInt8(destination?.length ?? 0)
        let isDeletion = type == Int(RTM_DELRULE)
        let message = Message(type, flags: flags, body, about: isDeletion ? "the removal of \(subject)" : subject)
        func put(_ type: Int, _ range: ClosedRange<some FixedWidthInteger>?) throws(NetlinkError) {
            guard let range else { return }
            try message.put(type, [range.lowerBound, range.upperBound].withUnsafeBytes { Array($0) })
        }
        try message.put(Int(FRA_PRIORITY), UInt32(clamping: priority))
        try message.put(Int(FRA_TABLE), UInt32(clamping: table))
        if let source, source.length > 0 { try message.put(Int(FRA_SRC), source.address.bytes) }
        if let destination, destination.length > 0 { try message.put(Int(FRA_DST), destination.address.bytes) }
        if let mark { try message.put(Int(FRA_FWMARK), mark) }
        if let markMask { try message.put(Int(FRA_FWMASK), markMask) }
        if let interface { try message.put(Int(FRA_IIFNAME), interface) }
        if let outputInterface { try message.put(Int(FRA_OIFNAME), outputInterface) }
        if isL3mdev { try message.put(Int(FRA_L3MDEV), UInt8(1)) }
        if let suppressedPrefixLength {
            try message.put(Int(FRA_SUPPRESS_PREFIXLEN), UInt32(clamping: suppressedPrefixLength))
        }
        if let transport { try message.put(Int(FRA_IP_PROTO), transport) }
        try put(Int(FRA_SPORT_RANGE), sourcePorts)
        try put(Int(FRA_DPORT_RANGE), destinationPorts)
        try put(Int(FRA_UID_RANGE), users)
        if origin != 0 { try message.put(Int(FRA_PROTOCOL), origin) }
        return message
    }

    private var subject: String {
        "the policy rule \(priority)" + (action == .lookup && !isL3mdev ? " to table \(table)" : "")
    }

    func addition(isExclusive: Bool) throws(NetlinkError) -> Message {
        try normalForm.message(Int(RTM_NEWRULE), flags: NLM_F_CREATE | (isExclusive ? NLM_F_EXCL : 0))
    }

    func removal() throws(NetlinkError) -> Message { try message(Int(RTM_DELRULE), flags: 0) }

    /// True when the kernel takes a request to remove this rule for one to remove `other`: what the
    /// request does not name, it does not compare (`rule_find` of net/core/fib_rules.c).
    func selects(_ other: PolicyRule) -> Bool {
        func agrees<Value: Equatable>(_ wanted: Value?, _ present: Value?) -> Bool {
            wanted == nil || wanted == present
        }
        return family == other.family && action == other.action && priority == other.priority
            && (table == 0 || table == other.table) && (origin == 0 || origin == other.origin)
            && agrees(source, other.source) && agrees(destination, other.destination) && agrees(mark, other.mark)
            && agrees(markMask, other.markMask) && agrees(interface, other.interface)
            && agrees(outputInterface, other.outputInterface) && (!isL3mdev || other.isL3mdev)
            && agrees(suppressedPrefixLength, other.suppressedPrefixLength) && agrees(transport, other.transport)
            && agrees(sourcePorts, other.sourcePorts) && agrees(destinationPorts, other.destinationPorts)
            && agrees(users, other.users)
    }
}

extension RouteSocket {
    /// The policy rules of both families, those of lower priority first.
    ///
    /// - Parameter origin: only those of a program, by its RTPROT_* number; nil for all.
    public func policyRules(origin: UInt8? = nil) throws(NetlinkError) -> [PolicyRule] {
        try dump(Message(Int(RTM_GETRULE), fib_rule_hdr(), about: "the policy rules")) { answer in
            PolicyRule(answer).flatMap { origin == nil || $0.origin == origin ? $0 : nil }
        }
    }

    /// Adds a rule in its normal form. A rule that exists is no error and is not doubled.
    ///
    /// The kernel's NLM_F_EXCL does not compare the origin, so that it refuses a rule (EEXIST) that
    /// differs from another program's by nothing else. This one is then added beside it: without
    /// it, a caller who looks for its own origin would find the rule missing for ever.
    public func add(_ rule: PolicyRule) throws(NetlinkError) {
        do {
            try change(try rule.addition(isExclusive: true))
        } catch {
            guard error.code == EEXIST else { throw error }
            let isPresent = try policyRules().contains(rule.normalForm)
            if !isPresent { try change(try rule.addition(isExclusive: false)) }
        }
    }

    /// Removes this rule, and no other that a less exact match would take first.
    ///
    /// The kernel removes the first rule that has all that the request names. A rule of the same
    /// priority and table that names more may stand before this one: it goes first, and is added
    /// again behind. Throws ENOENT when the rule does not exist.
    public func delete(_ rule: PolicyRule) throws(NetlinkError) {
        let candidates = try policyRules().filter { rule.selects($0) }
        guard let position = candidates.firstIndex(of: rule) ?? candidates.firstIndex(of: rule.normalForm) else {
            var error = try removalError(rule)
            error.message = error.message ?? "no such rule"
            throw error
        }
        for _ in 0...position { try change(try rule.removal()) }
        for other in candidates[..<position] { try change(try other.addition(isExclusive: false)) }
    }

    private func removalError(_ rule: PolicyRule) throws(NetlinkError) -> NetlinkError {
        NetlinkError(try rule.removal().subject, code: ENOENT)
    }
}
