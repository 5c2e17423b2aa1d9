import Addresses
import Digests
import Documents
import Files
import Glibc
import Planning
import PluginKit

/// Runs the plans that a box will run for its factory site, by the same executable and the image's own libraries: an
/// image whose plan fails is none.
struct FactorySite {
    let definition: Definition
    let plugins: [BuiltPlugin]
    let packages: [UnpackedPackage]
    let box: String
    let cache: Cache

    /// - Returns: remarks for the report.
    func check(_ tree: Tree) throws -> [String] {
        if plugins.isEmpty { return [] }
        let runners = try runners()
        guard let site = definition.site, case .file(let content)? = tree["usr/lib/vcpe/site.yaml"]?.kind else {
            return []
        }
        let plan = try plan(try content.read(), name: site.value, runners)
        for planned in plan.resources.values { try checkProgram(of: planned, in: tree) }
        return (plan.absent + plan.warnings).sorted()
    }

    /// What a box plans for a document.
    func plan(
        _ bytes: [UInt8], name: String, _ runners: [PluginRunner]? = nil, explains: Bool = false
    ) throws -> Plan {
        let document = try YAML.read(bytes, file: name)
        do {
            let members = zip(try runners ?? self.runners(), plugins.map(\.manifest)).map { Planner.Member($0, $1) }
            return try Planner(members).plan(site: document, facts: Self.supposed, now: time(nil), explains: explains)
        } catch let invalid as InvalidSite {
            throw BuildFailure("the site can't be applied:\n\(invalid)")
        }
    }

    /// The plugins, as the image runs them.
    private func runners() throws -> [PluginRunner] {
        let names = Set(plugins.flatMap(\.packages).map(\.value))
        let tools = try Tools(
            packages.filter { names.contains($0.package.name) && $0.package.name.hasPrefix("lib") }, cache: cache)
        let program = try FileSystem.realPath("\(box)/vcpe-box")
        let runners = try plugins.map { plugin in
            let name = plugin.manifest.name
            guard let bytes = plugin.program else {
                return PluginRunner(name: name, command: tools.launcher(program, as: name))
            }
            return PluginRunner(name: name, command: try launcher(of: plugin, bytes))
        }
        for (plugin, runner) in zip(plugins, runners) where try runner.describe() != plugin.manifest {
            throw BuildFailure(
                "the plugin \(plugin.manifest.name) says another thing of itself than its manifest.json",
                hint: "make box, or write the manifest anew")
        }
        return runners
    }

    /// What runs another's plugin: in the image's own packages' tree, which may have its interpreter.
    private func launcher(of plugin: BuiltPlugin, _ program: [UInt8]) throws -> [String] {
        let name = plugin.manifest.name
        let folder = "\(try cache.folder("plugins"))/\(plugin.digest.hex)"
        if !FileSystem.exists(folder) {
            let temporary = try FileSystem.makeTemporaryDirectory(
                in: try cache.folder("plugins"), prefix: FileSystem.temporaryPrefix + name)
            try FileSystem.makeDirectory("\(temporary)/\(name)")
            for file in plugin.files { try FileSystem.replace("\(temporary)/\(name)/\(file.name)", with: file.bytes) }
            try FileSystem.replace("\(temporary)/\(name)/\(name)", with: program, mode: 0o755)
            // Another build may have been faster: its folder is as good as ours.
            if rename(temporary, folder) != 0 { try FileSystem.remove(temporary) }
        }
        return try Tools(packages, cache: cache).launcher("\(name)/\(name)", in: folder, at: "usr/lib/vcpe/plugins")
    }

    /// Eight ports of nobody's make: which ones a box has is not known here.
    private static let supposed = Facts(
        ports: (1...8).compactMap { number in
            MACAddress([0x02, 0, 0, 0, 0, UInt8(number)]).map {
                Facts.Port(driver: "", path: "0000:0\(number):00.0", mac: $0)
            }
        })

    /// A service whose program the image lacks would fall on every box.
    private func checkProgram(of planned: PlannedResource, in tree: Tree) throws {
        guard case .service(let service) = planned.resource, let program = service.command.first else { return }
        let path = String(program.dropFirst())
        guard tree[path] != nil || tree["usr/" + path] != nil else {
            throw BuildFailure(
                "the plugin \(planned.plugin) plans the service \(service.name), whose program \(program) is not in the image"
            )
        }
    }
}
