import Files
import Digests
import Documents
import PluginKit

/// The documents about an image's contents: the manifest's lines, the bill of materials and the
/// size report.
struct Report {
    let definition: Definition
    let profile: HardwareProfile
    let packages: [UnpackedPackage]
    let composed: Composer.Result
    let verity: Verity
    /// Bytes by output.
    let sizes: [String: Int]
    let box: [String: Content]
    /// Packages that are in the image outside of the root: systemd-boot and its stub.
    let loaders: [UnpackedPackage]
    let isSigned: Bool
    let plugins: [BuiltPlugin]

    private var files: [(path: String, entry: TreeEntry)] {
        composed.tree.sortedPaths.compactMap { path in composed.tree[path].map { (path, $0) } }
    }

    /// The canonical lines of packages and files, which follow the outputs' digests in the
    /// manifest.
    var contents: String {
        var lines = (packages + loaders).map {
            "package \($0.package.name) \(Quoting.quoted($0.package.version)) \($0.package.architecture)"
        }
        lines += files.map { Manifest.line($0.path, $0.entry) }
        return lines.map { $0 + "\n" }.joined()
    }

    /// SPDX 2.3: the image contains packages, files come from packages or were made for the image.
    func spdx() throws -> String {
        let name = "\(definition.name) \(definition.version) \(profile.name) \(verity.rootHash.hex)\n"
        let digest = SHA256.hash(Array((name + contents).utf8)).hex
        let root = "SPDXRef-image"
        func identifier(_ package: String) -> String { "SPDXRef-deb-" + package.replacing("+", with: "-plus") }
        var elements: [JSON] = [
            [
                "SPDXID": .text(root), "name": .text(definition.name), "versionInfo": .text(definition.version),
                "downloadLocation": "NOASSERTION", "filesAnalyzed": false, "primaryPackagePurpose": "OPERATING-SYSTEM",
                "checksums": [["algorithm": "SHA256", "checksumValue": .text(digest)]],
            ]
        ]
        var relations: [JSON] = [
            ["spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES", "relatedSpdxElement": .text(root)]
        ]
        for package in packages + loaders {
            let locked = package.package
            let id = identifier(locked.name)
            let version = locked.version.replacing("+", with: "%2B").replacing(":", with: "%3A")
            let address =
                "pkg:deb/debian/\(locked.name.replacing("+", with: "%2B"))@\(version)"
                + "?arch=\(locked.architecture)&distro=\(definition.base.suite)"
            elements.append([
                "SPDXID": .text(id), "name": .text(locked.name), "versionInfo": .text(locked.version),
                "downloadLocation": "NOASSERTION", "filesAnalyzed": false,
                "packageFileName": .text(locked.path), "supplier": "Organization: Debian",
                "sourceInfo": .text("built package from: \(package.fields["Source"] ?? locked.name)"),
                "checksums": [["algorithm": "SHA256", "checksumValue": .text(locked.digest.hex)]],
                "externalRefs": [
                    [
                        "referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl",
                        "referenceLocator": .text(address),
                    ]
                ],
            ])
            relations.append([
                "spdxElementId": .text(root), "relationshipType": "CONTAINS", "relatedSpdxElement": .text(id),
            ])
        }
        let names = Set(packages.map(\.package.name))
        var contents: [JSON] = []
        for (number, (path, entry)) in files.enumerated() {
            guard case .file(let content) = entry.kind else { continue }
            let id = "SPDXRef-file-\(number)"
            let bytes = try content.read()
            contents.append([
                "SPDXID": .text(id), "fileName": .text("./" + path),
                "checksums": [
                    ["algorithm": "SHA1", "checksumValue": .text(SHA1.hash(bytes))],
                    ["algorithm": "SHA256", "checksumValue": .text(content.digest.hex)],
                ],
            ])
            let isPackaged = names.contains(entry.origin)
            relations.append([
                "spdxElementId": .text(id),
                "relationshipType": isPackaged ? "EXPANDED_FROM_ARCHIVE" : "GENERATED_FROM",
                "relatedSpdxElement": .text(isPackaged ? identifier(entry.origin) : root),
            ])
        }
        let document: JSON = [
            "spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT",
            "name": .text("\(definition.name)-\(definition.version)-\(profile.name)"),
            "documentNamespace": .text(
                "https://vcpe.invalid/spdx/\(definition.name)-\(digest)"),
            "creationInfo": ["created": "2000-01-01T00:00:00Z", "creators": ["Tool: vcpe"]],
            "packages": .list(elements), "files": .list(contents), "relationships": .list(relations),
        ]
        return document.pretty
    }

    static let largestHeading = "The ten largest packages:"

    /// The size report for the operator.
    var text: String {
        var lines = ["\(definition.name) \(definition.version) for \(profile.name)", ""]
        lines += sizes.sorted { $0.key < $1.key }.map { "  \(pad($0.key, 24))\(Size.text($0.value))" }
        for (path, content) in box.sorted(by: { $0.key < $1.key }) {
            lines.append("  \(pad(path, 24))\(Size.text(content.count))")
        }
        lines.append("  \(pad("Secure Boot", 24))\(isSigned ? "signed" : "not signed: the definition has no key")")
        lines += ["", "The root's bytes by group:"]
        var byGroup: [String: Int] = [:]
        var byPackage: [String: Int] = [:]
        for (path, entry) in files {
            guard case .file(let content) = entry.kind else { continue }
            let group =
                path.hasPrefix("usr/lib/modules/")
                ? "kernel modules"
                : path.hasPrefix("usr/lib/firmware/")
                    ? "firmware" : path.hasPrefix("usr/lib/vcpe/") ? "vcpe's own" : "packages"
            byGroup[group, default: 0] += content.count
            byPackage[entry.origin, default: 0] += content.count
        }
        lines += byGroup.sorted { ($0.value, $1.key) > ($1.value, $0.key) }.map {
            "  \(pad($0.key, 24))\(Size.text($0.value))"
        }
        lines.append(
            "  \(composed.kernel.moduleCount) of \(composed.kernel.availableCount) kernel modules, kernel \(composed.kernel.release)"
        )
        lines += ["", Self.largestHeading]
        lines += byPackage.sorted { ($0.value, $1.key) > ($1.value, $0.key) }.prefix(10).map {
            "  \(pad($0.key, 40))\(Size.text($0.value))"
        }
        lines += Self.permissions(of: plugins) + allocated + leftOut
        if !composed.remarks.isEmpty { lines += ["", "Remarks:"] + composed.remarks.map { "  \($0)" } }
        return lines.joined(separator: "\n") + "\n"
    }

    /// What the plugins can do at most: another's first.
    static func permissions(of plugins: [BuiltPlugin]) -> [String] {
        if plugins.isEmpty { return [] }
        let sorted = plugins.sorted { ($0.isOwn ? 1 : 0, $0.manifest.name) < ($1.isOwn ? 1 : 0, $1.manifest.name) }
        return ["", "What plugins can do:"]
            + sorted.flatMap { plugin in
                ["  \(plugin.manifest.name)\(plugin.isOwn ? "" : ", of a third party")"]
                    + plugin.manifest.granted.words.map { "    \($0)" }
            }
    }

    /// The numbers that the plugins share.
    private var allocated: [String] {
        guard !composed.allocation.lines.isEmpty else { return [] }
        return ["", "Allocated to plugins:"] + composed.allocation.lines.map { "  \($0)" }
    }

    /// The files of the packages that the image leaves out, by package.
    private var leftOut: [String] {
        let all = composed.leftOut.sorted { ($0.value.size, $1.key) > ($1.value.size, $0.key) }
        let size = all.reduce(0) { $0 + $1.value.size }
        var lines = ["", "Left out of the packages: \(Size.text(size))"]
        for (package, left) in all {
            let reasons = left.byReason.sorted { ($0.value, $1.key) > ($1.value, $0.key) }
            let shown = reasons.prefix(3).map { "\($0.key) \(Size.text($0.value))" }.joined(separator: ", ")
            lines.append(
                "  \(pad(package, 32))\(pad(Size.text(left.size), 10))\(left.files) files: \(shown)"
                    + (reasons.count > 3 ? ", …" : ""))
        }
        return lines
    }

    private func pad(_ text: String, _ width: Int) -> String {
        text + String(repeating: " ", count: max(1, width - text.count))
    }
}
