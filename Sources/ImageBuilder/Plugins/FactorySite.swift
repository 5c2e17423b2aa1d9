import Addresses
import Digests
import Documents
import Files
import Glibc
import Planning
import PluginKit
import Processes
import Schema
import Units

/// Plans the factory site as a box does, with the same executable and the image's own libraries. A
/// failed plan fails the build.
struct FactorySite {
    let definition: Definition
    let plugins: [BuiltPlugin]
    let packages: [UnpackedPackage]
    let box: String
    let cache: Cache

    /// - Returns: remarks for the report.
    func check(_ tree: Tree) throws -> [String] {
        if plugins.isEmpty { return [] }
        try Self.checkDrivers(plugins, in: tree, of: definition.name)
        let runners = try runners()
        guard let site = definition.site, case .file(let content)? = tree["usr/lib/vcpe/site.yaml"]?.kind else {
            return []
        }
        let bytes = try content.read()
        let plan = try plan(bytes, name: site.value, runners)
        try checkPrograms(of: plan, in: tree, site: YAML.read(bytes, file: site.value))
        return (plan.absent + plan.warnings).sorted() + Self.exposures(of: plan)
    }

    /// What each service could do if it were taken over, the most dangerous first.
    private static func exposures(of plan: Plan) -> [String] {
        let services = plan.values(ServiceResource.self).map { service -> (String, Unit.Exposure) in
            var unit = service.unit
            // The box knows the numbers of the others.
            unit.user = service.user == "root" ? 0 : 1
            return (service.name, unit.exposure)
        }
        return services.sorted { ($1.1.score, $0.0) < ($0.1.score, $1.0) }.map { name, exposure in
            "service \(name): exposure \(exposure.score) of 100: \(exposure.reasons.joined(separator: ", "))"
        }
    }

    /// The plan of a box for a document.
    func plan(
        _ bytes: [UInt8], name: String, _ runners: [PluginRunner]? = nil, explains: Bool = false
    ) throws -> Plan {
        let modules = plugins.flatMap { plugin in
            plugin.files.filter { $0.name == plugin.manifest.yang }.map { String(decoding: $0.bytes, as: UTF8.self) }
        }
        let document = MergedDocument(try YAML.read(bytes, file: name), keys: plugins.map(\.manifest.key)) {
            Schema(modules: modules)
        }
        if !document.problems.isEmpty { throw InvalidDocument(document.problems) }
        do {
            let members = zip(try runners ?? self.runners(), plugins).map {
                Planner.Member($0, $1.manifest, isOwn: $1.isOwn)
            }
            return try Planner(members).plan(
                site: document.node, facts: Self.assumedFacts, now: time(nil), explains: explains)
        } catch let invalid as InvalidSite {
            throw BuildFailure("the site can't be applied:\n\(invalid)")
        }
    }

    /// Runs the plugins as the image does, with its own libraries. They run in a sandbox, because a
    /// package's library can run any code in the process that loads it.
    private func runners() throws -> [PluginRunner] {
        // All packages: libraries need others, and a third party's plugin may need an interpreter.
        let tree = try Tools(packages, cache: cache)
        let own = tree.sandbox([.init(try FileSystem.realPath("\(box)/vcpe-box"), at: Tools.boxProgram)])
        let runners = try plugins.map { plugin in
            let name = plugin.manifest.name
            guard let bytes = plugin.program else {
                return PluginRunner(name: name, program: "/\(Tools.boxProgram)", calledAs: name, in: own)
            }
            let sandbox = tree.sandbox([.init(try folder(of: plugin, bytes), at: Tools.pluginsFolder)])
            return PluginRunner(name: name, program: "/\(Tools.pluginsFolder)/\(name)/\(name)", in: sandbox)
        }
        for (plugin, runner) in zip(plugins, runners) where try runner.describe() != plugin.manifest {
            throw BuildFailure(
                "the plugin \(plugin.manifest.name) answers describe with other data than its manifest.json",
                hint: "make box, or update the manifest")
        }
        return runners
    }

    /// A folder of the cache with a third party's plugin as a box has it, `NAME/NAME` and its
    /// files.
    private func folder(of plugin: BuiltPlugin, _ program: [UInt8]) throws -> String {
        let name = plugin.manifest.name
        let others = plugin.files.map { ($0.name, $0.bytes, plugin.mode(of: $0.name)) }
        let files = others + [(name, program, mode_t(0o755))]
        // The number changes with the folder's layout: an older folder may not be readable in the
        // sandbox.
        let folder = "\(try cache.folder("plugins"))/\(plugin.digest.hex)-2"
        if FileSystem.exists(folder) {
            if Self.hasExactly(files, "\(folder)/\(name)"), (try? FileSystem.list(folder)) == [name] { return folder }
            try FileSystem.remove(folder)
        }
        let temporary = try FileSystem.makeTemporaryDirectory(
            in: try cache.folder("plugins"), prefix: FileSystem.temporaryPrefix + name)
        // The plugin runs as another user than this process.
        guard chmod(temporary, 0o755) == 0 else { throw SystemError("chmod", temporary) }
        try FileSystem.makeDirectory("\(temporary)/\(name)")
        for (file, bytes, mode) in files {
            try FileSystem.replace("\(temporary)/\(name)/\(file)", with: bytes, mode: mode)
        }
        // A concurrent build may have finished first; its folder has the same contents.
        if rename(temporary, folder) != 0 { try FileSystem.remove(temporary) }
        return folder
    }

    /// True when a folder has these files, and no others: an interpreter also reads what lies
    /// beside a program.
    private static func hasExactly(_ files: [(String, [UInt8], mode_t)], _ folder: String) -> Bool {
        guard let known = try? Folder(folder), (try? known.list()) == files.map(\.0).sorted() else { return false }
        return files.allSatisfy { name, bytes, mode in
            guard let file = try? known.openFile(name), let status = try? file.status() else { return false }
            return status.st_mode & 0o7777 == mode && (try? file.readAll()) == bytes
        }
    }

    /// Eight ports without a driver, and a prefix: those of the boxes are not known when their image
    /// is built.
    private static let assumedFacts: Facts = {
        var facts = Facts()
        facts.set(
            ports: (1...8).compactMap { number in
                MACAddress([0x02, 0, 0, 0, 0, UInt8(number)]).map {
                    Facts.Port(driver: "", path: "0000:0\(number):00.0", mac: $0)
                }
            })
        if let prefix = IPPrefix("fd12:3456:789a::/48") { facts.set(uniqueLocal: prefix) }
        return facts
    }()

    /// Checks that the image has the drivers that plugins name by a path of the image.
    ///
    /// - Parameter image: the definition's name, for errors.
    /// - Throws: ``InvalidDocument`` with all that are missing, at the definition's references.
    static func checkDrivers(_ plugins: [BuiltPlugin], in tree: Tree, of image: String) throws {
        let problems = plugins.flatMap { plugin in
            plugin.manifest.drivers.filter { !$0.isOwnFile && !tree.hasFile($0.program) }.map { driver in
                plugin.reference.problem(
                    "the plugin \(plugin.manifest.name) drives the kind \"\(driver.kind)\" by \(driver.program), "
                        + "which is not in the image",
                    hint: "add the plugin's feature or the package that has it to images/\(image).yaml")
            }
        }
        if !problems.isEmpty { throw InvalidDocument(problems) }
    }

    /// Checks that the image has the programs of all services and secrets. A missing one would fail
    /// on every box.
    ///
    /// - Parameter site: the document, for the lines in errors.
    /// - Throws: ``InvalidDocument`` with all of them.
    func checkPrograms(of plan: Plan, in tree: Tree, site: Node) throws {
        let keys = Dictionary(plugins.map { ($0.manifest.name, $0.manifest.key) }) { $1 }
        var problems: [Problem] = []
        for planned in plan.ordered {
            for program in planned.resource.value.programs where !tree.hasFile(program) {
                // A plugin's paths begin in its own part of the document.
                let parts = [keys[planned.plugin] ?? "", planned.path ?? ""]
                let path = parts.filter { !$0.isEmpty }.joined(separator: ".")
                problems.append(
                    Problem(
                        position: site.node(at: path).position, path: path,
                        message: "the plugin \(planned.plugin) plans the \(planned.key), whose program \(program) "
                            + "is not in the image",
                        hint: "add the plugin's feature or the package that has it to "
                            + "images/\(definition.name).yaml, or remove this from the document"))
            }
        }
        if !problems.isEmpty { throw InvalidDocument(problems) }
    }
}

extension Tree {
    /// True when an absolute path resolves to a file of the tree, also through links.
    func hasFile(_ path: String) -> Bool {
        var rest = path.split(separator: "/").map(String.init)[...]
        var resolved: [String] = []
        // As many links as the kernel follows (path_resolution(7)).
        var links = 0
        while let name = rest.popFirst() {
            if name == "." { continue }
            if name == ".." {
                _ = resolved.popLast()
                continue
            }
            let next = (resolved + [name]).joined(separator: "/")
            guard let entry = entries[next] else { return false }
            switch entry.kind {
            case .directory: resolved.append(name)
            case .file, .hardLink: return rest.isEmpty
            case .symbolicLink(let target):
                links += 1
                guard links <= 40 else { return false }
                if target.hasPrefix("/") { resolved = [] }
                rest = (target.split(separator: "/").map(String.init) + rest)[...]
            }
        }
        return false
    }
}
