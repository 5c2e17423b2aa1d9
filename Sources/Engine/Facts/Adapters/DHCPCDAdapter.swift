import Addresses
import PluginKit

/// Reads what dhcpcd gives its script in the environment (dhcpcd-run-hooks(8)).
public enum DHCPCDAdapter {
    /// The facts that change.
    ///
    /// - Parameter environment: of the script.
    public static func reports(_ environment: [String: String]) -> [FactReport] {
        guard let interface = environment["interface"], let reason = environment["reason"] else { return [] }
        switch reason {
        case "BOUND", "RENEW", "REBIND", "REBOOT", "INFORM", "STATIC", "TIMEOUT":
            return lease(interface, environment).map { [$0] } ?? []
        case "EXPIRE", "NAK", "RELEASE", "FAIL", "STOP", "STOPPED", "DEPARTED":
            return [FactReport(Facts.Lease.collection, interface, nil)]
        case "BOUND6", "RENEW6", "REBIND6", "REBOOT6", "INFORM6", "DELEGATED6":
            return prefixes(interface, environment)
        case "EXPIRE6", "RELEASE6", "STOP6":
            // What has gone stands as old.
            return gonePrefixes(interface, environment, kept: [])
        case "ROUTERADVERT": return routers(interface, environment)
        // PREINIT, CARRIER, NOCARRIER and the like change nothing of a lease.
        default: return []
        }
    }

    // MARK: - DHCPv4

    /// Options that a lease has fields for, or that are of the exchange itself.
    private static let known: Set<String> = [
        "ip_address", "subnet_cidr", "subnet_mask", "network_number", "broadcast_address", "routers",
        "domain_name_servers", "interface_mtu", "domain_name", "domain_search", "ntp_servers",
        "classless_static_routes", "ms_classless_static_routes", "dhcp_lease_time", "dhcp_renewal_time",
        "dhcp_rebinding_time", "dhcp_message_type", "dhcp_server_identifier", "filename", "server_name",
    ]

    private static func lease(_ interface: String, _ environment: [String: String]) -> FactReport? {
        func text(_ name: String) -> String? { environment["new_\(name)"] }
        func words(_ name: String) -> [String] { (text(name) ?? "").split(separator: " ").map(String.init) }
        guard let address = text("ip_address"), let prefix = IPPrefix("\(address)/\(text("subnet_cidr") ?? "32")")
        else { return nil }
        var lease = Facts.Lease(
            address: prefix, gateway: words("routers").first.flatMap { IPAddress($0) },
            resolvers: words("domain_name_servers").compactMap { IPAddress($0) })
        lease.routes = routes(words("classless_static_routes"))
        // RFC 3442: with static routes the option "router" does not count.
        if !lease.routes.isEmpty { lease.gateway = lease.routes.first { $0.to.length == 0 }?.via }
        lease.mtu = text("interface_mtu").flatMap { Int($0) }.flatMap { (68...65_535).contains($0) ? $0 : nil }
        lease.domain = text("domain_name")
        lease.search = words("domain_search")
        lease.timeServers = words("ntp_servers").compactMap { IPAddress($0) }
        for (key, value) in environment where key.hasPrefix("new_") && !value.isEmpty {
            let name = String(key.dropFirst(4))
            if !known.contains(name) { lease.options[name] = value }
        }
        return FactReport(interface, lease, seconds: text("dhcp_lease_time").flatMap { Int($0) })
    }

    /// Pairs of a network and a gateway; a gateway of 0.0.0.0 means the link itself.
    private static func routes(_ words: [String]) -> [Facts.Lease.Route] {
        stride(from: 0, to: words.count - 1, by: 2).compactMap { i in
            guard let to = IPPrefix(words[i]), let via = IPAddress(words[i + 1]) else { return nil }
            return .init(to: to.network, via: via.isUnspecified ? nil : via)
        }
    }

    // MARK: - DHCPv6

    private static func prefixes(_ interface: String, _ environment: [String: String]) -> [FactReport] {
        func text(_ name: String) -> String? { environment["new_dhcp6_\(name)"] }
        let resolvers = (text("name_servers") ?? "").split(separator: " ").compactMap { IPAddress(String($0)) }
        var reports: [FactReport] = []
        for (prefix, start, isDelegated) in found("new_", environment) {
            // A renumbering announces the old prefix once more, with lifetimes of zero.
            let seconds = environment["\(start)_vltime"].flatMap { Int($0) }
            if seconds == 0 { continue }
            let value = Facts.Prefix(
                interface: interface, prefix: prefix, isDelegated: isDelegated, resolvers: resolvers)
            reports.append(FactReport("\(interface) \(prefix)", value, seconds: seconds))
        }
        return gonePrefixes(interface, environment, kept: Set(reports.map(\.name))) + reports
    }

    /// Those that stand as old, or with a lifetime of zero, and are not kept.
    private static func gonePrefixes(
        _ interface: String, _ environment: [String: String], kept: Set<String>
    ) -> [FactReport] {
        let old = found("old_", environment) + found("new_", environment)
        let gone = Set(old.map { "\(interface) \($0.prefix)" }).subtracting(kept)
        return gone.sorted().map { FactReport(Facts.Prefix.collection, $0, nil) }
    }

    /// The prefixes and addresses of an answer, each with what its variables begin with.
    private static func found(
        _ age: String, _ environment: [String: String]
    ) -> [(prefix: IPPrefix, start: String, isDelegated: Bool)] {
        var result: [(IPPrefix, String, Bool)] = []
        for key in environment.keys.sorted() where key.hasPrefix("\(age)dhcp6_ia_") {
            guard let value = environment[key] else { continue }
            let last = key.split(separator: "_").last.map(String.init) ?? ""
            if key.hasPrefix("\(age)dhcp6_ia_pd"), last.hasPrefix("prefix"),
                let length = environment["\(key)_length"], let prefix = IPPrefix("\(value)/\(length)")
            {
                result.append((prefix.network, key, true))
            } else if key.hasPrefix("\(age)dhcp6_ia_na"), last.hasPrefix("addr"),
                let address = IPPrefix("\(value)/128")
            {
                result.append((address, key, false))
            }
        }
        return result
    }

    // MARK: - Router advertisements

    /// All routers of the link: each advertisement names those that are known, `nd1`, `nd2` and so on.
    private static func routers(_ interface: String, _ environment: [String: String]) -> [FactReport] {
        (1...16).compactMap { number -> FactReport? in
            func text(_ name: String) -> String? { environment["nd\(number)_\(name)"] }
            guard let from = text("from"), let address = IPAddress(from) else { return nil }
            let lifetime = text("lifetime").flatMap { Int($0) } ?? 0
            var prefixes: [IPPrefix] = []
            var longest = lifetime
            for key in (1...32).map({ "prefix_information\($0)" }) {
                guard let prefix = text("\(key)_prefix"), let length = text("\(key)_length"),
                    let network = IPPrefix("\(prefix)/\(length)"), (text("\(key)_flags") ?? "").contains("A")
                else { continue }
                let valid = text("\(key)_vltime").flatMap { Int($0) } ?? 0
                if valid > 0 { prefixes.append(network.network) }
                longest = max(longest, valid)
            }
            let name = "\(interface) \(address)"
            // A router that says it is one no more, and has no prefix left, is gone.
            if longest == 0 { return FactReport(Facts.Router.collection, name, nil) }
            let router = Facts.Router(
                interface: interface, address: address, isDefault: lifetime > 0,
                prefixes: prefixes.sorted { $0.description < $1.description },
                mtu: text("mtu").flatMap { Int($0) }.flatMap { (1280...65_535).contains($0) ? $0 : nil },
                resolvers: (text("rdnss1_servers") ?? "").split(separator: " ").compactMap { IPAddress(String($0)) })
            return FactReport(name, router, seconds: lifetime > 0 ? lifetime : longest)
        }
    }
}
