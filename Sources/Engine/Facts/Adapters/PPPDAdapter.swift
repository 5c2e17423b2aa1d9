import Addresses
import PluginKit

/// Reads what pppd gives its scripts `ip-up` and `ip-down` in the environment (pppd(8), SCRIPTS).
public enum PPPDAdapter {
    public static func reports(_ environment: [String: String], isUp: Bool) -> [FactReport] {
        guard let interface = environment["IFNAME"] else { return [] }
        guard isUp else { return [FactReport(Facts.Lease.collection, interface, nil)] }
        guard let local = environment["IPLOCAL"], let address = IPPrefix("\(local)/32") else { return [] }
        let lease = Facts.Lease(
            address: address, gateway: environment["IPREMOTE"].flatMap { IPAddress($0) },
            resolvers: ["DNS1", "DNS2"].compactMap { environment[$0].flatMap { IPAddress($0) } })
        return [FactReport(interface, lease)]
    }
}
