/// A VLAN (IEEE 802.1Q, or 802.1ad for a provider's outer tag).
public struct VLANLink: LinkType {
    public static let name = "vlan"
    public static let kernelKind: String? = "vlan"

    /// The EtherType of the tag (linux/if_ether.h).
    public enum Tag: String, Sendable, CaseIterable {
        case customer = "802.1q"
        case provider = "802.1ad"

        var etherType: UInt16 { self == .customer ? 0x8100 : 0x88A8 }
    }

    /// The link that carries the tagged frames.
    public var parent: String
    /// 1 to 4094.
    public var id: Int
    public var tag: Tag
    /// The tag's priority (0 to 7) by a packet's priority (0 to 15); 0 for those that are absent.
    public var egress: [Int: Int]

    public init(_ parent: String, id: Int, tag: Tag = .customer, egress: [Int: Int] = [:]) {
        self.parent = parent
        self.id = id
        self.tag = tag
        self.egress = egress
    }

    public init(_ line: ResourceLine) throws(InvalidResource) {
        guard let id = try line.number("id", 1...4094) else { throw line.invalid("the number \"id\" is missing") }
        var egress: [Int: Int] = [:]
        if let value = line["egress"], value.object == nil { throw line.invalid("\"egress\" is not an object") }
        for (key, value) in line["egress"]?.object ?? [:] {
            guard let from = Int(key), (0...15).contains(from), let to = value.integer, (0...7).contains(to) else {
                throw line.invalid("\"egress\" is a priority from 0 to 7 by priorities from 0 to 15")
            }
            if to > 0 { egress[from] = to }
        }
        self.init(
            try line.required("parent"), id: id, tag: try line.optional("protocol") { Tag(rawValue: $0) } ?? .customer,
            egress: egress)
    }

    public var fields: [String: JSON] {
        JSON.object([
            "parent": .text(parent), "id": .integer(id), "protocol": tag == .customer ? nil : .text(tag.rawValue),
            "egress": egress.isEmpty
                ? nil : .object(Dictionary(egress.map { ("\($0.key)", .integer($0.value)) }) { $1 }),
        ]).object ?? [:]
    }

    public var parents: [String] { [parent] }

    /// IFLA_VLAN_ID 1, IFLA_VLAN_EGRESS_QOS 3, IFLA_VLAN_PROTOCOL 5 (linux/if_link.h). The kernel never
    /// forgets a priority: all 16 are sent, and it reports those that are not 0.
    public var options: [LinkOption] {
        func mapping(_ from: Int) -> LinkOption {
            let words = [UInt32(from), UInt32(egress[from] ?? 0)]
            return LinkOption(1, .bytes(words.withUnsafeBytes { Array($0) }))
        }
        return [
            LinkOption(1, .u16(UInt16(id)), isFixed: true), LinkOption(5, .big16(tag.etherType), isFixed: true),
            LinkOption(3, .nested((0...15).map(mapping))),
        ]
    }

    public func isPresent(_ option: LinkOption, reported: [UInt8]?) -> Bool? {
        guard option.number == 3 else { return nil }
        // Attributes of 12 bytes: length and type, the priority, the tag's priority.
        var present: [Int: Int] = [:]
        var rest = (reported ?? [])[...]
        while rest.count >= 12 {
            let words = Array(rest.prefix(12)).withUnsafeBytes { Array($0.bindMemory(to: UInt32.self)) }
            present[Int(words[1])] = Int(words[2])
            rest = rest.dropFirst(12)
        }
        return present == egress
    }

    public var mtuRule: MTURule { .parent }
}
