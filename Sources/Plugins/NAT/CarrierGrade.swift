import PluginKit

/// Translation for many subscribers behind few addresses (RFC 6888): each has a block of ports of one address, which follows
/// from its own address alone (RFC 7422), so that nothing need be written down to know who it was.
struct CarrierGrade: Sendable {
    enum Filtering: String, CaseIterable {
        /// Whoever knows a mapping reaches the subscriber by it.
        case endpointIndependent = "endpoint-independent"
        /// Only whom the subscriber has asked.
        case addressAndPortDependent = "address-and-port-dependent"
    }

    var name: String
    var from: Located<String>
    var to: Located<String>
    var subscribers: [Located<IPRange>]
    var pool: [Located<IPRange>]
    /// Of an address, that are given to subscribers.
    var ports: ClosedRange<Int>
    /// Ports of a block; nil for as many as there are for each.
    var block: Int?
    /// Connections of a subscriber at once; nil for as many as it has ports.
    var connections: Int?
    /// New connections of a subscriber.
    var rate: Statement.Limit?
    var filtering = Filtering.endpointIndependent

    /// Subscribers of one translation: the kernel's map has an element for each.
    static let mostSubscribers = 1 << 17

    static var shape: Shape<CarrierGrade> {
        .mapping("a carrier-grade translation") { fields in
            let name = fields.required("name", .name)
            let from = fields.required("from", Shape<String>.name.located)
            let to = fields.required("to", Shape<String>.name.located)
            let subscribers = fields.required("subscribers", .list(of: Shape<IPRange>.addresses.located))
            let pool = fields.required("pool", .list(of: Shape<IPRange>.addresses.located))
            let ports = fields.optional("ports", .ports) ?? 1024...65_535
            let block = fields.optional("ports-per-subscriber", .integer(1...64_512))
            let connections = fields.optional("connections", .integer(1...1_000_000))
            let rate = fields.optional("new-connections", .rate)
            let filtering =
                fields.optional(
                    "filtering",
                    Shape.oneOf(Filtering.allCases.map(\.rawValue)).map { Filtering(rawValue: $0) })
                ?? .endpointIndependent
            fields.refuseEmptyLists(["subscribers", "pool"])
            guard let name, let from, let to, let subscribers, let pool, !subscribers.isEmpty, !pool.isEmpty else {
                return nil
            }
            let carrier = CarrierGrade(
                name: name, from: from, to: to, subscribers: subscribers, pool: pool, ports: ports, block: block,
                connections: connections, rate: rate, filtering: filtering)
            return carrier.check(fields) ? carrier : nil
        }
    }

    private func check(_ fields: Fields) -> Bool {
        let before = fields.problems.problems.count
        for (what, list) in [("subscribers", subscribers), ("pool", pool)] {
            for (i, item) in list.enumerated() {
                if item.value.family != .ipv4 {
                    fields.problems.add(
                        item.problem("\(item.value) is not IPv4", hint: "IPv6 has addresses for everybody"))
                }
                if let other = list[..<i].first(where: { $0.value.values.overlaps(item.value.values) }) {
                    fields.problems.add(
                        item.problem(
                            "\(item.value) overlaps \(other.value) (\(other.path))",
                            hint: "name each address of the \(what) once"))
                }
            }
        }
        if ports.lowerBound < 1024 {
            fields.problems.add(
                fields.node["ports"]?.value ?? fields.node, fields.path + ".ports",
                "ports below 1024 are for services (RFC 4787, REQ-3)", hint: "1024-65535")
        }
        guard fields.problems.problems.count == before else { return false }
        let (many, addresses) = (count(subscribers), count(pool))
        func add(_ message: String, _ hint: String) {
            fields.problems.add(fields.node, fields.path, message, hint: hint)
        }
        if many > Self.mostSubscribers {
            add("\(many) subscribers, and \(Self.mostSubscribers) are allowed", "make several translations")
            return false
        }
        if let block, block > ports.count {
            add("blocks of \(block) ports, and an address has \(ports.count)", "give fewer ports-per-subscriber")
            return false
        }
        // As many on each address as there must be, whatever size that leaves.
        let perAddress = block.map { ports.count / $0 } ?? ports.count
        guard many <= addresses * perAddress else {
            add(
                "\(many) subscribers with \(block ?? 1) ports each, and the pool's \(addresses) addresses have room for "
                    + "\(addresses * perAddress)",
                "give \((many + perAddress - 1) / perAddress) addresses, or fewer ports-per-subscriber")
            return false
        }
        return true
    }

    func count(_ ranges: [Located<IPRange>]) -> Int {
        ranges.reduce(0) { sum, range in
            let more = range.value.values.upperBound - range.value.values.lowerBound
            return more > 1 << 30 || sum > 1 << 30 ? 1 << 31 : sum + Int(more) + 1
        }
    }

    // MARK: - Whose block is which

    /// Ports of each subscriber.
    var blockSize: Int {
        if let block { return block }
        let (many, addresses) = (count(subscribers), count(pool))
        // As many subscribers on each address as there must be, and the ports cut among them.
        let perAddress = (many + addresses - 1) / addresses
        return ports.count / perAddress
    }

    var subscriberCount: Int { count(subscribers) }

    private var blocksPerAddress: Int { ports.count / blockSize }

    static func address(_ place: Int, of ranges: [Located<IPRange>]) -> IPAddress? {
        var rest = UInt128(place)
        for range in ranges.map(\.value) {
            let size = range.values.upperBound - range.values.lowerBound + 1
            if rest < size { return IPAddress(.ipv4, value: range.values.lowerBound + rest) }
            rest -= size
        }
        return nil
    }

    private static func place(of address: IPAddress, in ranges: [Located<IPRange>]) -> Int? {
        var before = UInt128(0)
        for range in ranges.map(\.value) {
            if address.family == range.family, range.values.contains(address.value) {
                return Int(before + address.value - range.values.lowerBound)
            }
            before += range.values.upperBound - range.values.lowerBound + 1
        }
        return nil
    }

    /// The address outside and the ports that a subscriber's packets have; nil for one that is none.
    func block(of subscriber: IPAddress) -> (address: IPAddress, ports: ClosedRange<Int>)? {
        guard let place = Self.place(of: subscriber, in: subscribers) else { return nil }
        return block(at: place)
    }

    func block(at place: Int) -> (address: IPAddress, ports: ClosedRange<Int>)? {
        guard let address = Self.address(place / blocksPerAddress, of: pool) else { return nil }
        let first = ports.lowerBound + place % blocksPerAddress * blockSize
        return (address, first...first + blockSize - 1)
    }

    /// Who has a port of an address outside; nil where it is nobody's.
    func subscriber(of address: IPAddress, port: Int) -> IPAddress? {
        guard let outside = Self.place(of: address, in: pool), ports.contains(port) else { return nil }
        let block = (port - ports.lowerBound) / blockSize
        guard block < blocksPerAddress else { return nil }
        let place = outside * blocksPerAddress + block
        return Self.address(place, of: subscribers)
    }
}
