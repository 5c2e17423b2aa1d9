// swift-tools-version: 6.0
import PackageDescription

let package = Package(
    name: "vcpe",
    targets: [
        .systemLibrary(name: "CYaml", pkgConfig: "yaml-0.1", providers: [.apt(["libyaml-dev"])]),
        .target(name: "Documents", dependencies: ["CYaml"]),
        .testTarget(name: "DocumentsTests", dependencies: ["Documents"]),
    ]
)
