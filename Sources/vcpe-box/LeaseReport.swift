import Engine
import Glibc
import PluginKit

/// What dhcpcd runs when something happens to a lease: it is noted for the engine, nothing else is done
/// (dhcpcd-run-hooks(8)).
enum LeaseReport {
    static func run() -> Int32 {
        func variable(_ name: String) -> String? { getenv(name).map { String(cString: $0) } }
        guard let interface = variable("interface"), let reason = variable("reason") else {
            Log.say("report-lease is run by dhcpcd, which says interface and reason")
            return 64
        }
        let leases = Leases()
        do {
            switch reason {
            case "BOUND", "RENEW", "REBIND", "REBOOT", "INFORM", "STATIC", "TIMEOUT":
                guard let address = variable("new_ip_address"),
                    let prefix = IPPrefix("\(address)/\(variable("new_subnet_cidr") ?? "32")")
                else { return 0 }
                let words = { (name: String) in (variable(name) ?? "").split(separator: " ").map(String.init) }
                try leases.note(
                    .init(
                        address: prefix, gateway: words("new_routers").first.flatMap { IPAddress($0) },
                        resolvers: words("new_domain_name_servers").compactMap { IPAddress($0) }),
                    of: interface, seconds: variable("new_dhcp_lease_time").flatMap { Int($0) })
            case "EXPIRE", "NAK", "RELEASE", "FAIL", "STOP", "STOPPED", "DEPARTED": try leases.forget(interface)
            // PREINIT, CARRIER, NOCARRIER, ROUTERADVERT and the like change nothing of a lease.
            default: return 0
            }
        } catch {
            Log.say("report-lease: \(error)")
            return 1
        }
        // An engine that isn't there finds it when it comes.
        _ = try? EngineClient().ask(["do": "lease"])
        return 0
    }
}
