import CMnl
import CNftables
import Glibc
import Ruleset

/// A member of a set, as the kernel holds it.
public struct SetMember: Sendable, Hashable {
    /// As nft writes it; the parts of a concatenation with ` . ` in between.
    public var key: String
    /// Seconds until it goes; nil for one that stays.
    public var expires: Int?
}

extension Connection {
    /// The members of a set of a table, packets' own included, in the order of their keys' texts. Of a set with intervals,
    /// and of a map, none.
    public func members(of set: NamedSet, table: String) throws(NftablesError) -> [SetMember] {
        if set.flags.contains(.interval) || set.content != .members { return [] }
        var result: [SetMember] = []
        try dump(NFT_MSG_GETSETELEM) { header in
            mnl_attr_put_strz(header, UInt16(NFTA_SET_ELEM_LIST_TABLE.rawValue), table)
            mnl_attr_put_strz(header, UInt16(NFTA_SET_ELEM_LIST_SET.rawValue), set.name)
        } _: { header in
            guard let parsed = nftnl_set_alloc() else { return }
            defer { nftnl_set_free(parsed) }
            guard nftnl_set_elems_nlmsg_parse(header, parsed) == 0, let elements = nftnl_set_elems_iter_create(parsed)
            else { return }
            defer { nftnl_set_elems_iter_destroy(elements) }
            while let element = nftnl_set_elems_iter_next(elements) {
                var length: UInt32 = 0
                guard let key = nftnl_set_elem_get(element, UInt16(NFTNL_SET_ELEM_KEY), &length) else { continue }
                let bytes = Array(UnsafeRawBufferPointer(start: key, count: Int(length)))
                let hasEnd = nftnl_set_elem_is_set(element, UInt16(NFTNL_SET_ELEM_EXPIRATION))
                let left = hasEnd ? nftnl_set_elem_get_u64(element, UInt16(NFTNL_SET_ELEM_EXPIRATION)) : 0
                result.append(SetMember(key: set.text(of: bytes), expires: hasEnd ? Int(left / 1000) : nil))
            }
        } restart: {
            result = []
        }
        return result.sorted { $0.key < $1.key }
    }
}

extension NamedSet {
    /// A key as nft writes it.
    fileprivate func text(of bytes: [UInt8]) -> String {
        var rest = bytes[...]
        return key.map { type in
            let part = Array(rest.prefix(type.length))
            rest = rest.dropFirst(key.count == 1 ? type.length : type.paddedLength)
            return type.text(of: part)
        }.joined(separator: " . ")
    }
}

extension DataType {
    fileprivate func text(of bytes: [UInt8]) -> String {
        switch self {
        case .ipv4Address, .ipv6Address:
            var buffer = [CChar](repeating: 0, count: 64)
            inet_ntop(self == .ipv4Address ? AF_INET : AF_INET6, bytes, &buffer, 64)
            return String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        case .etherAddress:
            return bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined(separator: ":")
        case .interfaceName: return String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
        default:
            let ordered = byteOrder == .big ? bytes : bytes.reversed()
            let number = ordered.prefix(8).reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
            return symbols.filter { $0.value == number }.keys.sorted().first ?? String(number)
        }
    }
}
