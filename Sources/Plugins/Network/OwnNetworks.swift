import Addresses
import PluginKit

extension Network {
    /// Routes of the box's own IPv6 networks where no router advertisement reaches them: the kernel
    /// takes on-link routes of any prefix from one into its main table, the LAN's too, or a part of
    /// it.
    ///
    /// The rules come after the site's own and before the main table. While a link is down, its
    /// network is unreachable; without repair, the kernel alone would have to restore the route, so
    /// there it falls back to the main table.
    ///
    /// - Returns: the networks.
    static func planOwnNetworks(
        _ configuration: NetworkConfiguration, _ present: Set<String>, _ output: inout PlanOutput
    ) -> Set<IPPrefix> {
        let listens = configuration.interfaces.contains {
            $0.value.acceptsRouterAdvertisements && present.contains($0.value.name)
        }
        guard listens else { return [] }
        var known: Set<IPPrefix> = []
        for interface in configuration.interfaces.map(\.value) where present.contains(interface.name) {
            for address in interface.addresses
            where address.value.family == .ipv6 && !address.value.address.isLinkLocal {
                let network = address.value.network
                guard known.insert(network).inserted else { continue }
                guard known.count <= mostOwn else {
                    output.say(
                        .warning, path: address.path,
                        "\(network) and further networks are not kept from router advertisements: \(mostOwn) are",
                        hint: "set router-advertisements: false, or use fewer IPv6 networks")
                    return known.subtracting([network])
                }
                output.add(
                    RuleResource(
                        .ipv6, priority: AllocatedNumber(own, known.count - 1), table: AllocatedNumber(own),
                        destination: network), at: address.path)
                output.add(
                    RouteResource(to: network, link: interface.name, table: AllocatedNumber(own)), at: address.path)
                guard configuration.drift == .repair else { continue }
                output.add(
                    RouteResource(
                        to: network, metric: unreachableMetric, table: AllocatedNumber(own), action: .unreachable),
                    at: address.path)
            }
        }
        return known
    }

    /// Behind the route by the link, whose metric is the kernel's 1024.
    private static let unreachableMetric = 4096
}
