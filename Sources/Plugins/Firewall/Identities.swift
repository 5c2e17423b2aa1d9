import PluginKit

/// Who and what is behind addresses: devices, users that have them, and groups of both that rules name.
struct Identities: Sendable {
    struct Device {
        var name: String
        var mac: MACAddress?
        var addresses: [IPRange]
        /// Seconds since 1970 from which on it is in no group any more.
        var until: Int?
    }

    struct User {
        var name: String
        var devices: [Located<String>]
        var until: Int?
    }

    struct Group {
        enum Member: Hashable {
            case addresses(IPRange)
            case mac(MACAddress)
            /// A device or a user.
            case named(String)
        }

        var name: String
        var members: [Located<Member>]
        /// Nothing from its members and to them passes, established connections neither.
        var isIsolated: Bool
        var bandwidth: Bandwidth?
    }

    var devices: [Located<Device>] = []
    var users: [Located<User>] = []
    var groups: [Located<Group>] = []

    /// Reads `devices`, `users` and `groups`.
    static func read(_ fields: inout Fields) -> Identities {
        var read = Identities()
        read.devices = fields.optional("devices", .list(of: device.located)) ?? []
        read.users = fields.optional("users", .list(of: user.located)) ?? []
        read.groups = fields.optional("groups", .list(of: group.located)) ?? []
        fields.problems.checkUnique(read.devices, "device") { $0.name }
        fields.problems.checkUnique(read.users, "user") { $0.name }
        fields.problems.checkUnique(read.groups, "group") { $0.name }
        let (devices, users) = (read.devices.map(\.value.name), read.users.map(\.value.name))
        for user in read.users {
            for name in user.value.devices where !devices.contains(name.value) {
                fields.problems.add(name.unknown("device", devices))
            }
            if devices.contains(user.value.name) {
                fields.problems.add(
                    user.problem(
                        "a device is called \"\(user.value.name)\" as well", hint: "give every one a name of its own"))
            }
        }
        for member in read.groups.flatMap(\.value.members) {
            guard case .named(let name) = member.value, !devices.contains(name), !users.contains(name) else { continue }
            fields.problems.add(Located(name, at: member).unknown("device or user", devices + users))
        }
        return read
    }

    private static var device: Shape<Device> {
        .mapping("a device") { fields in
            let name = fields.required("name", .name)
            let mac = fields.optional("mac", .macAddress)
            let addresses = fields.optional("addresses", .list(of: .addresses)) ?? []
            let until = fields.optional("until", .time)
            if mac == nil, addresses.isEmpty {
                fields.problems.add(
                    fields.node, fields.path, "a device that nothing tells apart", hint: "give it mac, or addresses")
            }
            return name.map { Device(name: $0, mac: mac, addresses: addresses, until: until) }
        }
    }

    private static var user: Shape<User> {
        .mapping("a user") { fields in
            let name = fields.required("name", .name)
            let devices = fields.required("devices", .list(of: Shape<String>.name.located))
            let until = fields.optional("until", .time)
            guard let name, let devices else { return nil }
            return User(name: name, devices: devices, until: until)
        }
    }

    private static var group: Shape<Group> {
        let member = Shape<Group.Member>.scalar(
            "a device, a user, an address, a network, a range or a hardware address"
        ) { scalar in
            if let range = IPRange(scalar.text) { return .addresses(range) }
            if let mac = MACAddress(scalar.text.lowercased()) { return .mac(mac) }
            return scalar.text.contains(".") || scalar.text.contains(":") ? nil : .named(scalar.text)
        }
        return .mapping("a group") { fields in
            let name = fields.required("name", .name)
            let members = fields.optional("members", .list(of: member.located)) ?? []
            let isIsolated = fields.optional("isolated", .boolean) ?? false
            let bandwidth = fields.optional("bandwidth", Bandwidth.shape)
            return name.map { Group(name: $0, members: members, isIsolated: isIsolated, bandwidth: bandwidth) }
        }
    }

    // MARK: - Planning

    static func feed(_ group: String) -> String { "firewall.group.\(group)" }
    static func macs(_ group: String) -> String { feed(group) + ".mac" }

    /// The three sets of each group, the list that fills them, and what all of its packets are held to.
    ///
    /// - Parameter slowly: whether connections with a bandwidth have to be kept from a fast path.
    func plan(_ published: Published, slowly: Bool, _ output: inout PlanOutput) {
        for group in groups {
            let name = Self.feed(group.value.name)
            let sets = FedAddresses.plan(name, &output) + [Self.macs(group.value.name)]
            output.add(set: NamedSet(Self.macs(group.value.name), key: [.etherAddress], flags: [.timeout]))
            var ends: [FeedMember.What: Int] = [:]
            for member in members(of: group.value) {
                ends[member.what] = max(ends[member.what] ?? 0, member.until ?? .max)
            }
            let members = ends.map { FeedMember($0.key, until: $0.value == .max ? nil : $0.value) }
            output.add(
                .feed(FeedResource(name, sets: sets, members: members.sorted { $0.description < $1.description })),
                at: group.path)
        }
        planIsolation(&output)
        Bandwidth.plan(groups, published, slowly: slowly, &output)
    }

    private func members(of group: Group) -> [FeedMember] {
        group.members.flatMap { member -> [FeedMember] in
            switch member.value {
            case .addresses(let range): return [FeedMember(.addresses(range))]
            case .mac(let mac): return [FeedMember(.mac(mac))]
            case .named(let name):
                if let device = devices.first(where: { $0.value.name == name })?.value {
                    return Self.members(of: device, until: nil)
                }
                guard let user = users.first(where: { $0.value.name == name })?.value else { return [] }
                return user.devices.flatMap { wanted in
                    devices.filter { $0.value.name == wanted.value }.flatMap {
                        Self.members(of: $0.value, until: user.until)
                    }
                }
            }
        }
    }

    private static func members(of device: Device, until: Int?) -> [FeedMember] {
        let ends = [device.until, until].compactMap { $0 }.min()
        return (device.mac.map { [FeedMember(.mac($0), until: ends)] } ?? [])
            + device.addresses.map { FeedMember(.addresses($0), until: ends) }
    }

    /// Before anything that lets established connections pass.
    private func planIsolation(_ output: inout PlanOutput) {
        let isolated = groups.filter(\.value.isIsolated)
        if isolated.isEmpty { return }
        var rules: [Rule] = []
        for group in isolated {
            let (name, comment) = (group.value.name, "firewall: \(group.path) \(group.value.name) is isolated")
            let counter = "firewall.isolated.\(name)"
            output.add(.counter(NamedCounter(counter, comment: comment)))
            let matches =
                [("saddr", IPAddress.Family.ipv4), ("daddr", .ipv4), ("saddr", .ipv6), ("daddr", .ipv6)].map {
                    FedAddresses.isIn(Self.feed(name), $1, $0)
                } + [.match(.payload(.ether, "saddr"), .equal, .named(Self.macs(name)))]
            rules += matches.map { Rule([$0, .counter(counter), .verdict(.drop)], comment: comment) }
        }
        output.add(.chain(Chain("firewall.isolation", rules: rules), stage: .init(.forwardGuard, order: 50)))
        // The same rules: a chain is called at one stage.
        output.add(.chain(Chain("firewall.isolation-box", rules: rules), stage: .init(.inputGuard, order: 50)))
    }
}

/// A set of addresses, of each family one, whose members come from a feed.
enum FedAddresses {
    static func name(_ feed: String, _ family: IPAddress.Family) -> String { feed + (family == .ipv4 ? "" : ".6") }

    /// - Returns: their names.
    static func plan(_ feed: String, _ output: inout PlanOutput) -> [String] {
        IPAddress.Family.allCases.map { family in
            output.add(
                set: NamedSet(
                    name(feed, family), key: [family == .ipv4 ? .ipv4Address : .ipv6Address],
                    flags: [.interval, .timeout]))
            return name(feed, family)
        }
    }

    static func isIn(_ feed: String, _ family: IPAddress.Family, _ field: String) -> Statement {
        isIn(set: name(feed, family), family, field)
    }

    /// The same of a set by its own name.
    static func isIn(set: String, _ family: IPAddress.Family, _ field: String) -> Statement {
        .match(.payload(family == .ipv4 ? .ip : .ip6, field), .equal, .named(set))
    }
}

extension Located {
    /// Another value at the same place.
    init(_ value: Value, at other: Located<some Any>) {
        self.init(value: value, position: other.position, path: other.path)
    }
}

extension Located where Value == String {
    /// There is no such thing.
    func unknown(_ what: String, _ known: [String]) -> Problem {
        let meant = didYouMean(value, among: known).map { "did you mean \($0)? " } ?? ""
        return problem(
            "there is no \(what) \"\(value)\"",
            hint: meant + "known are \(known.isEmpty ? "none" : known.sorted().joined(separator: ", "))")
    }
}
