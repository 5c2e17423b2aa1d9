import PluginKit

/// Where the box's releases come from, and when one is good. `vcpe-updater` does it; this says what the site wants.
public enum Upgrade: Plugin {
    public static let manifest = PluginManifest(
        name: "upgrade", version: "0.1.0", summary: "Releases: from where, and when one is good", key: "upgrade",
        yang: "vcpe-upgrade.yang", publishes: [], resources: ["directory", "file"],
        features: [.init("base", packages: ["libcurl4t64", "libssl3t64", "libzstd1"])])

    public static var configuration: Shape<UpgradeConfiguration> { UpgradeConfiguration.shape }

    private static let run = "/run/vcpe/upgrade"

    public static func plan(_ configuration: UpgradeConfiguration, input: PlanInput, into output: inout PlanOutput) {
        let settings: JSON = [
            "repository": .text(configuration.repository), "channel": .text(configuration.channel),
            "health-time": .integer(configuration.healthTime),
        ]
        output.add(.directory(path: run, owner: "root", mode: 0o755))
        output.add(
            .file(path: "\(run)/settings.json", content: settings.line + "\n", owner: "root", mode: 0o644),
            at: "repository")
    }

    public static func publish(_ configuration: UpgradeConfiguration, facts: Facts, into output: inout PublishOutput) {}
}

/// `upgrade:` of a site document.
public struct UpgradeConfiguration: Sendable {
    /// Without a slash at its end; `metadata` and `targets` are below.
    var repository: String
    var channel: String
    /// Seconds.
    var healthTime: Int

    static var shape: Shape<UpgradeConfiguration> {
        .mapping("where releases come from") { fields in
            let repository = fields.required("repository", address)
            let channel = fields.optional("channel", channelName) ?? "stable"
            let healthTime = fields.optional("health-time", .integer(1...600)) ?? 60
            guard let repository else { return nil }
            return UpgradeConfiguration(repository: repository, channel: channel, healthTime: healthTime)
        }
    }

    private static var address: Shape<String> {
        .text("the address of a repository, such as https://updates.example.com or file:///run/stick, without a slash at its end") {
            text in
            let schemes = ["https://", "http://", "file:///"]
            return schemes.contains { text.hasPrefix($0) && text.utf8.count > $0.utf8.count } && text.utf8.last != 0x2F
                && text.utf8.count <= 500 && text.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F && $0 != 0x22 }
        }
    }

    private static var channelName: Shape<String> {
        .text("a channel's name: letters, digits, hyphens and dots, 64 at most") { text in
            (1...64).contains(text.utf8.count) && text.first != "." && text.first != "-"
                && text.utf8.allSatisfy {
                    (0x61...0x7A).contains($0) || (0x41...0x5A).contains($0) || (0x30...0x39).contains($0)
                        || $0 == 0x2D || $0 == 0x2E
                }
        }
    }
}
