import CMnl
import CNftables
import Glibc

/// What the kernel holds of a table, by name.
public struct TableObservation: Sendable, Hashable {
    public var exists = false
    public var chains: Set<String> = []
    public var sets: Set<String> = []
    public var counters: Set<String> = []
    public var helpers: Set<String> = []
    public var flowtables: Set<String> = []
}

/// What a named counter has counted.
public struct CounterValue: Sendable, Hashable {
    public var packets: UInt64
    public var bytes: UInt64
}

extension Connection {
    /// What stands in a table of the family `inet`.
    public func observe(table: String) throws(NftablesError) -> TableObservation {
        var result = TableObservation()
        try dump(NFT_MSG_GETTABLE) { header in
            if Self.name(header, NFTA_TABLE_NAME.rawValue) == table { result.exists = true }
        } restart: {
            result.exists = false
        }
        guard result.exists else { return result }
        try names(NFT_MSG_GETCHAIN, in: table, UInt32(NFTA_CHAIN_TABLE.rawValue), UInt32(NFTA_CHAIN_NAME.rawValue)) {
            result.chains = $0
        }
        try names(NFT_MSG_GETSET, in: table, UInt32(NFTA_SET_TABLE.rawValue), UInt32(NFTA_SET_NAME.rawValue)) {
            // Sets without a name of their own go with their rules.
            result.sets = $0.filter { !$0.hasPrefix("__") }
        }
        try names(
            NFT_MSG_GETFLOWTABLE, in: table, UInt32(NFTA_FLOWTABLE_TABLE.rawValue),
            UInt32(NFTA_FLOWTABLE_NAME.rawValue)
        ) {
            result.flowtables = $0
        }
        try dump(NFT_MSG_GETOBJ) { header in
            guard Self.name(header, UInt32(NFTA_OBJ_TABLE.rawValue)) == table,
                let name = Self.name(header, UInt32(NFTA_OBJ_NAME.rawValue))
            else { return }
            var kind: UInt32 = 0
            Attributes.each(header, offset: MemoryLayout<nfgenmsg>.size) {
                if UInt32(mnl_attr_get_type($0)) == NFTA_OBJ_TYPE.rawValue {
                    kind = UInt32(bigEndian: mnl_attr_get_u32($0))
                }
            }
            if kind == UInt32(NFT_OBJECT_COUNTER) { result.counters.insert(name) }
            if kind == UInt32(NFT_OBJECT_CT_HELPER) { result.helpers.insert(name) }
        } restart: {
            (result.counters, result.helpers) = ([], [])
        }
        return result
    }

    private func names(
        _ type: nf_tables_msg_types, in table: String, _ tableAttribute: UInt32, _ nameAttribute: UInt32,
        _ body: (Set<String>) -> Void
    ) throws(NftablesError) {
        var found: Set<String> = []
        try dump(type) { header in
            if Self.name(header, tableAttribute) == table, let name = Self.name(header, nameAttribute) {
                found.insert(name)
            }
        } restart: {
            found = []
        }
        body(found)
    }

    private static func name(_ header: UnsafePointer<nlmsghdr>, _ attribute: UInt32) -> String? {
        // The family of a dump's answers is that of the object.
        let message = mnl_nlmsg_get_payload(header).assumingMemoryBound(to: nfgenmsg.self)
        guard message.pointee.nfgen_family == UInt8(NFPROTO_INET) else { return nil }
        var text: String?
        Attributes.each(header, offset: MemoryLayout<nfgenmsg>.size) {
            if UInt32(mnl_attr_get_type($0)) == attribute { text = String(cString: mnl_attr_get_str($0)) }
        }
        return text
    }

    /// What a table's named counters have counted.
    public func counters(table: String) throws(NftablesError) -> [String: CounterValue] {
        var result: [String: CounterValue] = [:]
        try dump(NFT_MSG_GETOBJ) { header in
            guard Self.name(header, UInt32(NFTA_OBJ_TABLE.rawValue)) == table, let object = nftnl_obj_alloc() else {
                return
            }
            defer { nftnl_obj_free(object) }
            guard nftnl_obj_nlmsg_parse(header, object) == 0,
                nftnl_obj_get_u32(object, UInt16(NFTNL_OBJ_TYPE)) == UInt32(NFT_OBJECT_COUNTER),
                let name = nftnl_obj_get_str(object, UInt16(NFTNL_OBJ_NAME))
            else { return }
            result[String(cString: name)] = CounterValue(
                packets: nftnl_obj_get_u64(object, UInt16(NFTNL_OBJ_CTR_PKTS)),
                bytes: nftnl_obj_get_u64(object, UInt16(NFTNL_OBJ_CTR_BYTES)))
        } restart: {
            result = [:]
        }
        return result
    }
}
