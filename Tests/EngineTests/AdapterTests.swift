import Addresses
import Engine
import PluginKit
import Testing

/// What daemons give their scripts, and what becomes of it.
@Suite struct AdapterTests {
    @Test func aLeaseHasAllThatTheServerSent() throws {
        let reports = DHCPCDAdapter.reports([
            "interface": "wan", "reason": "BOUND", "new_ip_address": "203.0.113.77", "new_subnet_cidr": "24",
            "new_routers": "203.0.113.1 203.0.113.2", "new_domain_name_servers": "192.0.2.53 192.0.2.54",
            "new_interface_mtu": "1492", "new_domain_name": "example.net",
            "new_domain_search": "example.net example.org",
            "new_ntp_servers": "192.0.2.123", "new_dhcp_lease_time": "3600", "new_dhcp_message_type": "5",
            "new_tftp_server_name": "boot", "old_ip_address": "203.0.113.76",
        ])
        let address = try #require(IPPrefix("203.0.113.77/24"))
        let lease = Facts.Lease(
            address: address, gateway: IPAddress("203.0.113.1"),
            resolvers: ["192.0.2.53", "192.0.2.54"].compactMap { IPAddress($0) }, mtu: 1492, domain: "example.net",
            search: ["example.net", "example.org"], timeServers: ["192.0.2.123"].compactMap { IPAddress($0) },
            options: ["tftp_server_name": "boot"])
        #expect(reports == [FactReport("wan", lease, seconds: 3600)])
        #expect(
            DHCPCDAdapter.reports(["interface": "wan", "reason": "EXPIRE"]) == [FactReport("leases", "wan", nil)])
        #expect(DHCPCDAdapter.reports(["interface": "wan", "reason": "CARRIER"]).isEmpty)
    }

    /// RFC 3442: with static routes the option "router" must be ignored.
    @Test func staticRoutesReplaceTheRouter() throws {
        func lease(_ routes: String) throws -> Facts.Lease {
            let reports = DHCPCDAdapter.reports([
                "interface": "wan", "reason": "RENEW", "new_ip_address": "203.0.113.77", "new_subnet_cidr": "24",
                "new_routers": "203.0.113.1", "new_classless_static_routes": routes,
            ])
            let value = try #require(reports.first?.value)
            var facts = Facts()
            facts.collections["leases"] = ["wan": value]
            return try #require(facts.leases["wan"])
        }
        let both = try lease("10.0.0.0/8 203.0.113.9 0.0.0.0/0 203.0.113.2 192.0.2.0/24 0.0.0.0")
        #expect(both.gateway == IPAddress("203.0.113.2") && both.routes.count == 3)
        #expect(both.routes.last?.via == nil && both.routes.first?.via == IPAddress("203.0.113.9"))
        let none = try lease("10.0.0.0/8 203.0.113.9")
        #expect(none.gateway == nil && none.routes.count == 1)
    }

    /// A renumbering comes as one renewal: the new prefix, and the old one with lifetimes of zero; the
    /// next renewal leaves that one out.
    @Test func aRenumberingReplacesThePrefix() throws {
        var environment = [
            "interface": "wan", "reason": "RENEW6", "new_dhcp6_ia_pd1_iaid": "00000001",
            "new_dhcp6_ia_pd1_prefix1": "2001:db8:2::", "new_dhcp6_ia_pd1_prefix1_length": "56",
            "new_dhcp6_ia_pd1_prefix1_pltime": "1800", "new_dhcp6_ia_pd1_prefix1_vltime": "3600",
            "new_dhcp6_ia_pd1_prefix2": "2001:db8:1::", "new_dhcp6_ia_pd1_prefix2_length": "56",
            "new_dhcp6_ia_pd1_prefix2_pltime": "0", "new_dhcp6_ia_pd1_prefix2_vltime": "0",
            "new_dhcp6_ia_na1_ia_addr1": "2001:db8:f::7", "new_dhcp6_ia_na1_ia_addr1_vltime": "600",
            "new_dhcp6_name_servers": "2001:db8::53",
        ]
        let reports = DHCPCDAdapter.reports(environment)
        let named = Dictionary(reports.map { ($0.name, $0) }) { $1 }
        #expect(named.count == 3)
        #expect(named["wan 2001:db8:2::/56"]?.seconds == 3600 && named["wan 2001:db8:2::/56"]?.value != nil)
        #expect(named["wan 2001:db8:1::/56"] == FactReport("prefixes", "wan 2001:db8:1::/56", nil))
        #expect(named["wan 2001:db8:f::7/128"]?.value?["delegated"] == .boolean(false))
        // What only the renewal before named.
        environment = environment.filter { !$0.key.contains("prefix2") }
        environment["old_dhcp6_ia_pd1_prefix1"] = "2001:db8:1::"
        environment["old_dhcp6_ia_pd1_prefix1_length"] = "56"
        #expect(DHCPCDAdapter.reports(environment).contains(FactReport("prefixes", "wan 2001:db8:1::/56", nil)))
        environment = [
            "interface": "wan", "reason": "EXPIRE6", "old_dhcp6_ia_pd1_prefix1": "2001:db8:2::",
            "old_dhcp6_ia_pd1_prefix1_length": "56",
        ]
        #expect(DHCPCDAdapter.reports(environment) == [FactReport("prefixes", "wan 2001:db8:2::/56", nil)])
    }

    @Test func routersComeAndGo() throws {
        var environment = [
            "interface": "wan", "reason": "ROUTERADVERT", "nd1_from": "fe80::1", "nd1_lifetime": "1800",
            "nd1_prefix_information1_prefix": "2001:db8:9::", "nd1_prefix_information1_length": "64",
            "nd1_prefix_information1_flags": "LA", "nd1_prefix_information1_vltime": "86400",
            "nd2_from": "fe80::2", "nd2_lifetime": "0",
        ]
        let address = try #require(IPAddress("fe80::1"))
        let prefix = try #require(IPPrefix("2001:db8:9::/64"))
        let router = Facts.Router(interface: "wan", address: address, isDefault: true, prefixes: [prefix])
        #expect(
            DHCPCDAdapter.reports(environment) == [
                FactReport("wan fe80::1", router, seconds: 1800), FactReport("routers", "wan fe80::2", nil),
            ])
        // Without the flag A, hosts make no addresses of a prefix (RFC 4862, section 5.5.3).
        environment["nd1_prefix_information1_flags"] = "L"
        #expect(DHCPCDAdapter.reports(environment).first?.value?["prefixes"] == nil)
    }

    @Test func pppAndIPsecReport() throws {
        let up = ["IFNAME": "wan", "IPLOCAL": "198.51.100.7", "IPREMOTE": "198.51.100.1", "DNS1": "192.0.2.53"]
        let address = try #require(IPPrefix("198.51.100.7/32"))
        let lease = Facts.Lease(
            address: address, gateway: IPAddress("198.51.100.1"),
            resolvers: ["192.0.2.53"].compactMap { IPAddress($0) })
        #expect(PPPDAdapter.reports(up, isUp: true) == [FactReport("wan", lease)])
        #expect(PPPDAdapter.reports(up, isUp: false) == [FactReport("leases", "wan", nil)])
        var tunnel = [
            "PLUTO_VERB": "up-client", "PLUTO_CONNECTION": "office", "PLUTO_PEER": "198.51.100.9",
            "PLUTO_PEER_CLIENT": "10.2.0.0/16", "PLUTO_MY_CLIENT": "10.1.0.0/16",
        ]
        let reports = CharonAdapter.reports(tunnel)
        #expect(reports.first?.name == "office 10.2.0.0/16" && reports.first?.value?["peer"] == "198.51.100.9")
        tunnel["PLUTO_VERB"] = "down-client"
        #expect(CharonAdapter.reports(tunnel) == [FactReport("tunnels", "office 10.2.0.0/16", nil)])
    }
}
