import Documents
import Files
import Glibc
import Planning
import PluginKit
import Units

/// What an image has beside its packages: the skeleton and the engine, which the builder adds, and
/// files and services of the definition.
extension Composer {
    mutating func addSkeleton() {
        for name in ["dev", "proc", "sys", "run", "data", "mnt", "root", "var", "etc", "boot"] {
            if result.tree[name] == nil { put(name, .directory, mode: name == "root" ? 0o700 : 0o755) }
        }
        put("tmp", .directory, mode: 0o1777)
        for name in PackageTree.merged where result.tree[name] == nil {
            if result.tree["usr/" + name] != nil { put(name, .symbolicLink(target: "usr/" + name), mode: 0o777) }
        }
        let links = [
            "etc/resolv.conf": plugins.isEmpty ? "/run/vcpe/resolv.conf" : "/run/vcpe/network/resolv.conf",
            "etc/mtab": "/proc/self/mounts",
            "etc/machine-id": "/run/vcpe/machine-id", "etc/hostname": "/run/vcpe/hostname",
            "etc/hosts": "/run/vcpe/hosts",
            "usr/sbin/init": "../lib/vcpe/vcpe-init", "usr/lib/vcpe/modprobe": "vcpe-init",
            "usr/sbin/poweroff": "../lib/vcpe/vcpe-init", "usr/sbin/reboot": "../lib/vcpe/vcpe-init",
        ]
        for (path, target) in links { put(path, .symbolicLink(target: target), mode: 0o777) }
        if definition.debug, result.tree["usr/bin/sh"] == nil {
            put("usr/bin/sh", .symbolicLink(target: "busybox"), mode: 0o777)
        }
        let release = """
            PRETTY_NAME="\(definition.name) \(definition.version)"
            NAME="vcpe"
            ID=vcpe
            ID_LIKE=debian
            VERSION_ID="\(definition.version)"
            VERSION_CODENAME=\(definition.base.suite)
            IMAGE_ID=\(definition.name)
            IMAGE_VERSION=\(definition.version)

            """
        put(KernelHardening.path, .file(Content(KernelHardening.settings)), mode: 0o644)
        put("usr/lib/os-release", .file(Content(release)), mode: 0o644)
        put("etc/os-release", .symbolicLink(target: "../usr/lib/os-release"), mode: 0o777)
        put(
            "usr/lib/vcpe/image",
            .file(
                Content(
                    "name \(definition.name)\nversion \(definition.version)\nprofile \(profile.name)\n"
                        + "debug \(definition.debug ? "yes" : "no")\n\(built)\(definition.outside.words)")), mode: 0o644
        )
    }

    /// When the image was made, as far as a reproducible one can tell: as its newest package list
    /// was. Empty for a lock without lists.
    private var built: String {
        lock.dates.values.compactMap(SnapshotTime.seconds).max().map { "built \(UTC.text(of: $0))\n" } ?? ""
    }

    /// The engine, the operator's command and the plugins, which are one executable by several
    /// names; the factory site.
    mutating func addPlugins() throws {
        if plugins.isEmpty { return }
        let links = [
            "usr/lib/vcpe/vcpe-engine": "vcpe-box", "usr/bin/vcpe-report": "../lib/vcpe/vcpe-box",
            "usr/lib/vcpe/report-dhcpcd": "vcpe-box", "usr/lib/vcpe/report-charon": "vcpe-box",
            "usr/lib/vcpe/report-pppd-up": "vcpe-box", "usr/lib/vcpe/report-pppd-down": "vcpe-box",
            "usr/lib/vcpe/resolve-names": "vcpe-box", "usr/bin/vcpectl": "../lib/vcpe/vcpe-box",
        ]
        for (path, target) in links { put(path, .symbolicLink(target: target), mode: 0o777) }
        for plugin in plugins {
            let place = "usr/lib/vcpe/plugins/\(plugin.manifest.name)"
            let program = "\(place)/\(plugin.manifest.name)"
            if let bytes = plugin.program {
                put(program, .file(Content(bytes)), mode: 0o755)
            } else {
                put(program, .symbolicLink(target: "../../vcpe-box"), mode: 0o777)
            }
            for file in plugin.files {
                put("\(place)/\(file.name)", .file(Content(file.bytes)), mode: plugin.mode(of: file.name))
            }
        }
        put(
            "usr/lib/vcpe/plugins/\(ForeignPlugins.ownFile)",
            .file(Content(ForeignPlugins.file(plugins.filter(\.isOwn).map(\.manifest.name)))), mode: 0o644)
        result.allocation = try Allocation(of: plugins.map(\.manifest))
        put(
            "usr/lib/vcpe/plugins/\(Allocation.fileName)", .file(Content(result.allocation.json.pretty)),
            mode: 0o644)
        let modules = plugins.flatMap(\.modules).map(\.value).filter { !$0.hasSuffix("/") }
        put(
            "usr/lib/vcpe/modules-load",
            .file(Content(Set(modules).sorted().map { $0 + "\n" }.joined())), mode: 0o644)
        put("usr/lib/vcpe/units/\(Self.engine.name)", .file(Content(try Self.engine.text())), mode: 0o644)
        if !definition.siteKeys.isEmpty {
            let lines = definition.siteKeys.map { "site namespaces=\"vcpe-site\" \($0)\n" }
            put("usr/lib/vcpe/site-keys", .file(Content(lines.joined())), mode: 0o644)
        }
        addLogins()
        guard let site = definition.site else { return }
        do {
            let bytes = try FileSystem.read(try resolve(site))
            // It may have secrets, and the engine alone reads it.
            put("usr/lib/vcpe/site.yaml", .file(Content(bytes)), mode: 0o600)
        } catch let error as SystemError {
            throw InvalidDocument([site.problem("\(error)", hint: "the path is relative to \(folder)")])
        }
    }

    /// What libraries ask to know users: those of the image and, where a plugin brings them, those
    /// of the site.
    private mutating func addLogins() {
        guard result.tree["usr/lib/libnss_extrausers.so.2"] != nil else { return }
        let sources = "files extrausers"
        let lines = [
            "passwd: \(sources)", "group: \(sources)", "shadow: \(sources)", "hosts: files dns", "services: files",
            "protocols: files",
        ]
        put("etc/nsswitch.conf", .file(Content(lines.map { $0 + "\n" }.joined())), mode: 0o644)
        guard result.tree["etc/pam.d"] != nil else { return }
        // What pam-auth-update(8) would have written: accounts of the name service, and nobody
        // else's.
        for (name, text) in [
            ("auth", "auth required pam_unix.so\n"), ("account", "account required pam_unix.so\n"),
            ("password", "password required pam_deny.so\n"), ("session", "session required pam_unix.so\n"),
            ("session-noninteractive", "session required pam_unix.so\n"),
        ] { put("etc/pam.d/common-\(name)", .file(Content(text)), mode: 0o644) }
    }

    /// PID 1's unit of the engine.
    private static let engine = {
        var unit = Unit(name: "engine", command: ["/usr/lib/vcpe/vcpe-engine"])
        unit.readiness = .notify
        unit.watchdog = 120
        unit.isEssential = true
        unit.oomScoreAdjustment = -900
        unit.access = [.`init`]
        // Its commits and timers come before the work of what it has planned; it is root with all
        // of the box in its view, since it writes all of the kernel's state.
        (unit.cpuWeight, unit.ioWeight, unit.processes) = (1000, 1000, 512)
        return unit
    }()

    /// The list of directories that PID 1 makes writable, after all files are there.
    mutating func addWritable() throws {
        if definition.writable.isEmpty { return }
        for located in definition.writable {
            let path = String(located.value.dropFirst())
            guard result.tree[path]?.kind == .directory else {
                throw InvalidDocument([
                    located.problem(
                        "/\(path) is not a directory of the image",
                        hint: "make it by files: {/\(path): {directory: true}}, or add the package that has it")
                ])
            }
        }
        let lines = definition.writable.map { $0.value + "\n" }.sorted()
        put("usr/lib/vcpe/writable", .file(Content(lines.joined())), mode: 0o644)
    }

    mutating func addFiles(_ users: Users) throws {
        for (path, rule) in definition.files.sorted(by: { $0.key < $1.key }) {
            let target = canonical(String(path.dropFirst()))
            let isRemoved = [.absent, .directory].contains(rule.value.source)
            try checkProtected(
                target, Located(value: path, position: rule.position, path: rule.path), isReplaced: !isRemoved)
            guard let uid = users.uid(rule.value.owner), let gid = users.gid(rule.value.group) else {
                throw rule.failing(
                    "there is no user or group \(rule.value.owner):\(rule.value.group) in the image",
                    hint: "add the package that makes it, or the user to users:")
            }
            // A link on the way would put the file elsewhere, or nowhere.
            var above = FileSystem.parent(of: target)
            while let parent = above {
                if let entry = result.tree[parent], entry.kind != .directory {
                    throw rule.failing("/\(parent) is no folder: \(entry.origin) has a file or a link there")
                }
                above = FileSystem.parent(of: parent)
            }
            let kind: TreeEntry.Kind
            var mode: UInt32 = 0o644
            switch rule.value.source {
            case .absent:
                let gone = (result.tree[target] == nil ? [] : [target]) + result.tree.paths(below: target + "/")
                if gone.isEmpty { result.remarks.append("\(rule.position): files: \(path) is absent already") }
                for below in gone { result.tree.remove(below) }
                continue
            case .directory: (kind, mode) = (.directory, 0o755)
            case .link(let to): (kind, mode) = (.symbolicLink(target: to), 0o777)
            case .content(let text): kind = .file(Content(text))
            case .path(let source):
                do {
                    let file = try File(try resolve(source))
                    let status = try file.status().st_mode
                    guard status & S_IFMT == S_IFREG else {
                        throw InvalidDocument([
                            source.problem("\(folder)/\(source.value) is not a file", hint: "trees: takes directories")
                        ])
                    }
                    if status & 0o100 != 0 { mode = 0o755 }
                    kind = .file(Content(try file.readAll()))
                } catch let error as SystemError {
                    throw InvalidDocument([source.problem("\(error)", hint: "the path is relative to \(folder)")])
                }
            }
            var entry = TreeEntry(
                kind, mode: rule.value.mode ?? mode, uid: uid, gid: gid, origin: Self.definitionOrigin)
            if let text = rule.value.capabilities {
                guard let value = FileCapabilities.encode(text) else {
                    throw rule.failing("the capabilities \"\(text)\" are not known")
                }
                entry.attributes[FileCapabilities.attribute] = value
            }
            if result.tree[target]?.kind == .directory, kind != .directory,
                let below = result.tree.sortedPaths.first(where: { $0.hasPrefix(target + "/") })
            {
                throw rule.failing(
                    "\(path) is a directory of \(result.tree[target]?.origin ?? "") with /\(below) in it",
                    hint: "drop: [\(path)/] leaves the directory out first")
            }
            result.tree.detach(target)
            result.tree.addParents(of: target, origin: Self.definitionOrigin)
            result.tree[target] = entry
        }
    }

    /// A source must lie below the definition's folder: what is built is what was committed.
    private func resolve(_ source: Located<String>) throws -> String {
        let escapes = source.value.hasPrefix("/") || source.value.split(separator: "/").contains("..")
        if escapes {
            throw InvalidDocument([
                source.problem(
                    "\"\(source.value)\" leads out of the definition's folder",
                    hint: "allowed is a path below \(folder), without \"..\"")
            ])
        }
        let path = "\(folder)/\(source.value)"
        // A link on the way may lead out as well.
        if let real = try? FileSystem.realPath(path), !real.hasPrefix(try FileSystem.realPath(folder) + "/") {
            throw InvalidDocument([
                source.problem("\"\(source.value)\" is or crosses a link out of the definition's folder")
            ])
        }
        return path
    }
}
