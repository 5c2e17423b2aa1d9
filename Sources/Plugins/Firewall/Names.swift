import PluginKit

/// Domain names instead of addresses: a small service asks for them as often as their answers allow, and the engine has what
/// it finds out in sets of the kernel.
struct Names {
    /// A set's names, by the set's own.
    private(set) var wanted: [(key: String, names: [String])] = []

    static let folder = "/run/vcpe/firewall"
    private static let (configuration, user) = ("\(folder)/names.conf", "vcpe-names")

    mutating func add(_ key: String, _ names: [String]) { wanted.append((key, names)) }

    static func feed(_ key: String) -> String { "firewall.names.\(key)" }

    func plan(_ published: Published, _ output: inout PlanOutput) {
        if wanted.isEmpty { return }
        for (key, _) in wanted {
            let feed = Self.feed(key)
            output.add(
                .feed(
                    FeedResource(feed, sets: FedAddresses.plan(feed, &output), file: "\(Self.folder)/names/\(key)")))
        }
        if published.resolvers.values.joined().isEmpty {
            output.say(
                .warning, path: "", "nobody resolves names for the box yet",
                hint: "give network.resolvers, or an interface with dhcp")
        }
        let lines = wanted.map { "set \($0.key) \($0.names.joined(separator: " "))" }
        output.add(DirectoryResource(path: "\(Self.folder)/names", owner: Self.user, mode: 0o755))
        output.add(
            FileResource(
                path: Self.configuration, content: lines.map { $0 + "\n" }.joined(), owner: "root", mode: 0o644))
        output.add(
            ServiceResource(
                name: "firewall-names",
                command: ["/usr/lib/vcpe/resolve-names", Self.configuration, "\(Self.folder)/names"],
                user: Self.user, configurationFiles: [Self.configuration], memory: 32 << 20,
                profile: .init(writable: ["\(Self.folder)/names"])))
    }
}

extension Shape where Value == String {
    /// Of hosts: at least two labels of letters, digits and hyphens (RFC 1123).
    static var domainName: Shape {
        .text("a domain name such as updates.example.com") { isDomainName($0) }
    }

    static func isDomainName(_ text: String) -> Bool {
        let labels = text.split(separator: ".", omittingEmptySubsequences: false)
        guard labels.count >= 2, text.utf8.count <= 253, let last = labels.last else { return false }
        // One that begins with a digit would be an address, or a range, that somebody mistyped.
        return (last.first?.isLetter ?? false)
            && labels.allSatisfy { label in
                (1...63).contains(label.utf8.count) && label.first != "-" && label.last != "-"
                    && label.utf8.allSatisfy {
                        (0x61...0x7A).contains($0) || (0x41...0x5A).contains($0) || (0x30...0x39).contains($0)
                            || $0 == 0x2D || $0 == 0x5F
                    }
            }
    }
}
