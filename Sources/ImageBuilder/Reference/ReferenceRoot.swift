import Digests
import Documents
import Files
import Glibc
import Processes

/// Records what the maintainer scripts of a lock's packages do: an installation as Debian does it,
/// in namespaces of its own.
struct ReferenceRoot {
    let packages: [LockedPackage]
    let graph: PackageGraph
    let cache: Cache
    /// The program whose hidden command `reference-root` runs ``ReferenceInstallation``.
    let program: String
    /// Paths that the image leaves out: what a script makes there need not be the same each time.
    let drop: [PathPattern]
    /// Paths that remain all the same.
    let keep: [PathPattern]

    /// Installs twice, side by side, and takes what both made alike.
    ///
    /// - Throws: ``BuildFailure`` where no namespaces can be made, where a script fails, and for effects that no build can
    ///   reproduce, which name the package.
    func record() async throws -> Effects {
        try Self.checkNamespaces()
        let unpacked = try await UnpackedPackage.readAll(packages, cache: cache)
        let scripts = Dictionary(
            unpacked.map { ($0.package.name, $0.control["preinst"] != nil || $0.control["postinst"] != nil) }
        ) { $1 }
        let order = InstallationOrder(graph, packages: Set(packages.map(\.name))) { scripts[$0] ?? false }
        let observations = try await withThrowingTaskGroup(of: InstallationObservation.self) { group in
            for number in 0..<2 { group.addTask { try install(order, number) } }
            var all: [InstallationObservation] = []
            for try await observation in group { all.append(observation) }
            return all
        }
        try checkReproducible(observations[0], observations[1])
        try checkReproducible(observations[1], observations[0])
        return try effects(observations[0], unpacked)
    }

    // MARK: - The process

    /// - Parameter number: of the installation: both have another host name and start in another second, so that
    ///   neither becomes an effect.
    private func install(_ order: InstallationOrder, _ number: Int) throws -> InstallationObservation {
        usleep(UInt32(number) * 1_100_000)
        let folder = try FileSystem.makeTemporaryDirectory(
            in: try cache.folder("reference"), prefix: FileSystem.temporaryPrefix + "root")
        defer { try? FileSystem.remove(folder) }
        let root = "\(folder)/root"
        try FileSystem.makeDirectory(root)
        let specification = ReferenceInstallation.Specification(
            root: try FileSystem.realPath(root), cache: try FileSystem.realPath(cache.root),
            host: "reference-\(number + 1)", packages: packages, order: order)
        try FileSystem.replace("\(folder)/specification", with: specification.json.line)
        // A session of its own: scripts reach no terminal.
        let result = try Command(
            "setsid",
            ["--wait", "unshare"] + Self.namespaces + [
                "--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child", "--propagation", "private",
                "--", try FileSystem.realPath(program), "reference-root", "\(folder)/specification",
            ]
        ).run()
        if result.status == 0, let json = try? JSON.parse(result.output),
            let observation = InstallationObservation(json)
        {
            return observation
        }
        let lines = result.errorText.split(separator: "\n").map(String.init)
        let first = lines.first ?? ""
        if first.hasPrefix("unshare:") || first.contains(ReferenceInstallation.impossible) {
            throw Self.impossible(first)
        }
        throw BuildFailure(lines.joined(separator: "\n").replacing("error: ", with: ""))
    }

    private static func impossible(_ line: String) -> BuildFailure {
        BuildFailure(
            "the packages' effects can't be recorded here: \(line.replacing("error: ", with: ""))",
            hint: """
                recording needs root, or user namespaces with a range of subordinate ids: apt-get install uidmap, and a line
                for this user in /etc/subuid and /etc/subgid (usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER).
                Or run vcpe lock on another machine and take both files from there: NAME.lock and NAME.effects
                """)
    }

    /// Where no user namespace can be made, `unshare --map-auto` leaves a process behind that waits
    /// for one for ever, with our pipes.
    private static func checkNamespaces() throws {
        if namespaces.isEmpty { return }
        let result = try Command("unshare", ["--user", "true"]).run()
        if result.status != 0 { throw impossible(result.errorText.split(separator: "\n").first.map(String.init) ?? "") }
    }

    /// A user namespace where we are not root: only there an ordinary user may own files of others.
    private static var namespaces: [String] {
        geteuid() == 0 ? [] : ["--user", "--map-auto", "--map-root-user"]
    }

    // MARK: - From observations to effects

    /// What differs between two installations depends on a key, the time or a process: no build
    /// could make it again.
    private func checkReproducible(_ a: InstallationObservation, _ b: InstallationObservation) throws {
        let other = Dictionary(b.changes.map { ($0.path, $0) }) { $1 }
        // By package and reason.
        var paths: [Pair: [String]] = [:]
        for change in a.changes where !isDropped(change.path) {
            var reason: String?
            if other[change.path] != change {
                reason = "different in each installation"
            } else if change.kind == .special {
                reason = "a device, a pipe or a socket"
            } else if change.capabilities == FileCapabilities.unknown {
                reason = "of unknown capabilities"
            } else if change.kind == .file, change.bytes == nil {
                reason = "generated and too large (over \(Size.text(ReferenceInstallation.largestFile)))"
            }
            if let reason { paths[Pair(package: change.package, reason: reason), default: []].append(change.path) }
        }
        var lines = paths.sorted { ($0.key.package, $0.key.reason) < ($1.key.package, $1.key.reason) }.flatMap {
            pair, paths in Self.shortened(paths).map { "  \(pair.package): \($0) is \(pair.reason)" }
        }
        let users = Set(b.users.map(\.name))
        for user in a.users where !users.contains(user.name) {
            lines.append("  \(user.package): the user \(user.name) is not made in each installation")
        }
        guard lines.isEmpty else {
            throw BuildFailure(
                "maintainer scripts made files that no build can make again:\n\(lines.joined(separator: "\n"))",
                hint: "leave them out by drop:, and let the box make them, or give their contents by files:")
        }
    }

    private struct Pair: Hashable {
        var package: String
        var reason: String
    }

    /// Some paths as they are; many as the directories that they have in common, with their number.
    static func shortened(_ paths: [String]) -> [String] {
        guard paths.count > 5 else { return paths.sorted().map { "/" + $0 } }
        // Two components, as in /var/lib or /etc/ssl, say too little; a third names the program.
        let groups = Dictionary(grouping: paths) { path in
            path.split(separator: "/").dropLast().prefix(3).joined(separator: "/")
        }
        return groups.sorted { $0.key < $1.key }.flatMap { folder, paths in
            paths.count > 2 ? ["/\(folder)/** (\(paths.count) files)"] : paths.sorted().map { "/" + $0 }
        }
    }

    private func isDropped(_ path: String) -> Bool {
        drop.contains { $0.matches(path) } && !keep.contains { $0.matches(path) }
    }

    private func effects(_ observation: InstallationObservation, _ packages: [UnpackedPackage]) throws -> Effects {
        var effects = Effects()
        effects.alternatives = observation.alternatives
        effects.diversions = observation.diversions
        let tree = try PackageTree(packages, diversions: observation.diversions).tree
        let sources = GeneratedSources(packages)
        // Debian Policy 9.2.2: numbers below 100 and from 60000 on are the same on all systems.
        func id(_ number: Int) -> Int? { number < 100 || number >= 60_000 ? number : nil }
        let master = BasePasswd(tree)
        for group in observation.groups {
            if !master.groups.contains(group.name) {
                effects.packages[group.package, default: []].append(.group(name: group.name, id: id(group.id)))
            }
            for (member, author) in group.members.sorted(by: { $0.key < $1.key }) {
                effects.packages[author, default: []].append(.member(user: member, of: group.name))
            }
        }
        for user in observation.users where !master.lines.contains(user.line) {
            effects.packages[user.package, default: []].append(
                .user(
                    name: user.name, id: id(user.id), group: user.group, comment: user.comment, home: user.home,
                    shell: user.shell))
        }
        let links = AlternativeLinks(observation.alternatives) { _ in true }
        for change in observation.changes where !isDropped(change.path) {
            if change.kind == .link, links.links[change.path] == change.target { continue }
            let isManual = DefaultDrop.patterns.contains { $0.matches(String(change.target.dropFirst())) }
            if change.path.hasPrefix("etc/alternatives/"), isManual { continue }
            guard let effect = effect(change, sources) else { continue }
            effects.packages[change.package, default: []].append(effect)
        }
        effects.unresolved = try unresolved(tree, effects)
        return effects
    }

    /// What lacks an interpreter or a library although everything is there that Debian would
    /// install.
    private func unresolved(_ tree: Tree, _ effects: Effects) throws -> [Effects.Unresolved] {
        var whole = tree
        for change in effects.packages.values.joined() {
            if case .link(let path, let target) = change {
                whole[path] = TreeEntry(.symbolicLink(target: target), mode: 0o777, origin: Composer.origin)
            }
        }
        let links = AlternativeLinks(effects.alternatives) { whole[PackageTree.canonical($0)] != nil }.links
        for (path, target) in links {
            whole[path] = TreeEntry(.symbolicLink(target: target), mode: 0o777, origin: Composer.origin)
        }
        return try Closure(whole, unchecked: []).gaps.map { Effects.Unresolved(path: $0.path, missing: $0.missing) }
    }

    private func effect(_ change: InstallationObservation.Change, _ sources: GeneratedSources) -> PackageEffect? {
        let attributes = PackageEffect.Attributes(
            mode: change.mode, owner: change.owner, group: change.group, capabilities: change.capabilities)
        switch change.kind {
        case .directory: return .directory(path: change.path, attributes)
        case .attributes: return .attributes(path: change.path, attributes)
        case .link: return .link(path: change.path, target: change.target)
        case .removed: return .removed(path: change.path)
        case .special: return nil
        case .file:
            guard let digest = change.digest, let bytes = change.bytes else { return nil }
            return .file(path: change.path, attributes, sources.source(bytes, digest, of: change.package), digest)
        }
    }
}

/// The names that base-passwd's master files have: the builder takes those from there.
private struct BasePasswd {
    /// Of users: name, comment, home and shell.
    var lines: Set<String> = []
    var groups: Set<String> = []

    init(_ tree: Tree) {
        func fields(_ file: String) -> [[String]] {
            guard let bytes = try? tree.file("usr/share/base-passwd/\(file)")?.read() else { return [] }
            return String(decoding: bytes, as: UTF8.self).split(separator: "\n").map {
                $0.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
            }
        }
        lines = Set(fields("passwd.master").filter { $0.count == 7 }.map { "\($0[0]):\($0[4]):\($0[5]):\($0[6])" })
        groups = Set(fields("group.master").compactMap(\.first))
    }
}

extension InstallationObservation.User {
    fileprivate var line: String { "\(name):\(comment):\(home):\(shell)" }
}

/// Finds files of a package that a generated one was made of. Another package's would not do: an
/// image may lack it.
private struct GeneratedSources {
    private struct Key: Hashable {
        var package: String
        var digest: Digest
    }

    private struct Start: Hashable {
        var package: String
        var bytes: [UInt8]
    }

    private var byDigest: [Key: String] = [:]
    /// Certificates by their first bytes, for files that are others one after the other.
    private var byStart: [Start: [(path: String, content: Content)]] = [:]
    private static let startLength = 64

    init(_ packages: [UnpackedPackage]) {
        for package in packages {
            let name = package.package.name
            for item in package.entries.sorted(by: { $0.path < $1.path }) {
                guard case .file(let content) = item.entry.kind, content.count > 0 else { continue }
                let path = PackageTree.canonical(item.path)
                let key = Key(package: name, digest: content.digest)
                if byDigest[key] == nil { byDigest[key] = path }
                guard (Self.startLength...65_536).contains(content.count),
                    path.hasSuffix(".crt") || path.hasSuffix(".pem"), let bytes = try? content.read()
                else { continue }
                byStart[Start(package: name, bytes: Array(bytes.prefix(Self.startLength))), default: []]
                    .append((path, content))
            }
        }
    }

    func source(_ bytes: [UInt8], _ digest: Digest, of package: String) -> PackageEffect.Source {
        if let path = byDigest[Key(package: package, digest: digest)] { return .copy(of: path) }
        if bytes.count > 4096, let parts = parts(bytes, of: package) { return .parts(parts) }
        return .bytes(bytes)
    }

    /// The files whose bytes, one after the other, are `bytes`; nil when there are none.
    private func parts(_ bytes: [UInt8], of package: String) -> [String]? {
        var parts: [String] = []
        var position = 0
        while position < bytes.count {
            let end = min(bytes.count, position + Self.startLength)
            let start = Start(package: package, bytes: Array(bytes[position..<end]))
            let found = (byStart[start] ?? []).first { candidate in
                guard position + candidate.content.count <= bytes.count, let part = try? candidate.content.read() else {
                    return false
                }
                return bytes[position..<position + part.count].elementsEqual(part)
            }
            guard let found else { return nil }
            parts.append(found.path)
            position += found.content.count
        }
        return parts
    }
}

/// The links that update-alternatives(1) makes in automatic mode.
struct AlternativeLinks {
    /// Targets by path, without a leading slash.
    private(set) var links: [String: String] = [:]

    /// - Parameter isThere: whether a candidate's path is in the tree.
    init(_ alternatives: [Effects.Alternative], isThere: (String) -> Bool) {
        for alternative in alternatives {
            // Of two with one priority the first registered stays.
            var best: Effects.Alternative.Candidate?
            for candidate in alternative.candidates where isThere(String(candidate.path.dropFirst())) {
                if best == nil || candidate.priority > best?.priority ?? 0 { best = candidate }
            }
            guard let best else { continue }
            add(alternative.name, link: alternative.link, path: best.path)
            for (name, link) in alternative.slaves {
                // update-alternatives leaves a slave out whose file is not there.
                guard let path = best.slaves[name], isThere(String(path.dropFirst())) else { continue }
                add(name, link: link, path: path)
            }
        }
    }

    private mutating func add(_ name: String, link: String, path: String) {
        links["etc/alternatives/\(name)"] = path
        links[PackageTree.canonical(String(link.dropFirst()))] = "/etc/alternatives/\(name)"
    }
}
