import Documents
@testable import Engine
import Files
import Glibc
import Planning
import PluginKit
import Processes
import TestSupport

/// An engine in a network of its own, with the plugin `keeper`, whose driver keeps objects as files.
final class BoxWithDriver {
    static let repository = "/" + #filePath.split(separator: "/").dropLast(3).joined(separator: "/")

    let folder: String
    let network: NetworkNamespace

    /// The plugin's `files` and `services` are resources of the engine's kinds, and `objects` are of
    /// its own.
    private static let plan = """
        #!/bin/sh
        [ "$1" = plan ] || exit 0
        exec jq -c '.configuration
            | (.files // {} | to_entries[] | "/run/vcpe/keeper/\\(.key)" as $path
                | {kind: "file", id: $path, path: $path, content: .value, owner: "root", mode: 420}),
            (.services // [] | .[] | {kind: "service", id: ., name: ., command: ["/bin/sleep", "1000"]}),
            (.links // [] | .[] | {kind: "link", id: ., name: ., bridge: {}}),
            (.objects // {} | to_entries[] | {kind: "object", id: .key, at: "objects.\\(.key)"} + .value)'

        """

    /// - Parameter driver: the keys of the manifest's driver beside kind and program.
    init(driver: [String: JSON] = ["deadline": 30, "interval": 1]) throws {
        folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-driver")
        network = try NetworkNamespace()
        // Plugins run as users without rights, who must get there.
        chmod(folder, 0o755)
        let plugin = "\(folder)/plugins/keeper"
        for name in ["run", "data", "objects", "devices", "plugins/keeper"] {
            try FileSystem.makeDirectory("\(folder)/\(name)")
        }
        try FileSystem.replace("\(plugin)/keeper", with: Self.plan, mode: 0o755)
        let program = try FileSystem.read("\(Self.repository)/Tests/ResourcesTests/drive-objects.py")
        try FileSystem.replace("\(plugin)/drive-objects", with: program, mode: 0o755)
        try setDriver(driver)
        try FileSystem.replace("\(folder)/plugins/\(ForeignPlugins.ownFile)", with: ForeignPlugins.file(["keeper"]))
    }

    deinit { try? FileSystem.remove(folder) }

    func setDriver(_ entries: [String: JSON]) throws {
        let driver = entries.merging(["kind": "object", "program": "drive-objects"]) { $1 }
        try FileSystem.replace("\(folder)/plugins/keeper/manifest.json", with: Self.manifest("keeper", driver).pretty)
    }

    static func manifest(_ name: String, _ driver: [String: JSON]) -> JSON {
        [
            "name": .text(name), "version": "1", "summary": "of a test", "contract": 1, "key": .text(name),
            "yang": "none", "publishes": [], "features": [], "permissions": Permissions.wide(name).json,
            "resources": ["file", "service", "link", "object"], "drivers": [.object(driver)],
        ]
    }

    var places: Places {
        var places = Places()
        (places.run, places.data, places.plugins) = ("\(folder)/run", "\(folder)/data", "\(folder)/plugins")
        (places.factorySite, places.devices) = ("\(folder)/site.yaml", "\(folder)/devices")
        (places.modprobe, places.initSocket, places.logs) = ("/bin/true", "\(folder)/none", "\(folder)/none")
        (places.image, places.siteKeys, places.firmwareSite) = ("\(folder)/none", "\(folder)/none", "\(folder)/none")
        return places
    }

    /// Runs `body` with an engine that has applied the factory's document.
    ///
    /// - Parameter site: the keeper's part of that document.
    func run(_ site: String, _ body: (Engine) throws -> Void) throws {
        try FileSystem.replace("\(folder)/site.yaml", with: Self.document(site))
        try network.run {
            let engine = try Engine(places: places)
            engine.configuration.readSite()
            engine.configuration.followNow()
            try body(engine)
        }
    }

    static func document(_ keeper: String) -> String { "keeper: \(keeper)\n" }

    // MARK: - What is there

    /// The requests since the last call, without `end`.
    func requests() throws -> [String] {
        let path = "\(folder)/journal"
        guard FileSystem.exists(path) else { return [] }
        let lines = String(decoding: try FileSystem.read(path), as: UTF8.self).split(separator: "\n").map(String.init)
        try FileSystem.remove(path)
        return lines.filter { $0 != "end" }
    }

    /// The objects' texts by name.
    func objects() throws -> [String: String] {
        var objects: [String: String] = [:]
        for name in try FileSystem.list("\(folder)/objects") {
            objects[name] = try JSON.parse(try FileSystem.read("\(folder)/objects/\(name)"))["text"]?.text ?? ""
        }
        return objects
    }

    func setObject(_ name: String, _ json: String) throws {
        try FileSystem.replace("\(folder)/objects/\(name)", with: json)
    }

    /// A file that the plan has.
    func file(_ name: String) -> String? {
        (try? FileSystem.read("\(folder)/run/keeper/\(name)")).map { String(decoding: $0, as: UTF8.self) }
    }

    /// - Parameter fault: a verb and how it goes wrong; nil for none.
    func setFault(_ fault: String?) throws {
        try FileSystem.remove("\(folder)/fault")
        if let fault { try FileSystem.replace("\(folder)/fault", with: fault) }
    }
}

extension Engine {
    /// Commits the keeper's part of a document.
    ///
    /// - Returns: why it is refused; nil for one that is applied.
    func refusal(of keeper: String) -> String? {
        var refusal: String?
        configuration.commit {
            try self.configuration.change(
                BoxWithDriver.document(keeper), as: .provider, name: "site.yaml", user: "test")
        } then: { result in
            if case .failure(let error) = result { refusal = "\(error)" }
        }
        configuration.startNextChange()
        while configuration.isPlanning {
            configuration.background.step()
            usleep(1000)
        }
        return refusal
    }
}
