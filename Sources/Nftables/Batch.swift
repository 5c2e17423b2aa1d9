import CNftables
import CMnl
import Glibc
import Ruleset

/// Commands for one table, sent to the kernel as one transaction: all of them take effect, or none.
///
/// Commands are buffered as netlink messages; ``Connection/commit(_:expecting:)`` sends them. Each keeps whose it is, so
/// that an error of the kernel names the object and who wanted it.
public struct Batch {
    /// The table of all objects.
    public let table: String
    public let family: TableFamily
    private(set) var bytes: [UInt8] = []
    /// What each message is about, by its sequence number; number 0 is the batch itself.
    private(set) var subjects = ["the batch"]
    /// The first message that could not be made for want of memory: the batch is incomplete, and is never sent.
    private(set) var missing: NftablesError.Refusal?
    private var nextSetID: UInt32 = 1
    /// What maps hold, by their names: those of this batch, and those that stand in the table already.
    private var contents: [String: NamedSet.Content]
    /// Longer messages do not exist: attributes end at 64 KiB, and ``Bounds`` keep rules shorter.
    private let scratch = Scratch(capacity: 1 << 18)

    /// - Parameter sets: that stand in the table, as far as rules of this batch translate by them.
    public init(table: String, family: TableFamily = .inet, sets: some Sequence<NamedSet> = []) {
        (self.table, self.family) = (table, family)
        contents = Dictionary(sets.lazy.filter { $0.content != .members }.map { ($0.name, $0.content) }) { $1 }
    }

    public var isEmpty: Bool { subjects.count == 1 }

    private final class Scratch {
        let buffer: UnsafeMutablePointer<CChar>
        init(capacity: Int) { buffer = .allocate(capacity: capacity) }
        deinit { buffer.deallocate() }
    }

    /// Appends a message that `body` fills.
    private mutating func message(
        _ type: nf_tables_msg_types, flags: Int32 = 0, _ subject: String,
        _ body: (UnsafeMutablePointer<nlmsghdr>) -> Void
    ) {
        let sequence = UInt32(subjects.count)
        subjects.append(subject)
        guard
            let header = nftnl_nlmsg_build_hdr(
                scratch.buffer, UInt16(type.rawValue), UInt16(family.number), UInt16(flags), sequence)
        else { return miss(subject) }
        body(header)
        let length = Int(header.pointee.nlmsg_len)
        bytes.append(contentsOf: UnsafeRawBufferPointer(start: scratch.buffer, count: length))
    }

    /// Notes that a message could not be made.
    mutating func miss(_ subject: String) {
        if missing == nil { missing = .init(subject: subject, code: ENOMEM, message: "libnftnl could not allocate it") }
    }

    /// What libnftnl has made; nil, and the batch incomplete, when there was no memory for it.
    private mutating func made(_ object: OpaquePointer?, _ subject: String) -> OpaquePointer? {
        if object == nil { miss(subject) }
        return object
    }

    /// - Throws: when this or an earlier message could not be made.
    private func complete() throws(UnsupportedRuleset) {
        if let missing { throw UnsupportedRuleset("\(missing.subject): no memory is left") }
    }

    // MARK: - Tables

    /// Flags of a table (`NFT_TABLE_F_*`).
    public struct TableFlags: OptionSet, Sendable {
        public let rawValue: UInt32
        public init(rawValue: UInt32) { self.rawValue = rawValue }
        /// Only the socket that made it may change it.
        public static let owner = TableFlags(rawValue: 2)
        /// It outlives that socket, and waits for the next.
        public static let persist = TableFlags(rawValue: 4)
    }

    /// Makes the table, or takes it over with the flags `owner` and `persist`.
    public mutating func addTable(_ flags: TableFlags = []) {
        guard let object = made(nftnl_table_alloc(), "table \(table)") else { return }
        defer { nftnl_table_free(object) }
        nftnl_table_set_str(object, UInt16(NFTNL_TABLE_NAME.rawValue), table)
        if !flags.isEmpty { nftnl_table_set_u32(object, UInt16(NFTNL_TABLE_FLAGS.rawValue), flags.rawValue) }
        message(NFT_MSG_NEWTABLE, flags: NLM_F_CREATE, "table \(table)") { nftnl_table_nlmsg_build_payload($0, object) }
    }

    // MARK: - Chains

    /// Makes a chain, without its rules; one that is there already, as it is described, stays.
    public mutating func add(_ chain: Chain) throws(UnsupportedRuleset) {
        try Bounds.check(name: chain.name)
        withChain(chain, NFT_MSG_NEWCHAIN, NLM_F_CREATE)
        try complete()
    }

    /// Takes a chain away; nothing may lead there any more.
    public mutating func deleteChain(_ name: String) { withChain(Chain(name), NFT_MSG_DELCHAIN, 0) }

    private mutating func withChain(_ chain: Chain, _ type: nf_tables_msg_types, _ flags: Int32) {
        guard let object = made(nftnl_chain_alloc(), "chain \(chain.name)") else { return }
        defer { nftnl_chain_free(object) }
        nftnl_chain_set_str(object, UInt16(NFTNL_CHAIN_TABLE.rawValue), table)
        nftnl_chain_set_str(object, UInt16(NFTNL_CHAIN_NAME.rawValue), chain.name)
        if let hook = chain.hook {
            nftnl_chain_set_str(object, UInt16(NFTNL_CHAIN_TYPE.rawValue), hook.kind.rawValue)
            nftnl_chain_set_u32(object, UInt16(NFTNL_CHAIN_HOOKNUM.rawValue), hook.point.number(in: family))
            nftnl_chain_set_s32(object, UInt16(NFTNL_CHAIN_PRIO.rawValue), Int32(truncatingIfNeeded: hook.priority))
            nftnl_chain_set_u32(object, UInt16(NFTNL_CHAIN_POLICY.rawValue), hook.policy == .accept ? 1 : 0)
            if let device = hook.device { nftnl_chain_set_str(object, UInt16(NFTNL_CHAIN_DEV.rawValue), device) }
        }
        message(type, flags: flags, "chain \(chain.name)") { nftnl_chain_nlmsg_build_payload($0, object) }
    }

    /// Takes all rules out of a chain; named counters and sets keep what they hold.
    public mutating func flushChain(_ name: String) {
        guard let object = made(nftnl_rule_alloc(), "the rules of chain \(name)") else { return }
        defer { nftnl_rule_free(object) }
        nftnl_rule_set_str(object, UInt16(NFTNL_RULE_TABLE.rawValue), table)
        nftnl_rule_set_str(object, UInt16(NFTNL_RULE_CHAIN.rawValue), name)
        message(NFT_MSG_DELRULE, "the rules of chain \(name)") { nftnl_rule_nlmsg_build_payload($0, object) }
    }

    // MARK: - Rules

    /// Appends a rule to a chain, and what sets without a name it needs.
    ///
    /// - Throws: ``UnsupportedRuleset`` for what this model or the kernel's does not have; the batch is of no use then.
    public mutating func add(_ rule: Rule, to chain: String) throws(UnsupportedRuleset) {
        guard let object = nftnl_rule_alloc() else { throw UnsupportedRuleset("no memory is left") }
        defer { nftnl_rule_free(object) }
        nftnl_rule_set_str(object, UInt16(NFTNL_RULE_TABLE.rawValue), table)
        nftnl_rule_set_str(object, UInt16(NFTNL_RULE_CHAIN.rawValue), chain)
        nftnl_rule_set_u32(object, UInt16(NFTNL_RULE_FAMILY.rawValue), family.number)
        try Bounds.check(name: chain)
        let subject = "a rule of chain \(chain)" + (rule.comment.map { " (\($0))" } ?? "")
        var sets: [(NamedSet, UInt32)] = []
        var next = nextSetID
        let contents = contents
        var program = RuleProgram(
            rule: object, family: family,
            makeSet: { (set: NamedSet) throws(UnsupportedRuleset) -> (name: String, id: UInt32) in
                sets.append((set, next))
                next += 1
                return (set.name, next - 1)
            }, contents: { contents[$0] })
        do throws(UnsupportedRuleset) {
            for statement in rule.statements { try program.add(statement) }
            nextSetID = next
            for (set, id) in sets { try add(set, id: id, subject: "a set of \(subject)") }
        } catch {
            throw UnsupportedRuleset("\(subject): \(error)")
        }
        if let comment = rule.comment {
            var data = UserData()
            data.put(comment: comment)
            nftnl_rule_set_data(
                object, UInt16(NFTNL_RULE_USERDATA.rawValue), data.bytes, UInt32(data.bytes.count))
        }
        message(NFT_MSG_NEWRULE, flags: NLM_F_CREATE | NLM_F_APPEND, subject) {
            nftnl_rule_nlmsg_build_payload($0, object)
        }
        try complete()
    }

    /// Makes a chain with all its rules; what rules it had are taken out first.
    public mutating func replace(_ chain: Chain) throws(UnsupportedRuleset) {
        try add(chain)
        flushChain(chain.name)
        for rule in chain.rules { try add(rule, to: chain.name) }
    }

    // MARK: - Sets

    /// Makes a set or a verdict map with its elements.
    public mutating func add(_ set: NamedSet) throws(UnsupportedRuleset) {
        let id = nextSetID
        nextSetID += 1
        contents[set.name] = set.content
        try add(set, id: id, subject: "set \(set.name)")
    }

    public mutating func deleteSet(_ name: String) {
        guard let object = made(nftnl_set_alloc(), "set \(name)") else { return }
        defer { nftnl_set_free(object) }
        nftnl_set_set_str(object, UInt16(NFTNL_SET_TABLE.rawValue), table)
        nftnl_set_set_str(object, UInt16(NFTNL_SET_NAME.rawValue), name)
        message(NFT_MSG_DELSET, "set \(name)") { nftnl_set_nlmsg_build_payload($0, object) }
    }

    private mutating func add(_ set: NamedSet, id: UInt32, subject: String) throws(UnsupportedRuleset) {
        try Bounds.check(set)
        guard let object = nftnl_set_alloc() else { throw UnsupportedRuleset("no memory is left") }
        defer { nftnl_set_free(object) }
        let isAnonymous = set.name.hasSuffix("%d")
        let isConcatenation = set.key.count > 1
        // NFT_SET_*, the last two known to the kernel by their numbers only.
        var flags: UInt32 = isAnonymous ? 1 : 0
        if set.flags.contains(.constant) { flags |= 2 }
        if set.flags.contains(.interval) { flags |= 4 }
        switch set.content {
        case .members: break
        case .verdicts, .values, .ranges: flags |= 8
        case .counters: flags |= 0x40
        }
        if set.flags.contains(.timeout) || set.timeout != nil { flags |= 0x10 }
        if set.flags.contains(.dynamic) { flags |= 0x20 }
        if isConcatenation, set.flags.contains(.interval) { flags |= 0x80 }
        func u32(_ attribute: nftnl_set_attr, _ value: UInt32) {
            nftnl_set_set_u32(object, UInt16(attribute.rawValue), value)
        }
        nftnl_set_set_str(object, UInt16(NFTNL_SET_TABLE.rawValue), table)
        nftnl_set_set_str(object, UInt16(NFTNL_SET_NAME.rawValue), set.name)
        u32(NFTNL_SET_FAMILY, family.number)
        u32(NFTNL_SET_FLAGS, flags)
        u32(NFTNL_SET_KEY_TYPE, set.keyType)
        u32(NFTNL_SET_KEY_LEN, UInt32(set.keyLength))
        u32(NFTNL_SET_ID, id)
        var data = UserData()
        data.put(0, isConcatenation ? 0 : set.key.first?.byteOrder.rawValue ?? 0)
        switch set.content {
        case .members: break
        case .verdicts:
            // NFT_DATA_VERDICT
            u32(NFTNL_SET_DATA_TYPE, 0xFFFF_FF00)
            u32(NFTNL_SET_DATA_LEN, 0)
            data.put(1, 0)
        case .counters: u32(NFTNL_SET_OBJ_TYPE, UInt32(NFT_OBJECT_COUNTER))
        case .values(let types), .ranges(let types):
            let values = NamedSet("", key: types)
            var isRange = false
            if case .ranges = set.content { isRange = true }
            u32(NFTNL_SET_DATA_TYPE, values.keyType)
            u32(NFTNL_SET_DATA_LEN, UInt32(isRange ? 2 * values.paddedKeyLength : values.keyLength))
            data.put(1, types.count > 1 ? 0 : types.first?.byteOrder.rawValue ?? 0)
            if isRange { data.put(6, 1) }
        }
        let lowered = try set.lower(set.elements)
        if isAnonymous { u32(NFTNL_SET_DESC_SIZE, UInt32(set.elements.count)) }
        if let size = set.size { u32(NFTNL_SET_DESC_SIZE, UInt32(clamping: size)) }
        if isConcatenation, set.flags.contains(.interval) {
            let lengths = set.key.map { UInt8($0.length) }
            nftnl_set_set_data(object, UInt16(NFTNL_SET_DESC_CONCAT.rawValue), lengths, UInt32(lengths.count))
        }
        if let timeout = set.timeout {
            nftnl_set_set_u64(object, UInt16(NFTNL_SET_TIMEOUT.rawValue), UInt64(timeout) * 1000)
        }
        nftnl_set_set_data(object, UInt16(NFTNL_SET_USERDATA.rawValue), data.bytes, UInt32(data.bytes.count))
        message(NFT_MSG_NEWSET, flags: NLM_F_CREATE, subject) { nftnl_set_nlmsg_build_payload($0, object) }
        try put(lowered, set: set.name, id: id, NFT_MSG_NEWSETELEM, subject)
    }

    /// Puts elements into a set that is there.
    public mutating func add(_ elements: [SetElement], to set: NamedSet) throws(UnsupportedRuleset) {
        try put(try set.lower(elements), set: set.name, id: nil, NFT_MSG_NEWSETELEM, "elements of set \(set.name)")
    }

    /// Takes elements out of a set.
    public mutating func delete(_ elements: [SetElement], from set: NamedSet) throws(UnsupportedRuleset) {
        // The kernel knows an element to be taken out by its key alone.
        let lowered = try set.lower(elements).map {
            LoweredElement(key: $0.key, lastKey: $0.lastKey, isIntervalEnd: $0.isIntervalEnd)
        }
        try put(lowered, set: set.name, id: nil, NFT_MSG_DELSETELEM, "elements of set \(set.name)")
    }

    /// Takes all elements out of a set.
    public mutating func flushSet(_ name: String) {
        guard let object = made(nftnl_set_alloc(), "the elements of set \(name)") else { return }
        defer { nftnl_set_free(object) }
        nftnl_set_set_str(object, UInt16(NFTNL_SET_TABLE.rawValue), table)
        nftnl_set_set_str(object, UInt16(NFTNL_SET_NAME.rawValue), name)
        message(NFT_MSG_DELSETELEM, "the elements of set \(name)") { nftnl_set_elems_nlmsg_build_payload($0, object) }
    }

    /// Elements in as many messages as they need: attributes end at 64 KiB.
    private mutating func put(
        _ elements: [LoweredElement], set name: String, id: UInt32?, _ type: nf_tables_msg_types, _ subject: String
    ) throws(UnsupportedRuleset) {
        if elements.isEmpty { return try complete() }
        guard let object = made(nftnl_set_alloc(), subject) else { return try complete() }
        defer { nftnl_set_free(object) }
        nftnl_set_set_str(object, UInt16(NFTNL_SET_TABLE.rawValue), table)
        nftnl_set_set_str(object, UInt16(NFTNL_SET_NAME.rawValue), name)
        if let id { nftnl_set_set_u32(object, UInt16(NFTNL_SET_ID.rawValue), id) }
        for element in elements {
            guard let element = made(element.make(), subject) else { return try complete() }
            nftnl_set_elem_add(object, element)
        }
        guard let iterator = made(nftnl_set_elems_iter_create(object), subject) else { return try complete() }
        defer { nftnl_set_elems_iter_destroy(iterator) }
        var more: Int32 = 1
        while more > 0 {
            message(type, flags: type == NFT_MSG_NEWSETELEM ? NLM_F_CREATE : 0, subject) {
                more = nftnl_set_elems_nlmsg_build_payload_iter($0, iterator)
            }
            try complete()
        }
    }

    // MARK: - Counters and helpers

    /// Makes a counter; one that is there keeps its count.
    public mutating func add(_ counter: NamedCounter) throws(UnsupportedRuleset) {
        try Bounds.check(name: counter.name)
        object("counter", counter.name, UInt32(NFT_OBJECT_COUNTER)) { object in
            guard let comment = counter.comment else { return }
            var data = UserData()
            data.put(comment: comment)
            nftnl_obj_set_data(object, UInt16(NFTNL_OBJ_USERDATA), data.bytes, UInt32(data.bytes.count))
        }
        try complete()
    }

    public mutating func deleteCounter(_ name: String) { object("counter", name, UInt32(NFT_OBJECT_COUNTER)) }

    /// Makes a helper of connection tracking; one that is there stays.
    public mutating func add(_ helper: NamedHelper) throws(UnsupportedRuleset) {
        try Bounds.check(name: helper.name)
        let network = UInt16(family.number)
        object("helper", helper.name, UInt32(NFT_OBJECT_CT_HELPER)) { object in
            nftnl_obj_set_str(object, UInt16(NFTNL_OBJ_CT_HELPER_NAME), helper.kind)
            nftnl_obj_set_u16(object, UInt16(NFTNL_OBJ_CT_HELPER_L3PROTO), network)
            nftnl_obj_set_u8(object, UInt16(NFTNL_OBJ_CT_HELPER_L4PROTO), helper.transport == "tcp" ? 6 : 17)
        }
        try complete()
    }

    public mutating func deleteHelper(_ name: String) { object("helper", name, UInt32(NFT_OBJECT_CT_HELPER)) }

    /// Makes a named object that `fill` fills; without it, takes the object away.
    private mutating func object(
        _ what: String, _ name: String, _ kind: UInt32, _ fill: ((OpaquePointer) -> Void)? = nil
    ) {
        guard let object = made(nftnl_obj_alloc(), "\(what) \(name)") else { return }
        defer { nftnl_obj_free(object) }
        nftnl_obj_set_str(object, UInt16(NFTNL_OBJ_TABLE), table)
        nftnl_obj_set_str(object, UInt16(NFTNL_OBJ_NAME), name)
        nftnl_obj_set_u32(object, UInt16(NFTNL_OBJ_TYPE), kind)
        fill?(object)
        message(
            fill == nil ? NFT_MSG_DELOBJ : NFT_MSG_NEWOBJ, flags: fill == nil ? 0 : NLM_F_CREATE, "\(what) \(name)"
        ) { nftnl_obj_nlmsg_build_payload($0, object) }
    }

    // MARK: - Flowtables

    /// Makes a flowtable; all its devices must be there.
    public mutating func add(_ flowtable: Flowtable) throws(UnsupportedRuleset) {
        try Bounds.check(name: flowtable.name)
        withFlowtable(flowtable, NFT_MSG_NEWFLOWTABLE, NLM_F_CREATE)
        try complete()
    }

    public mutating func deleteFlowtable(_ name: String) {
        withFlowtable(Flowtable(name, devices: []), NFT_MSG_DELFLOWTABLE, 0)
    }

    private mutating func withFlowtable(_ flowtable: Flowtable, _ type: nf_tables_msg_types, _ flags: Int32) {
        guard let object = made(nftnl_flowtable_alloc(), "flowtable \(flowtable.name)") else { return }
        defer { nftnl_flowtable_free(object) }
        func u16(_ attribute: nftnl_flowtable_attr) -> UInt16 { UInt16(attribute.rawValue) }
        nftnl_flowtable_set_str(object, u16(NFTNL_FLOWTABLE_TABLE), table)
        nftnl_flowtable_set_str(object, u16(NFTNL_FLOWTABLE_NAME), flowtable.name)
        if flags != 0 {
            // NF_NETDEV_INGRESS
            nftnl_flowtable_set_u32(object, u16(NFTNL_FLOWTABLE_HOOKNUM), 0)
            nftnl_flowtable_set_s32(object, u16(NFTNL_FLOWTABLE_PRIO), 0)
            // NFT_FLOWTABLE_HW_OFFLOAD; NFT_FLOWTABLE_COUNTER: what goes by is counted for its connection all the same.
            nftnl_flowtable_set_u32(object, u16(NFTNL_FLOWTABLE_FLAGS), 2 | (flowtable.isHardware ? 1 : 0))
            let names = flowtable.devices.map { strdup($0) }
            defer { for name in names { free(name) } }
            var list = names.map { UnsafePointer<CChar>($0) } + [nil]
            nftnl_flowtable_set_array(object, u16(NFTNL_FLOWTABLE_DEVICES), &list)
        }
        message(type, flags: flags, "flowtable \(flowtable.name)") {
            nftnl_flowtable_nlmsg_build_payload($0, object)
        }
    }
}
