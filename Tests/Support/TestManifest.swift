import PluginKit

extension PluginManifest {
    /// Of a plugin that plans rules.
    public static func ofTest(
        _ name: String, _ allocates: AllocationRequest, users: [String: String] = [:]
    ) -> PluginManifest {
        PluginManifest(
            name: name, version: "1", summary: "of a test", key: name, yang: "none", permissions: .wide(name),
            resources: ["nftables"],
            allocates: allocates, features: [.init("base", users: users)])
    }
}
