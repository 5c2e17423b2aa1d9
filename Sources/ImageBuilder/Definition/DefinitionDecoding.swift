import Digests
import Documents
import Files
import PluginKit
import Units

extension Definition {
    /// Reads a definition and all that it extends.
    ///
    /// - Parameter path: such as `images/branch-office.yaml`.
    /// - Throws: `InvalidDocument` with every problem found; `SystemError` for a file that can't be read.
    public static func read(_ path: String) throws -> Definition {
        let problems = ProblemList()
        let node = try document(path, above: [])
        let definition = shape.read(node, path: "", into: problems)
        let stem = FileSystem.name(of: path).split(separator: ".").dropLast().joined(separator: ".")
        if let definition, definition.name != stem, let name = node["name"] {
            problems.add(
                name.value, "name", "found \"\(definition.name)\" in \(FileSystem.name(of: path))",
                hint: "the file's name and the image's are the same: \(stem)")
        }
        try problems.throwIfAny()
        guard let definition else { throw InvalidDocument(problems.problems) }
        return definition
    }

    /// The document with what it extends beneath it.
    private static func document(_ path: String, above: [String]) throws -> Node {
        let node = try YAML.read(try FileSystem.read(path), file: path)
        guard let extends = node["extends"] else { return node }
        let problems = ProblemList()
        let name = Shape.text("the name of a definition beside this one", where: isName).read(
            extends.value, path: "extends", into: problems)
        try problems.throwIfAny()
        guard let name else { return node }
        let folder = FileSystem.parent(of: path) ?? "."
        let basePath = "\(folder)/\(name).yaml"
        if above.contains(basePath) || basePath == path {
            problems.add(extends.value, "extends", "\(name) extends itself, by way of \(path)")
        } else if !FileSystem.exists(basePath) {
            let known = (try? FileSystem.list(folder)) ?? []
            let names = known.filter { $0.hasSuffix(".yaml") }.map { String($0.dropLast(5)) }
            let meant = didYouMean(name, among: names).map { "did you mean \($0)?" }
            problems.add(extends.value, "extends", "there is no \(basePath)", hint: meant)
        }
        try problems.throwIfAny()
        // What an image is called is its own: a base may be an image of its own.
        let base = try document(basePath, above: above + [path]).without("name")
        return node.without("extends").extending(base)
    }

    private static func isName(_ text: String) -> Bool {
        guard let first = text.utf8.first, first >= 0x61 && first <= 0x7A, text.utf8.count <= 60 else { return false }
        return text.utf8.allSatisfy { (0x61...0x7A).contains($0) || (0x30...0x39).contains($0) || $0 == 0x2D }
    }

    private static var name: Shape<String> {
        .text("a name of lower-case letters, digits and hyphens, starting with a letter", where: isName)
    }

    /// Where the running box mounts what has nothing to do with the image. PID 1 copies what the
    /// image has in /run, /tmp and /var into the memory file systems that it mounts there.
    static let hiddenPlaces = ["/proc", "/sys", "/dev", "/data"]

    /// Debian Policy 5.6.1.
    static var packageName: Shape<String> {
        .text("a Debian package's name: lower-case letters, digits, plus, minus and dots") { text in
            text.utf8.count >= 2 && ![0x2B, 0x2D, 0x2E].contains(text.utf8.first ?? 0x2B)
                && text.utf8.allSatisfy {
                    (0x61...0x7A).contains($0) || (0x30...0x39).contains($0) || [0x2B, 0x2D, 0x2E].contains($0)
                }
        }
    }

    private static var absolutePath: Shape<String> {
        .text("an absolute path without \".\", \"..\" or doubled slashes") { path in
            path.hasPrefix("/") && path.utf8.count > 1 && path.utf8.count < 4096
                && path.dropFirst().split(separator: "/", omittingEmptySubsequences: false).allSatisfy {
                    !$0.isEmpty && $0 != "." && $0 != ".." && $0.utf8.count < 256
                        && !$0.unicodeScalars.contains { $0.value < 0x20 }
                }
        }
    }

    private static var plugin: Shape<PluginChoice> {
        let whole = pluginName.located
        let part = Shape<PluginChoice>.mapping("a plugin, which of its features, and what it may have") { fields in
            // Two words for one thing: a name is also a path's short form.
            let name = fields.has("path") ? fields.required("path", whole) : fields.required("name", whole)
            let features = fields.optional("features", .list(of: Self.name.located))
            let allow = fields.optional("allow", Permissions.allowed.located)
            return name.map { PluginChoice(name: $0, features: features, allow: allow) }
        }
        return Shape("\(whole.allowed), or a mapping of name or path, features and allow") { node, path, problems in
            if case .mapping = node.value { return part.read(node, path: path, into: problems) }
            return whole.read(node, path: path, into: problems).map { PluginChoice(name: $0, features: nil) }
        }
    }

    private static var pluginName: Shape<String> {
        .text("a plugin's name, or the path of its folder, relative to the definition's folder") {
            isName($0) || $0.contains("/") && !$0.contains("\0")
        }
    }

    static var hostPath: Shape<String> {
        .text("a path relative to the definition's folder") { !$0.isEmpty && !$0.contains("\0") }
    }

    static var oneLine: Shape<String> {
        .text("a text of one line") { !$0.isEmpty && !$0.unicodeScalars.contains { $0.value < 0x20 } }
    }

    private static var shape: Shape<Definition> {
        .mapping("an image definition") { fields in
            let name = fields.required("name", Self.name)
            let version = fields.required(
                "version",
                .text("a version of letters, digits, dots, plus, tilde and hyphens") { text in
                    !text.isEmpty && text.utf8.count <= 40
                        && text.utf8.allSatisfy {
                            (0x30...0x39).contains($0) || (0x41...0x5A).contains($0) || (0x61...0x7A).contains($0)
                                || [0x2E, 0x2B, 0x7E, 0x2D].contains($0)
                        }
                })
            let base = fields.required("base", Self.base)
            let profiles = fields.required("profiles", .list(of: Self.listed(Self.name))).map {
                Self.remaining($0).taken
            }
            if profiles?.isEmpty == true {
                fields.problems.add(fields.node["profiles"]?.value ?? fields.node, "profiles", "the list is empty")
            }
            let listed = fields.optional("packages", .list(of: Self.listed(packageName))) ?? []
            let (asked, excluded) = Self.remaining(listed)
            var packages = asked
            let essential = fields.optional("essential", .boolean) ?? true
            let archives = Self.archives(&fields)
            let debs = fields.optional("debs", .list(of: hostPath.located)) ?? []
            let keep = fields.optional("keep", .list(of: PathPattern.shape.located)) ?? []
            let drop = fields.optional("drop", .list(of: PathPattern.shape.located)) ?? []
            let prune =
                fields.optional(
                    "prune", .list(of: Shape.oneOf(Prune.allCases.map(\.rawValue)).map { Prune(rawValue: $0) })) ?? []
            let unchecked = fields.optional("unchecked", .list(of: PathPattern.shape)) ?? []
            let trees = fields.optional("trees", .list(of: Self.tree)) ?? []
            let modules = fields.optional("modules", .list(of: Shape.text.located)) ?? []
            let plugins = fields.optional("plugins", .list(of: plugin)) ?? []
            let site = fields.optional("site", hostPath.located)
            let siteKeys = fields.optional("site-keys", .list(of: Shape.sshPublicKey.located)) ?? []
            // What verifies their signatures.
            if let first = siteKeys.first, !packages.contains(where: { $0.value == "openssh-client" }) {
                packages.append(Located(value: "openssh-client", position: first.position, path: first.path))
            }
            let outside = Self.outside(&fields, hasKeys: !siteKeys.isEmpty)
            let hasFactoryReset = fields.optional("factory-reset-entry", .boolean) ?? true
            let proofs = fields.optional("proofs", .list(of: Proof.shape)) ?? []
            let writable = fields.optional("writable", .list(of: writablePath.located)) ?? []
            let files = fields.optional("files", .dictionary(absolutePath, file.located)) ?? []
            let services = fields.optional("services", .dictionary(Self.name, service.located)) ?? []
            let users = fields.optional("users", .dictionary(userName, user)) ?? []
            let partitions = fields.optional("partitions", Self.partitions) ?? Partitions()
            let budget = Shape.dictionary(.oneOf(budgetNames), Shape.byteCount(1...(1 << 40)).located).map {
                Dictionary($0.map { ($0.key, $0.value) }) { $1 }
            }
            let budgets = fields.optional("budgets", .dictionary(.oneOf(profiles?.map(\.value) ?? []), budget)) ?? []
            let debug = fields.optional("debug", Shape.boolean.located)
            if let debug, debug.value, !packages.contains(where: { $0.value == debugShell }) {
                packages.append(Located(value: debugShell, position: debug.position, path: debug.path))
            }
            let firmware = fields.optional("firmware", .boolean) ?? true
            let secureBoot = fields.optional("secure-boot", Self.secureBoot)
            let outputs =
                fields.optional(
                    "outputs",
                    .list(of: Shape.oneOf(Output.allCases.map(\.rawValue)).map { Output(rawValue: $0) })) ?? [.rawZstd]
            for (path, rule) in files where hiddenPlaces.contains(where: { path == $0 || path.hasPrefix($0 + "/") }) {
                fields.problems.add(
                    rule.problem(
                        "\(path) is hidden on a running box by a file system that is mounted there",
                        hint: "allowed is any path but those below \(hiddenPlaces.joined(separator: ", "))"))
            }
            guard let name, let version, let base, let profiles else { return nil }
            return Definition(
                digest: SHA256.hash(Array(fields.node.canonical.utf8)), name: name, version: version, base: base,
                profiles: profiles, packages: packages, excluded: excluded, essential: essential, archives: archives,
                debs: debs, keep: keep, drop: drop, prune: Set(prune), unchecked: unchecked, trees: trees,
                modules: modules,
                plugins: plugins, site: site,
                siteKeys: siteKeys.map(\.value), outside: outside, hasFactoryReset: hasFactoryReset, proofs: proofs,
                writable: writable,
                files: Dictionary(files.map { ($0.key, $0.value) }) { $1 },
                services: Dictionary(services.map { ($0.key, $0.value) }) { $1 },
                users: Dictionary(users.map { ($0.key, $0.value) }) { $1 }, partitions: partitions,
                budgets: Dictionary(budgets.map { ($0.key, $0.value) }) { $1 }, debug: debug?.value ?? false,
                firmware: firmware,
                secureBoot: secureBoot, outputs: outputs)
        }
    }

    private static var base: Shape<Base> {
        .mapping("suite and architecture") { fields in
            let suite = fields.required("suite", .oneOf(["trixie"]))
            let architecture = fields.required("architecture", .oneOf(["amd64"]))
            let components =
                fields.optional("components", .list(of: .oneOf(["main", "contrib", "non-free", "non-free-firmware"])))
                ?? ["main"]
            let mirror = fields.optional("mirror", archiveURL)
            let securityMirror = fields.optional("security-mirror", archiveURL)
            let signedBy = fields.optional("signed-by", hostPath.located)
            guard let suite, let architecture else { return nil }
            return Base(
                suite: suite, architecture: architecture, components: components, mirror: mirror,
                securityMirror: securityMirror, signedBy: signedBy)
        }
    }

    private static var file: Shape<File> {
        .mapping("one of source, content, link, directory and absent; mode, owner, group, capabilities") { fields in
            let source = fields.optional("source", hostPath.located)
            let content = fields.optional("content", .text)
            let link = fields.optional("link", oneLine)
            // The other value would say nothing: the key is left out for that.
            let yes = Shape<Bool>.boolean.map("true") { $0 ? true : nil }
            let directory = fields.optional("directory", yes)
            let absent = fields.optional("absent", .boolean)
            let mode = fields.optional("mode", Self.mode)
            let owner = fields.optional("owner", oneLine) ?? "root"
            let group = fields.optional("group", oneLine) ?? "root"
            let capabilities = fields.optional("capabilities", oneLine)
            let given = ["source", "content", "link", "directory", "absent"].filter { fields.has($0) }
            if given.count != 1 {
                fields.problems.add(
                    fields.node, fields.path,
                    given.isEmpty
                        ? "it says nothing of what stands there" : "\(given.joined(separator: " and ")) together",
                    hint: "give exactly one of source, content, link, directory and absent")
            }
            // What the extended definition takes away stays.
            if absent == false { return nil }
            let what: File.Source? =
                source.map { .path($0) } ?? content.map { .content($0) } ?? link.map { .link(target: $0) }
                ?? (directory == true ? .directory : absent == true ? .absent : nil)
            return what.map { File(source: $0, mode: mode, owner: owner, group: group, capabilities: capabilities) }
        }
    }

    static var mode: Shape<UInt32> {
        .scalar("permission bits in octal digits, such as 0644") { scalar in
            guard (3...4).contains(scalar.text.count) else { return nil }
            return UInt32(scalar.text, radix: 8)
        }
    }

    private static var service: Shape<Service> {
        .mapping("a service") { fields in
            let command = fields.optional("command", .list(of: oneLine))
            let unit = fields.optional("unit", unitName)
            let user = fields.optional("user", oneLine)
            let group = fields.optional("group", oneLine)
            let restart = fields.optional(
                "restart", Shape.oneOf(Unit.Restart.allCases.map(\.rawValue)).map { Unit.Restart(rawValue: $0) })
            let environment = fields.optional("environment", .dictionary(oneLine, oneLine)) ?? []
            let directories = fields.optional("directories", .list(of: runtimePath)) ?? []
            let enabled = fields.optional("enabled", .boolean) ?? true
            let program: Service.Program
            switch (command, unit) {
            case (let command?, nil):
                if command.first?.hasPrefix("/") != true {
                    fields.problems.add(
                        fields.node["command"]?.value ?? fields.node, fields.path + ".command",
                        command.first.map { "\"\($0)\" is not an absolute path" } ?? "the list is empty",
                        hint: "there is no search path: name the program in full, such as /usr/sbin/chronyd")
                }
                program = .command(command)
            case (nil, let unit?): program = .unit(unit)
            default:
                // A value that could not be read has its own problem.
                if (fields.node["command"] == nil) == (fields.node["unit"] == nil) {
                    fields.problems.add(
                        fields.node, fields.path,
                        command == nil ? "it has neither command nor unit" : "it has both command and unit",
                        hint: "write command: [PROGRAM, ARGUMENT, …], or unit: NAME.service for a unit of a package")
                }
                return nil
            }
            return Service(
                program: program, user: user, group: group, restart: restart,
                environment: Dictionary(environment.map { ($0.key, $0.value) }) { $1 }, directories: directories,
                enabled: enabled)
        }
    }

    private static var unitName: Shape<String> {
        .text("a service unit's name, such as nginx.service or openvpn@office.service") { text in
            text.hasSuffix(".service") && text.count > ".service".count && !text.contains("/")
                && !text.hasPrefix("@") && !text.hasSuffix("@.service")
        }
    }

    private static var writablePath: Shape<String> {
        absolutePath.map("a directory below /etc, /home, /opt, /srv, /usr/local or /root") { path in
            let whole = ["/home", "/opt", "/srv", "/usr/local", "/root"]
            return path.hasPrefix("/etc/") || whole.contains { (path + "/").hasPrefix($0 + "/") } ? path : nil
        }
    }

    private static var runtimePath: Shape<String> {
        absolutePath.map("a path below /run, /data or /var") { path in
            ["/run/", "/data/", "/var/"].contains { path.hasPrefix($0) } ? path : nil
        }
    }

    private static var user: Shape<String> {
        .mapping("a system user") { fields in fields.optional("home", absolutePath) ?? "/nonexistent" }
    }

    private static var userName: Shape<String> {
        .text("a name of lower-case letters, digits, hyphens and underscores, starting with a letter or underscore") {
            isName(String($0.drop { $0 == "_" }).split(separator: "_").joined(separator: "-"))
        }
    }

    private static var partitions: Shape<Partitions> {
        .mapping("partition sizes") { fields in
            var partitions = Partitions()
            let size = { (range: ClosedRange<Int>) in Shape.byteCount(range) }
            // FAT32 has 65,525 clusters at least, and ours have 4 KiB.
            partitions.efiSystem = fields.optional("esp", size(260 << 20...4 << 30)) ?? partitions.efiSystem
            partitions.root = fields.optional("root", size(16 << 20...64 << 30)) ?? partitions.root
            partitions.data = fields.optional("data", size(8 << 20...1 << 40)) ?? partitions.data
            return partitions
        }
    }

    private static var secureBoot: Shape<SecureBoot> {
        .mapping("key and certificate") { fields in
            let key = fields.required("key", hostPath.located)
            let certificate = fields.required("certificate", hostPath.located)
            guard let key, let certificate else { return nil }
            return SecureBoot(key: key, certificate: certificate)
        }
    }
}
