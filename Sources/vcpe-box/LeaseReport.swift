import Engine
import Glibc
import PluginKit

/// What dhcpcd runs when something happens to a lease: the engine is told, nothing else is done (dhcpcd-run-hooks(8)).
enum LeaseReport {
    static func run() -> Int32 {
        func variable(_ name: String) -> String? { getenv(name).map { String(cString: $0) } }
        guard let interface = variable("interface"), let reason = variable("reason") else {
            Log.say("report-lease is run by dhcpcd, which says interface and reason")
            return 64
        }
        var request: [String: JSON] = ["do": "lease", "interface": .text(interface)]
        switch reason {
        case "BOUND", "RENEW", "REBIND", "REBOOT", "INFORM", "STATIC", "TIMEOUT":
            guard let address = variable("new_ip_address") else { return 0 }
            request["address"] = .text("\(address)/\(variable("new_subnet_cidr") ?? "32")")
            if let gateway = variable("new_routers")?.split(separator: " ").first {
                request["gateway"] = .text(String(gateway))
            }
            let servers = variable("new_domain_name_servers")?.split(separator: " ").map(String.init) ?? []
            request["resolvers"] = .texts(servers)
        case "EXPIRE", "NAK", "RELEASE", "FAIL", "STOP", "STOPPED", "DEPARTED": break
        // PREINIT, CARRIER, NOCARRIER, ROUTERADVERT and the like change nothing of a lease.
        default: return 0
        }
        do {
            let answer = try EngineClient().ask(.object(request))
            if let error = answer["error"]?.text { Log.say("report-lease: \(error)") }
            return answer["error"] == nil ? 0 : 1
        } catch {
            Log.say("report-lease: \(error)")
            return 1
        }
    }
}
