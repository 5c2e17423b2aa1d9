import PluginKit

/// Dimensions and their values in the words of nftables.
extension Classifier {
    static func letter(_ dimension: Space.Dimension, _ family: IPAddress.Family?) -> String {
        let letter =
            switch dimension {
            case .inbound: "from"
            case .outbound: "to"
            case .source: "src"
            case .destination: "dst"
            case .transport: "proto"
            case .port: "port"
            }
        return letter + (family == .ipv6 ? "6" : "")
    }

    func type(_ dimension: Space.Dimension, _ region: Space) -> DataType {
        switch dimension {
        case .inbound, .outbound: .interfaceName
        case .source, .destination: region.family == .ipv6 ? .ipv6Address : .ipv4Address
        case .transport: .protocolNumber
        case .port: .service
        }
    }

    func selector(_ dimension: Space.Dimension, _ region: Space) -> Expression {
        let network: Selector.Header = region.family == .ipv6 ? .ip6 : .ip
        switch dimension {
        case .inbound: return .meta(.interface)
        case .outbound: return .meta(.outputInterface)
        case .source: return .payload(network, "saddr")
        case .destination: return .payload(network, "daddr")
        case .transport: return .meta(.l4proto)
        case .port:
            switch region[.transport]?.first?.lowerBound {
            case 6: return .payload(.tcp, "dport")
            case 17: return .payload(.udp, "dport")
            case 132: return .payload(.sctp, "dport")
            default: return .payload(.th, "dport")
            }
        }
    }

    func text(_ value: UInt128, _ dimension: Space.Dimension, _ region: Space) -> String {
        switch dimension {
        case .inbound, .outbound: interfaces[Int(value)]
        case .source, .destination: IPAddress(region.family ?? .ipv4, value: value).description
        case .transport: Transports.name(of: Int(value))
        case .port: "\(value)"
        }
    }

    func expression(_ value: UInt128, _ dimension: Space.Dimension, _ region: Space) -> Expression {
        switch dimension {
        case .port: .number(Int(value))
        default: .text(text(value, dimension, region))
        }
    }

    /// A range as elements of a set.
    func expressions(_ range: ClosedRange<UInt128>, _ dimension: Space.Dimension, _ region: Space)
        -> [Expression]
    {
        if range.lowerBound == range.upperBound { return [expression(range.lowerBound, dimension, region)] }
        switch dimension {
        case .inbound, .outbound:
            return (range.lowerBound...range.upperBound).map { expression($0, dimension, region) }
        case .source, .destination:
            return [IPRange(region.family ?? .ipv4, range).expression]
        case .transport, .port: return [.range(.number(Int(range.lowerBound)), .number(Int(range.upperBound)))]
        }
    }

    /// What of a space the region does not say already.
    func conditions(of space: Space, _ region: Space) -> [Statement] {
        var statements: [Statement] = []
        var here = region
        here.family = space.family ?? region.family
        func match(_ dimension: Space.Dimension) {
            guard let wanted = space[dimension], !space.contains(region, along: dimension) else { return }
            let items = wanted.flatMap { expressions($0, dimension, here) }
            statements.append(
                .match(selector(dimension, here), .equal, items.count == 1 ? items[0] : .set(items)))
        }
        match(.inbound)
        match(.outbound)
        if !space.containsFamily(of: region), space[.source] == nil, space[.destination] == nil,
            let family = space.family
        {
            statements.append(.match(.meta(.nfproto), .equal, .text(family == .ipv4 ? "ipv4" : "ipv6")))
        }
        match(.source)
        match(.destination)
        if let ports = space[.port], !space.contains(region, along: .port) {
            // Its header says the protocol too, where that has one of its own.
            here[.transport] = space[.transport] ?? region[.transport]
            let items = ports.flatMap { expressions($0, .port, here) }
            statements.append(.match(selector(.port, here), .equal, items.count == 1 ? items[0] : .set(items)))
        } else {
            match(.transport)
        }
        return statements
    }
}
