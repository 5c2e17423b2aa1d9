import PluginKit

/// Where the box's releases come from, and when one is good. `vcpe-updater` does it; this says what the site wants.
public enum Upgrade: Plugin {
    public static let manifest = PluginManifest(
        name: "upgrade", version: "0.1.0", summary: "Releases: from where, and when one is good", key: "upgrade",
        yang: "vcpe-upgrade.yang", publishes: [], reads: [],
        access: [.power: ["upgrade-updater"]],
        permissions: Permissions(
            services: [
                "upgrade-fetcher": .init(["/usr/lib/vcpe/vcpe-updater"], users: [fetchUser]),
                "upgrade-updater": .init(
                    ["/usr/lib/vcpe/vcpe-updater"], users: ["root"], capabilities: capabilities, systemCalls: [.all],
                    families: [.netlink], devices: ["*"], writable: ["/data", "/run/vcpe"],
                    allows: [.namespaces, .processes, .kernelSettings]),
            ]), locks: [""], resources: ["directory", "file", "service"],
        features: [
            .init(
                "base", packages: ["libcurl4t64", "libssl3t64", "libzstd1"], users: [fetchUser: "/nonexistent"])
        ])

    public static var configuration: Shape<UpgradeConfiguration> { UpgradeConfiguration.shape }

    private static let run = "/run/vcpe/upgrade"
    /// Of the service that has the network.
    private static let fetchUser = "vcpe-fetch"
    private static let capabilities = [
        "chown", "dac_override", "fowner", "kill", "net_admin", "setgid", "setpcap", "setuid", "sys_admin",
        "sys_chroot", "sys_resource",
    ]

    public static func plan(_ configuration: UpgradeConfiguration, input: PlanInput, into output: inout PlanOutput) {
        let (folder, fetcher) = ("\(run)/fetch", "\(run)/fetch/socket")
        let settings: JSON = .object([
            "repository": .text(configuration.repository),
            "mirrors": configuration.mirrors.isEmpty ? nil : .texts(configuration.mirrors),
            "proxy": configuration.proxy.map { .text($0) }, "bandwidth": configuration.bandwidth.map { .integer($0) },
            "group": configuration.group.map { .text($0) }, "director": configuration.director.map { .text($0) },
            "channel": .text(configuration.channel), "fetcher": .text(fetcher),
            "health-time": .integer(configuration.healthTime),
            "window": configuration.window.map { ["from": .integer($0.from), "to": .integer($0.to)] },
            "groups": .object(
                Dictionary(uniqueKeysWithValues: Role.allCases.map { ($0.rawValue, .integer($0.group.number)) })),
        ])
        let file = "\(run)/settings.json"
        output.add(DirectoryResource(path: run, owner: "root", mode: 0o755))
        output.add(
            FileResource(path: file, content: settings.line + "\n", owner: "root", mode: 0o644),
            at: "repository")
        // What servers send is parsed by a process that has the network and reaches nothing else.
        output.add(DirectoryResource(path: folder, owner: fetchUser, mode: 0o700))
        output.add(
            ServiceResource(
                name: "upgrade-fetcher", command: ["/usr/lib/vcpe/vcpe-updater", "fetch", fetcher], user: fetchUser,
                readiness: .file(fetcher), memory: 256 << 20, profile: .init(writable: [folder])))
        // It is root: it writes the other slot and the boot loader's files. It reads that slot as
        // the kernel mounts it, and has the new release's plugins tried there.
        output.add(
            ServiceResource(
                name: "upgrade-updater", command: ["/usr/lib/vcpe/vcpe-updater", "serve"],
                capabilities: capabilities, configurationFiles: [file], memory: 64 << 20,
                profile: .init(
                    writable: ["/data", "/run/vcpe"], devices: ["*"], systemCalls: [.all], families: [.netlink],
                    permissions: [.namespaces, .processes, .kernelSettings]),
                access: [.power]))
    }

    public static func publish(_ configuration: UpgradeConfiguration, facts: Facts, into output: inout PublishOutput) {}
}

/// `upgrade:` of a site document.
public struct UpgradeConfiguration: Sendable {
    /// Without a slash at its end; `metadata` and `targets` are below.
    var repository: String
    /// Addresses that hold the same.
    var mirrors: [String]
    var proxy: String?
    /// Bits a second that are fetched at most.
    var bandwidth: Int?
    var channel: String
    /// Of boxes that the provider's director names releases for.
    var group: String?
    /// Where the director's files are; nil for the repository itself.
    var director: String?
    /// Seconds.
    var healthTime: Int
    /// Seconds after midnight, UTC, at which the box may restart into a new release by itself; one that ends before it begins goes over midnight.
    var window: (from: Int, to: Int)?

    static var shape: Shape<UpgradeConfiguration> {
        .mapping("where releases come from") { fields in
            let repository = fields.required("repository", address)
            let mirrors = fields.optional("mirrors", .list(of: address)) ?? []
            let proxy = fields.optional("proxy", Self.proxy)
            let bandwidth = fields.optional("bandwidth", .bitRate)
            let channel = fields.optional("channel", name) ?? "stable"
            let group = fields.optional("group", name)
            let director = fields.optional("director", address)
            if director != nil, group == nil {
                fields.problems.add(
                    fields.node["director"]?.value ?? fields.node, fields.path + ".director",
                    "a director for a box of no group", hint: "group: its name")
            }
            let healthTime = fields.optional("health-time", .integer(1...300)) ?? 60
            let window = fields.optional("window", Self.window)
            guard let repository else { return nil }
            return UpgradeConfiguration(
                repository: repository, mirrors: mirrors, proxy: proxy, bandwidth: bandwidth, channel: channel,
                group: group, director: director, healthTime: healthTime, window: window)
        }
    }

    private static var window: Shape<(from: Int, to: Int)> {
        .mapping("when the box may restart by itself, in UTC") { fields in
            let (from, to) = (fields.required("from", timeOfDay), fields.required("to", timeOfDay))
            guard let from, let to else { return nil }
            guard from != to else {
                fields.problems.add(
                    fields.node, fields.path, "a window without any time in it", hint: "to is another time than from")
                return nil
            }
            return (from, to)
        }
    }

    private static var timeOfDay: Shape<Int> {
        .scalar("a time of day from \"00:00\" to \"23:59\"") { scalar in
            let parts = scalar.text.split(separator: ":", omittingEmptySubsequences: false)
            guard parts.map(\.utf8.count) == [2, 2], let hour = Int(parts[0]), let minute = Int(parts[1]),
                (0...23).contains(hour), (0...59).contains(minute)
            else { return nil }
            return 3600 * hour + 60 * minute
        }
    }

    private static var proxy: Shape<String> {
        .text("the address of a proxy, such as http://proxy.example.com:3128 or socks5h://192.0.2.1:1080") { text in
            let schemes = ["http://", "socks5h://", "socks5://"]
            return schemes.contains { text.hasPrefix($0) && text.utf8.count > $0.utf8.count } && isPlain(text)
        }
    }

    /// No spaces, no quotes, no slash at the end.
    private static func isPlain(_ text: String) -> Bool {
        text.utf8.last != 0x2F && text.utf8.count <= 500
            && text.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F && $0 != 0x22 }
    }

    private static var address: Shape<String> {
        .text(
            "the address of a repository, such as https://updates.example.com or file:///run/stick, without a slash at its end"
        ) {
            text in
            let schemes = ["https://", "http://", "file:///"]
            return schemes.contains { text.hasPrefix($0) && text.utf8.count > $0.utf8.count } && isPlain(text)
        }
    }

    private static var name: Shape<String> {
        .text("a name: letters, digits, hyphens and dots, 64 at most") { text in
            (1...64).contains(text.utf8.count) && text.first != "." && text.first != "-"
                && text.utf8.allSatisfy {
                    (0x61...0x7A).contains($0) || (0x41...0x5A).contains($0) || (0x30...0x39).contains($0)
                        || $0 == 0x2D || $0 == 0x2E
                }
        }
    }
}
