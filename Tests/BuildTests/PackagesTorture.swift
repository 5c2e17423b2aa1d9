import Files
import Glibc
@testable import ImageBuilder
import Processes
import TestSupport
import Testing

/// Images of the packages that a CPE may have, against what mmdebstrap makes of the same packages:
/// files, owners, modes, capabilities, users, groups and links are the same but for the listed
/// exceptions.
@Suite(.serialized) final class PackagesTorture {
    private let own: OwnImages
    private var folder: String { own.folder }

    init() throws { own = try OwnImages() }

    static let packages = [
        "frr", "suricata", "unbound", "strongswan-swanctl", "charon-systemd", "nginx-light", "squid-openssl", "haproxy",
        "keepalived", "snmpd", "kea-dhcp4-server", "libvirt-daemon-system", "mtr-tiny", "openvpn",
        "prometheus-node-exporter", "python3-minimal", "radvd", "tcpdump", "wireguard-tools", "conntrackd",
    ]

    @Test func imagesHoldWhatDebianInstalls() throws {
        var failed: [String] = []
        for names in [Self.packages] + Self.packages.map({ [$0] }) {
            let differences = try compare(names)
            if !differences.isEmpty { failed.append(names.count == 1 ? names[0] : "all") }
            for line in differences { Issue.record("\(names.count == 1 ? names[0] : "all"): \(line)") }
        }
        try Torture.note("packages as mmdebstrap installs them", checked: Self.packages.count + 1, failed: failed.count)
    }

    /// - Returns: a line a difference.
    private func compare(_ names: [String]) throws -> [String] {
        let lock = try own.make("them", "packages: [\(names.joined(separator: ", "))]\npartitions: {root: 2 GiB}\n")
        let root = "\(folder)/root"
        try Command("rm", ["-rf", "--one-file-system", root]).check()
        try StockDebian.install("\(folder)/images/them.yaml", lock, names, to: root)
        let inside = "\(folder)/image"
        try FileSystem.makeDirectory(inside)
        try Command("mount", ["-t", "erofs", "-o", "loop,ro", "\(folder)/out/them/them.root", inside]).check()
        defer { _ = try? Command("umount", [inside]).run() }
        return try differences(lock, root, inside)
    }

    /// A path as both systems can be compared by it: names in place of numbers.
    private struct Item: Hashable {
        var kind: String
        var mode: String
        var owner: String
        var content: String
    }

    /// Everything below a directory, by find(1), sha256sum(1) and getcap(8): none of it is our own
    /// code.
    private func items(_ root: String) throws -> [String: Item] {
        func names(_ file: String) throws -> [String: String] {
            let text = String(decoding: try FileSystem.read("\(root)/etc/\(file)"), as: UTF8.self)
            return Dictionary(
                text.split(separator: "\n").map { line in
                    let fields = line.split(separator: ":", omittingEmptySubsequences: false)
                    return (String(fields[2]), String(fields[0]))
                }
            ) { first, _ in first }
        }
        let (users, groups) = (try names("passwd"), try names("group"))
        var items: [String: Item] = [:]
        let found = try Command("find", [root, "-xdev", "-mindepth", "1", "-printf", "%y|%m|%U|%G|%P|%l\\n"]).check()
        for line in found.text.split(separator: "\n") {
            let fields = line.split(separator: "|", maxSplits: 5, omittingEmptySubsequences: false).map(String.init)
            guard fields.count == 6 else { continue }
            items[fields[4]] = Item(
                kind: fields[0], mode: fields[0] == "l" ? "" : fields[1],
                owner: "\(users[fields[2]] ?? fields[2]):\(groups[fields[3]] ?? fields[3])", content: fields[5])
        }
        let sums = try Command(
            "sh", ["-c", "cd '\(root)' && find . -xdev -type f -print0 | xargs -0 sha256sum"]
        ).check()
        for line in sums.text.split(separator: "\n") where line.count > 68 {
            items[String(line.dropFirst(68))]?.content = String(line.prefix(64))
        }
        for line in try Command("getcap", ["-r", root]).run().text.split(separator: "\n") {
            guard let blank = line.lastIndex(of: " ") else { continue }
            items[String(line[..<blank].dropFirst(root.count + 1))]?.content += String(line[blank...])
        }
        return items
    }

    private func differences(_ lock: Lock, _ root: String, _ image: String) throws -> [String] {
        let inImage = Set((lock.sections["virtio"] ?? []).map(\.name))
        var owners: [String: Set<String>] = [:]
        let database = "\(root)/var/lib/dpkg/info"
        for name in try FileSystem.list(database) where name.hasSuffix(".list") {
            let package = String(name.dropLast(5).prefix { $0 != ":" })
            for path in String(decoding: try FileSystem.read("\(database)/\(name)"), as: UTF8.self).split(
                separator: "\n")
            {
                owners[PackageTree.canonical(String(path.dropFirst())), default: []].insert(package)
            }
        }
        let (theirs, ours) = (try items(root), try items(image))
        var lines: [String] = []
        func isDropped(_ path: String) -> Bool { DefaultDrop.patterns.contains { $0.matches(path) } }
        let expected = theirs.filter { path, item in
            if IgnoredEffects.contains(path, isDirectory: item.kind == "d") { return false }
            if isDropped(path) || Self.isException(path) { return false }
            // Made by a script of tzdata, which is of Debian's priority "required".
            if path == "etc/localtime" || path == "etc/timezone" { return inImage.contains("tzdata") }
            // An alternative's manual page.
            if item.kind == "l", isDropped(String(item.content.drop { $0 == "/" })) { return false }
            return owners[path].map { !$0.isDisjoint(with: inImage) } ?? true
        }
        let parents = Set(theirs.keys.compactMap { FileSystem.parent(of: $0) })
        let kept = Set(
            expected.filter { $0.value.kind != "d" || !parents.contains($0.key) }.keys.flatMap { path in
                sequence(first: path) { FileSystem.parent(of: $0) }
            })
        // Not directories that have only dropped files.
        for (path, item) in expected.sorted(by: { $0.key < $1.key }) where kept.contains(path) {
            guard let own = ours[path] else {
                lines.append("/\(path) is missing")
                continue
            }
            if own != item { lines.append("/\(path) is \(own), Debian's is \(item)") }
        }
        // What the builder adds is below these; services' directories are made at boot on Debian.
        let own = ["usr/lib/vcpe", "data", "usr/lib/modules", "usr/lib/firmware", "var/", "run/"]
        for (path, item) in ours.sorted(by: { $0.key < $1.key }) where theirs[path] == nil && owners[path] == nil {
            if own.contains(where: { path.hasPrefix($0) }) || Self.isOfTheBuilder(path) { continue }
            lines.append("/\(path) is of the image alone: \(item)")
        }
        return lines + (try accounts(root, image))
    }

    /// Users by name with their groups, homes and shells; groups with their members.
    private func accounts(_ root: String, _ image: String) throws -> [String] {
        func table(_ root: String, _ file: String) throws -> [String: [String]] {
            let text = String(decoding: try FileSystem.read("\(root)/etc/\(file)"), as: UTF8.self)
            return Dictionary(
                text.split(separator: "\n").map { line in
                    let fields = line.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
                    return (fields[0], Array(fields.dropFirst(2)))
                }
            ) { first, _ in first }
        }
        func describe(_ users: [String: [String]], _ groups: [String: [String]]) -> [String: String] {
            let names = Dictionary(groups.map { ($0.value[0], $0.key) }) { first, _ in first }
            var described: [String: String] = [:]
            for (name, fields) in users {
                let isFixed = Int(fields[0]).map { $0 < 100 || $0 > 60_000 } ?? false
                described["user \(name)"] =
                    "\(isFixed ? fields[0] : "-") \(names[fields[1]] ?? fields[1]) \(fields[3]) \(fields[4])"
            }
            for (name, fields) in groups {
                described["group \(name)"] = (fields.last ?? "").split(separator: ",").sorted().joined(separator: ",")
            }
            return described
        }
        let theirs = describe(try table(root, "passwd"), try table(root, "group"))
        let ours = describe(try table(image, "passwd"), try table(image, "group"))
        // Of packages whose work the builder does, which are not in the image.
        let absent = [
            "systemd-network", "systemd-journal", "_apt", "input", "kvm", "render", "sgx", "clock", "messagebus",
        ]
        return theirs.filter { ours[$0.key] != $0.value }.sorted { $0.key < $1.key }.compactMap { name, text in
            absent.contains { name.hasSuffix(" \($0)") }
                ? nil : "\(name) is \(ours[name] ?? "missing"), Debian's is \(text)"
        }
    }

    /// What the builder adds to every image.
    private static func isOfTheBuilder(_ path: String) -> Bool {
        [
            "etc/machine-id", "etc/mtab", "etc/hosts", "etc/hostname", "etc/resolv.conf", "etc/os-release",
            "usr/sbin/init", "usr/sbin/poweroff", "usr/sbin/reboot",
        ].contains(path)
    }

    /// What differs on purpose.
    private static func isException(_ path: String) -> Bool {
        [
            // The builder's own identity of the image.
            "usr/lib/os-release",
            // squid's script gives it a capability where setcap is there already, and else setuid:
            // apt may configure libcap2-bin later.
            "usr/lib/squid/pinger",
            // Made by systemd's scripts: it is PID 1 on Debian, and not in an image.
            "etc/default/locale", "etc/vconsole.conf", "root/.ssh", "run/lock/subsys", "var/cache/private",
            "var/lib/private", "var/log/README", "var/log/journal", "var/log/private", "etc/locale.conf",
        ].contains(path)
    }
}
