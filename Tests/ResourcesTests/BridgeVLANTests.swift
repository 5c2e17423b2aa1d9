@testable import Engine
@testable import Netlink
import Planning
import PluginKit
import Testing

/// The VLANs of bridges' ports, without a kernel: this one may not filter VLANs. The booted image of
/// BootTests shows what the kernel makes of them.
@Suite struct BridgeVLANTests {
    private static let links = [
        LinkResource(name: "switch", BridgeLink(filtersVLANs: true)), LinkResource(name: "lan", BridgeLink()),
        LinkResource(name: "port", VethLink(peer: "far"), master: "switch"),
        LinkResource(name: "far", VethLink(peer: "port"), master: "lan"),
    ]

    private static func memberships(_ vlans: [BridgeVLANResource]) throws -> [String: [Int: BridgeVLAN.Flags]] {
        let resources = links.map { Resource($0) } + vlans.map { Resource($0) }
        return try BridgeVLANDriver.memberships(
            Plan(resources.map { PlannedResource(resource: $0, plugin: "test", line: $0.json.line) }))
    }

    @Test func onlyBridgesThatFilterAndTheirPortsHaveVLANs() throws {
        let found = try Self.memberships([
            BridgeVLANResource("port", 10...10, isUntagged: true, isDefault: true), BridgeVLANResource("port", 20...21),
        ])
        #expect(found["switch"] == [:] && found["lan"] == nil && found["far"] == nil)
        #expect(found["port"]?.keys.sorted() == [10, 20, 21])
        #expect(found["port"]?[10] == BridgeVLAN.Flags(isUntagged: true, isDefault: true))
        for wrong in [
            [BridgeVLANResource("far", 10...10)], [BridgeVLANResource("absent", 10...10)],
            [BridgeVLANResource("port", 10...20), BridgeVLANResource("port", 20...30)],
            [
                BridgeVLANResource("port", 10...10, isDefault: true),
                BridgeVLANResource("port", 11...11, isDefault: true),
            ],
        ] {
            #expect(throws: EngineError.self) { try Self.memberships(wrong) }
        }
    }

    @Test func theDifferenceIsWhatTheKernelLacksAndHasTooMuch() {
        let (plain, access) = (
            BridgeVLAN.Flags(isUntagged: false, isDefault: false), BridgeVLAN.Flags(isUntagged: true, isDefault: true)
        )
        // As after a port's joining: VLAN 1 of the kernel; link 9 is a port of another bridge.
        let present = [
            BridgeVLAN(link: 3, vlan: 1, flags: access), BridgeVLAN(link: 3, vlan: 10, flags: plain),
            BridgeVLAN(link: 3, vlan: 20, flags: plain), BridgeVLAN(link: 9, vlan: 1, flags: access),
        ]
        let difference = BridgeVLANDriver.difference(wanted: [3: [10: access, 20: plain, 30: plain]], present: present)
        #expect(difference.extra == [present[0]])
        #expect(
            difference.missing == [
                BridgeVLAN(link: 3, vlan: 10, flags: access), BridgeVLAN(link: 3, vlan: 30, flags: plain),
            ])
    }

    @Test func neighboursAreOneRange() {
        let (plain, access) = (
            BridgeVLAN.Flags(isUntagged: false, isDefault: false), BridgeVLAN.Flags(isUntagged: true, isDefault: true)
        )
        let vlans = [4, 2, 3, 6].map { BridgeVLAN(link: 3, vlan: $0, flags: plain) }
        let ranges = BridgeVLANDriver.ranges(
            vlans + [BridgeVLAN(link: 3, vlan: 7, flags: access), BridgeVLAN(link: 4, vlan: 5, flags: plain)])
        #expect(
            ranges.map { [$0.first.link, $0.first.vlan, $0.last] } == [[3, 2, 4], [3, 6, 6], [3, 7, 7], [4, 5, 5]])
    }

    /// `struct bridge_vlan_info`: 10 with PVID and UNTAGGED, then 100 through 102 as a range.
    @Test func rangesOfTheKernelAreRead() {
        let vlans = BridgeVLAN.list([[6, 0, 10, 0], [8, 0, 100, 0], [16, 0, 102, 0], [0, 0, 0, 1]], of: 3)
        #expect(vlans.map(\.vlan) == [10, 100, 101, 102, 256])
        #expect(vlans.map(\.flags.isDefault) == [true, false, false, false, false])
    }
}
