// swift-tools-version: 6.0
import PackageDescription

/// What lies in a plugin's folder beside its code.
let pluginFiles = ["Network", "Firewall", "NAT", "LAN", "System", "Upgrade"].flatMap { name in
    ["README.md", "manifest.json", "cases", "examples", "vcpe-\(name.lowercased()).yang"].map { "\(name)/\($0)" }
}

/// Kinds of resources: a folder of Sources/Resources each, with its values for plugins in `Value`, and
/// its driver for the engine in `Driver`.
let kinds = [
    "KernelModule", "Sysctl", "Nftables", "Link", "BridgeVLAN", "Address", "Route", "Rule", "Directory", "File",
    "Service", "Secret",
    "Probe", "Setting",
]

/// The C that runs on the box: glibc checks the sizes of buffers. It does so in optimized code only.
let checked: [CSetting] = [.define("_FORTIFY_SOURCE", to: "3", .when(configuration: .release))]

/// What runs on the box, and what both sides share: Debian's C libraries, and no package of others.
let box: [Target] = [
    .systemLibrary(name: "CYaml", pkgConfig: "yaml-0.1", providers: [.apt(["libyaml-dev"])]),
    .systemLibrary(name: "CMnl", pkgConfig: "libmnl", providers: [.apt(["libmnl-dev"])]),
    .systemLibrary(name: "CNftables", pkgConfig: "libnftnl", providers: [.apt(["libnftnl-dev"])]),
    .systemLibrary(name: "CCrypto", pkgConfig: "libcrypto", providers: [.apt(["libssl-dev"])]),
    .systemLibrary(name: "CCurl", pkgConfig: "libcurl", providers: [.apt(["libcurl4-openssl-dev"])]),
    .systemLibrary(name: "CZstd", pkgConfig: "libzstd", providers: [.apt(["libzstd-dev"])]),
    .target(name: "CSystem", cSettings: checked),
    .target(name: "CResolver", cSettings: checked, linkerSettings: [.linkedLibrary("resolv")]),
    .target(name: "Addresses"),
    .target(name: "Checksums"),
    .target(name: "Clocks"),
    .target(name: "Units"),
    .target(name: "Callers", dependencies: ["CSystem", "Units"]),
    .target(name: "Accounts", dependencies: ["CSystem", "Callers"]),
    .target(name: "Terminals"),
    .target(name: "Documents", dependencies: ["CYaml"]),
    .target(name: "Ruleset", dependencies: ["Documents"]),
    .target(name: "Netlink", dependencies: ["Addresses", "CMnl"]),
    .target(name: "Nftables", dependencies: ["CMnl", "CNftables", "Ruleset"]),
    .target(name: "Files", dependencies: ["CSystem"]),
    .target(name: "Processes", dependencies: ["CSystem", "Files"]),
    .target(name: "Slots", dependencies: ["Files"]),
    .target(name: "Disks", dependencies: ["Checksums", "CSystem", "Digests", "Files", "Slots"]),
    .target(name: "Digests", dependencies: ["CCrypto"]),
    .target(name: "Transfers", dependencies: ["CCurl", "CSystem", "Digests", "Files"]),
    .target(
        name: "Updates",
        dependencies: ["CCrypto", "CZstd", "Digests", "Documents", "Files", "Slots", "Transfers"]),
    .target(
        name: "PluginKit", dependencies: ["Addresses", "Documents", "Ruleset", "Units"], path: "Sources",
        sources: ["PluginKit"] + kinds.map { "Resources/\($0)/Value" }),
    .target(name: "Plugins", dependencies: ["PluginKit"], exclude: pluginFiles),
    .target(name: "Planning", dependencies: ["Digests", "Documents", "Files", "PluginKit", "Processes"]),
    .target(
        name: "Engine",
        dependencies: [
            "Accounts", "CSystem", "Callers", "Clocks", "Digests", "Disks", "Documents", "Files", "Netlink", "Nftables",
            "Planning", "PluginKit", "Processes", "Schema", "Slots", "Terminals", "Units",
        ], path: "Sources", sources: ["Engine"] + kinds.map { "Resources/\($0)/Driver" }),
    .target(name: "Schema", dependencies: ["Addresses", "Documents", "Files"]),
    .executableTarget(
        name: "vcpe-box",
        dependencies: ["CResolver", "Clocks", "Engine", "Files", "PluginKit", "Plugins", "Schema", "Terminals"]),
    .executableTarget(
        name: "vcpe-updater",
        dependencies: [
            "Accounts", "CSystem", "Callers", "Clocks", "Digests", "Disks", "Documents", "Files", "Processes", "Slots",
            "Terminals", "Updates",
        ]),
    .executableTarget(
        name: "vcpe-init", dependencies: ["CSystem", "Callers", "Checksums", "Clocks", "Terminals", "Units"]),
]

/// What builds images, and all tests.
let host: [Target] = [
    .systemLibrary(name: "CArchive", pkgConfig: "libarchive", providers: [.apt(["libarchive-dev"])]),
    .target(name: "Archives", dependencies: ["CArchive"]),
    .executableTarget(
        name: "vcpe-tuf",
        dependencies: ["Files", "Updates", .product(name: "ArgumentParser", package: "swift-argument-parser")]),
    .target(
        name: "ImageBuilder",
        dependencies: [
            "Addresses", "Archives", "CCrypto", "CSystem", "Checksums", "Digests", "Disks", "Documents", "Files",
            "Planning",
            "PluginKit", "Processes", "Schema", "Slots", "Transfers", "Units",
        ]),
    .target(
        name: "Releases",
        dependencies: [
            "Addresses", "CCrypto", "Digests", "Documents", "Files", "ImageBuilder", "Processes", "Updates",
        ]),
    .executableTarget(
        name: "vcpe",
        dependencies: [
            "CSystem", "Disks", "Documents", "ImageBuilder", "Planning", "PluginKit", "Processes", "Releases",
            "Terminals",
            .product(name: "ArgumentParser", package: "swift-argument-parser"),
        ]),
    .target(
        name: "TestSupport",
        dependencies: ["Digests", "Documents", "Files", "ImageBuilder", "PluginKit", "Processes", "Ruleset", "Units"],
        path: "Tests/Support"),
    .testTarget(name: "DocumentsTests", dependencies: ["Addresses", "Documents", "Files", "TestSupport"]),
    .testTarget(name: "SchemaTests", dependencies: ["Documents", "Schema"]),
    .testTarget(name: "SourceTests", dependencies: ["Files"]),
    .testTarget(name: "TerminalsTests", dependencies: ["Terminals"]),
    .testTarget(name: "FilesTests", dependencies: ["CSystem", "Files", "TestSupport"]),
    .testTarget(name: "DigestsTests", dependencies: ["Digests"]),
    .testTarget(name: "SlotsTests", dependencies: ["Files", "Processes", "Slots", "TestSupport"]),
    .testTarget(name: "ArchivesTests", dependencies: ["Archives", "Files"]),
    .testTarget(
        name: "NetlinkTests",
        dependencies: ["Addresses", "Documents", "Engine", "Netlink", "PluginKit", "Processes"]),
    .testTarget(
        name: "NftablesTests",
        dependencies: [
            "Documents", "Files", "Nftables", "Planning", "PluginKit", "Processes", "Ruleset", "TestSupport",
        ]),
    .testTarget(
        name: "NetnsTests",
        dependencies: [
            "CSystem", "Documents", "Files", "ImageBuilder", "Planning", "PluginKit", "Processes", "TestSupport",
        ]),
    .testTarget(
        name: "PolicyTests",
        dependencies: [
            "Addresses", "CSystem", "Documents", "Engine", "Files", "Nftables", "Planning", "PluginKit", "Plugins",
            "Processes", "TestSupport",
        ]),
    .testTarget(
        name: "EngineTests",
        dependencies: [
            "Addresses", "CSystem", "Documents", "Engine", "Files", "Netlink", "Planning", "PluginKit", "Processes",
            "Schema",
        ]),
    .testTarget(name: "RulesetTests", dependencies: ["Documents", "Ruleset", "TestSupport"]),
    .testTarget(name: "PluginKitTests", dependencies: ["Documents", "Files", "PluginKit", "TestSupport"]),
    .testTarget(
        name: "PlanningTests", dependencies: ["Documents", "Files", "Planning", "PluginKit", "TestSupport"]),
    .testTarget(name: "UnitsTests", dependencies: ["CSystem", "Files", "TestSupport", "Units"]),
    .testTarget(
        name: "InitTests",
        dependencies: ["CSystem", "Documents", "Files", "PluginKit", "Processes", "TestSupport", "Units"]),
    .testTarget(
        name: "ResourcesTests",
        dependencies: [
            "Addresses", "Documents", "Engine", "Files", "Netlink", "Planning", "PluginKit", "Processes", "TestSupport",
        ],
        exclude: ["drive-objects.py"]),
    .testTarget(
        name: "PluginsTests",
        dependencies: [
            "Documents", "Files", "ImageBuilder", "Planning", "PluginKit", "Plugins", "Schema", "Units",
        ]),
    .testTarget(
        name: "ImageBuilderTests",
        dependencies: [
            "Archives", "Digests", "Disks", "Documents", "Files", "ImageBuilder", "Planning", "PluginKit", "Processes",
            "TestSupport",
        ]),
    .testTarget(name: "TransfersTests", dependencies: ["CSystem", "Transfers", "Processes"]),
    .testTarget(
        name: "UpdatesTests",
        dependencies: [
            "Digests", "Documents", "Engine", "Files", "ImageBuilder", "Processes", "Releases", "Slots", "TestSupport",
            "Updates",
        ],
        exclude: ["attacks.py"]),
    .testTarget(
        name: "BuildTests", dependencies: ["Digests", "Documents", "Files", "ImageBuilder", "Processes", "TestSupport"]),
    .testTarget(
        name: "BootTests",
        dependencies: [
            "Digests", "Disks", "Documents", "Engine", "Files", "ImageBuilder", "Processes", "Slots", "TestSupport",
        ]),
    .testTarget(name: "CommandTests", dependencies: ["Digests", "Documents", "Files", "Processes", "TestSupport"]),
]

/// `ci/box` builds the box's side alone, at a path of its own, without fetching anything.
let isBoxAlone = Context.environment["VCPE_BOX"] != nil

// PluginKit and Engine share Resources: SwiftPM wants to know what of their path is not theirs.
let folders = (isBoxAlone ? box : box + host).filter { $0.path == nil && $0.type != .test }.map(\.name)
for (target, other) in [("PluginKit", "Driver"), ("Engine", "Value")] {
    box.first { $0.name == target }?.exclude =
        folders + ["PluginKit", "Engine"].filter { $0 != target } + kinds.map { "Resources/\($0)/\(other)" }
        + kinds.flatMap { ["Resources/\($0)/README.md", "Resources/\($0)/cases"] }
}

let package = Package(
    name: "vcpe",
    // For plugins that lie in packages of their own.
    products: [.library(name: "PluginKit", targets: ["PluginKit"])],
    dependencies: isBoxAlone
        ? [] : [.package(url: "https://github.com/apple/swift-argument-parser", exact: "1.8.2")],
    targets: isBoxAlone ? box : box + host
)
