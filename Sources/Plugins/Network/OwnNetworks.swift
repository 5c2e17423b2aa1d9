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

extension NetworkConfiguration {
    /// The same with the addresses that interfaces have within the box's own prefix (RFC 4193).
    func with(uniqueLocal prefix: IPPrefix?) -> NetworkConfiguration {
        guard let prefix else { return self }
        var result = self
        for i in result.interfaces.indices {
            guard let number = result.interfaces[i].value.uniqueLocal,
                let address = Self.address(inNetwork: number.value, of: prefix)
            else { continue }
            result.interfaces[i].value.addresses.append(
                Located(value: address, position: number.position, path: number.path))
        }
        return result
    }

    /// The box's address in a network of its own prefix, which 16 bits behind it name (RFC 4193, section 3.1).
    static func address(inNetwork number: Int, of prefix: IPPrefix) -> IPPrefix? {
        IPPrefix(IPAddress(.ipv6, value: prefix.address.value | UInt128(number) << 64 | 1), length: 64)
    }
}

extension Network {
    /// What no interface has of the box's own prefix leads nowhere, and never to the provider
    /// (RFC 4193, section 4.3).
    static func planUniqueLocal(
        _ configuration: NetworkConfiguration, _ facts: Facts, _ output: inout PlanOutput
    ) {
        let numbers = configuration.interfaces.compactMap(\.value.uniqueLocal)
        guard let first = numbers.first else { return }
        if let prefix = facts.uniqueLocal {
            output.add(
                RouteResource(to: prefix, metric: unreachableMetric, action: .unreachable), at: first.path)
        } else {
            for number in numbers {
                output.say(.absent, path: number.path, "the box has no machine ID, which makes its own prefix")
            }
        }
    }

    /// `vcpectl network prefix`: a line each for the prefix and the networks of it that are in use.
    static func show(
        uniqueLocal prefix: IPPrefix?, _ configuration: NetworkConfiguration, into output: inout ShowOutput
    ) {
        output.columns = ["network", "interface"]
        guard let prefix else { return }
        output.add(.text(prefix.description), .text(""))
        for interface in configuration.interfaces.map(\.value) {
            guard let number = interface.uniqueLocal,
                let address = NetworkConfiguration.address(inNetwork: number.value, of: prefix)
            else { continue }
            output.add(.text(address.network.description), .text(interface.name))
        }
    }
}
