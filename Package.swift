// swift-tools-version: 6.0
import PackageDescription

let package = Package(
    name: "vcpe",
    targets: [
        .systemLibrary(name: "CYaml", pkgConfig: "yaml-0.1", providers: [.apt(["libyaml-dev"])]),
        .systemLibrary(name: "CArchive", pkgConfig: "libarchive", providers: [.apt(["libarchive-dev"])]),
        .systemLibrary(name: "CCrypto", pkgConfig: "libcrypto", providers: [.apt(["libssl-dev"])]),
        .target(name: "Documents", dependencies: ["CYaml"]),
        .target(name: "CSystem"),
        .target(name: "Files", dependencies: ["CSystem"]),
        .target(name: "Digests", dependencies: ["CCrypto"]),
        .target(name: "Archives", dependencies: ["CArchive"]),
        .target(name: "Processes", dependencies: ["Files"]),
        .target(
            name: "ImageBuilder", dependencies: ["CSystem", "Archives", "Digests", "Documents", "Files", "Processes"]),
        .testTarget(name: "DocumentsTests", dependencies: ["Documents"]),
        .testTarget(name: "FilesTests", dependencies: ["Files"]),
        .testTarget(name: "DigestsTests", dependencies: ["Digests"]),
        .testTarget(name: "ArchivesTests", dependencies: ["Archives", "Files"]),
        .testTarget(name: "ImageBuilderTests", dependencies: ["ImageBuilder", "Processes"]),
    ]
)
