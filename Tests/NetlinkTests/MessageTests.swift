import Addresses
import CMnl
import Glibc
import PluginKit
import Testing

@testable import Netlink

@Suite struct MessageTests {
    private func message() -> Message { Message(Int(RTM_NEWLINK), ifinfomsg(), about: "a test") }

    private func attributes(_ message: Message) -> [Int: Attribute] {
        Answer(header: message.header).attributes(behind: ifinfomsg.self)
    }

    @Test func itGrowsWithItsAttributes() throws {
        let message = message()
        for number in 1...30 { try message.put(number, [UInt8](repeating: UInt8(number), count: 2000)) }
        let written = attributes(message)
        #expect(written.count == 30)
        for number in 1...30 { #expect(written[number]?.bytes == [UInt8](repeating: UInt8(number), count: 2000)) }
    }

    @Test func anAttributeBeyond64KiBThrows() throws {
        let message = message()
        for number in 1...32 { try message.put(number, [UInt8](repeating: 1, count: 2000)) }
        let before = message.length
        #expect {
            try message.put(33, [UInt8](repeating: 1, count: 2000))
        } throws: {
            ($0 as? NetlinkError)?.code == EMSGSIZE && "\($0)".contains("a test: Message too long")
        }
        #expect(message.length == before)
        #expect(throws: NetlinkError.self) {
            try message.nest(34) { () throws(NetlinkError) in
                try message.put(1, [UInt8](repeating: 1, count: 4000))
            }
        }
    }

    @Test func nestedAttributesSurviveGrowth() throws {
        let message = message()
        try message.nest(18) { () throws(NetlinkError) in
            try message.put(1, "vlan")
            try message.nest(2) { () throws(NetlinkError) in
                for number in 1...20 { try message.put(number, [UInt8](repeating: 7, count: 500)) }
            }
        }
        try message.put(3, UInt32(5))
        let written = attributes(message)
        let nested = try #require(written[18]?.nested)
        #expect(nested.first { $0.0 == 1 }?.1.text == "vlan")
        #expect(nested.first { $0.0 == 2 }?.1.nested.count == 20)
        #expect(written[3]?.number == 5)
    }

    @Test func numbersOfEachWidth() throws {
        let message = message()
        try message.put(1, UInt8(0xAB))
        try message.put(2, UInt16(0xABCD))
        try message.put(3, UInt32(0xABCD_EF01))
        try message.put(4, UInt64(0x1234_5678_9ABC_DEF0))
        let written = attributes(message)
        #expect(written.mapValues(\.bytes.count) == [1: 1, 2: 2, 3: 4, 4: 8])
        #expect(written[3]?.number == 0xABCD_EF01 && written[4]?.number == 0x1234_5678_9ABC_DEF0)
    }

    @Test func linkAttributesAreComparedAsTheKernelSeesThem() {
        #expect(LinkAttribute(1, .u32(5)) == LinkAttribute(1, .bytes([5, 0, 0, 0])))
        #expect(LinkAttribute(1, .u32(5)) != LinkAttribute(2, .u32(5)))
        #expect(LinkAttribute(1, .u16(5)) != LinkAttribute(1, .u32(5)))
        #expect(LinkAttribute(1, .text("ab")).payload == [0x61, 0x62, 0])
        let nested = LinkAttribute(3, .nested([.init(1, .u8(7)), .init(1, .u64(9)), .init(2, .text("x"))]))
        // Each padded to four bytes, two of the same number kept.
        #expect(nested.payload.count == 8 + 12 + 8)
        #expect(nested.nested.map(\.number) == [1, 1, 2] && nested.nested[1].unsigned == 9)
        #expect(nested.nested[2].text == "x" && nested == .init(3, .bytes(nested.payload)))
    }

    @Test func whatIsMissingFromALink() {
        let present = [LinkAttribute(1, .bytes([1, 0, 0, 0])), .init(2, .bytes([0])), .init(9, .bytes([4]))]
        let wanted = [LinkAttribute(1, .u32(1)), .init(2, .u8(1))]
        #expect(wanted.missing(from: present) == [.init(2, .u8(1))])
    }

    /// The bytes of IFLA_INFO_DATA that iproute2 6.1 sends, for kinds that a test host's kernel may
    /// lack.
    @Test func kindDataIsWhatIproute2Sends() {
        let vlan = LinkAttribute.data(of: VLANLink("wan", id: 8, tag: .provider)).prefix(2)
        let vlanWords: [[UInt8]] = [[6, 0, 5, 0, 0x88, 0xA8, 0, 0], [6, 0, 1, 0, 8, 0, 0, 0]]
        #expect(Set(vlan) == Set(LinkAttribute.decode(vlanWords.flatMap { $0 })))
        let bond = LinkAttribute.data(of: BondLink(.lacp, hash: .layer34, isFastLACP: true))
        let bondWords: [[UInt8]] = [
            [5, 0, 1, 0, 4, 0, 0, 0], [8, 0, 3, 0, 100, 0, 0, 0], [5, 0, 14, 0, 1, 0, 0, 0],
            [5, 0, 21, 0, 1, 0, 0, 0],
        ]
        #expect(LinkAttribute.encode(bond) == bondWords.flatMap { $0 })
        let vrf = LinkAttribute.data(of: VRFLink(table: 1000))
        #expect(LinkAttribute.encode(vrf) == [8, 0, 1, 0, 0xE8, 3, 0, 0])
        let filtering = LinkAttribute.data(of: BridgeLink(filtersVLANs: true))
        #expect(LinkAttribute.encode(filtering) == [5, 0, 7, 0, 1, 0, 0, 0])
    }
}
