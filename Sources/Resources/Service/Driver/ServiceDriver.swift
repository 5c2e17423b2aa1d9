import Files
import Glibc
import Planning
import PluginKit

extension ServiceResource: DrivenResource { typealias ItsDriver = ServiceDriver }

/// Writes unit files into a new directory, moves the link to it in one step, and has PID 1 read them:
/// PID 1 never sees a part of the table.
struct ServiceDriver: Driver {
    static let watch = DriftWatch.none

    private let places: Places

    init(_ context: DriverContext) { places = context.places }

    func steps(_ change: KindChange<ServiceResource>) -> [Step] {
        [
            Step(.services) {
                let files = Dictionary(change.plans.new.values(FileResource.self).map { ($0.path, $0.content) }) { $1 }
                try apply(
                    change.wanted, files: files,
                    changedFiles: Set(change.plans.added.of(FileResource.self).map(\.path)),
                    mustTell: !change.isSettled)
            }
        ]
    }

    /// - Parameters:
    ///   - files: contents of the plan's files: a service restarts when one of its own has changed.
    ///   - changedFiles: those that changed: services reload theirs.
    ///   - mustTell: PID 1 reads the units although none changed: an engine that crashed may not have
    ///     told it.
    /// - Throws: also when PID 1 can't use one of the units.
    private func apply(
        _ services: [ServiceResource], files: [String: String], changedFiles: Set<String>, mustTell: Bool
    ) throws {
        let link = places.units
        let current = try? FileSystem.realPath(link)
        var units: [String: String] = [:]
        for service in services { units[service.name] = try unit(service, files: files) }
        let parent = FileSystem.parent(of: link) ?? "/"
        if mustTell, FileSystem.exists(parent) {
            // Directories that an engine which crashed left behind.
            for name in try FileSystem.list(parent) where name.hasPrefix("units") && "\(parent)/\(name)" != link {
                if "\(parent)/\(name)" != current { try FileSystem.remove("\(parent)/\(name)") }
            }
        }
        let before = try current.map { try contents(of: $0) } ?? [:]
        let reloaded = services.filter { service in
            // A service whose unit changes restarts, and reads its files then.
            !service.reloadFiles.isEmpty && before[service.name] == units[service.name]
                && (mustTell || !changedFiles.isDisjoint(with: service.reloadFiles))
        }
        if current != nil, before == units {
            if mustTell { try tell(units) }
            return reload(reloaded)
        }
        try FileSystem.makeDirectory(parent)
        let next = try FileSystem.makeTemporaryDirectory(in: parent, prefix: "units")
        for (name, text) in units { try FileSystem.replace("\(next)/\(name)", with: text) }
        let temporary = "\(parent)/.units.new"
        unlink(temporary)
        guard symlink(next, temporary) == 0 else { throw SystemError("symlink", temporary) }
        try FileSystem.rename(temporary, to: link)
        if let current { try FileSystem.remove(current) }
        try tell(units)
        reload(reloaded)
    }

    /// Lets services read their files again; one that does not run reads them when it starts.
    private func reload(_ services: [ServiceResource]) {
        guard FileSystem.exists(places.initSocket) else { return }
        for service in services {
            // A service that ran to its end has nothing that could read its files again.
            let request = service.unit.isOnce ? "restart" : "reload-service"
            _ = try? InitClient(socket: places.initSocket).ask("\(request) \(service.name)")
            // One that waits for its next try may start by the new files.
            _ = try? InitClient(socket: places.initSocket).ask("retry \(service.name)")
        }
    }

    /// Lets PID 1 read the units.
    private func tell(_ units: [String: String]) throws {
        guard FileSystem.exists(places.initSocket) else {
            if !units.isEmpty { Log.say("services are not started: PID 1 is not vcpe-init") }
            return
        }
        let answer = try InitClient(socket: places.initSocket).ask("reload").split(separator: "\n")
        guard answer.last == "ok" else {
            throw EngineError(
                "PID 1 refuses the units: \(answer.isEmpty ? "no answer" : answer.joined(separator: "; "))")
        }
        for problem in answer.dropLast() { Log.say("PID 1: \(problem)") }
        // Faults in the image's own units are not this plan's.
        let ours = answer.dropLast().filter { problem in
            let words = problem.split(separator: " ", maxSplits: 3)
            guard words.starts(with: ["problem", "unit"]), words.count > 2 else { return true }
            return units[String(words[2].prefix { $0 != ":" && $0 != "," })] != nil
        }
        guard ours.isEmpty else { throw EngineError("PID 1 can't use the units: \(ours.joined(separator: "; "))") }
    }

    private func contents(of folder: String) throws -> [String: String] {
        var result: [String: String] = [:]
        for name in try FileSystem.list(folder) {
            result[name] = String(decoding: try FileSystem.read("\(folder)/\(name)"), as: UTF8.self)
        }
        return result
    }

    private func unit(_ service: ServiceResource, files: [String: String]) throws -> String {
        guard let user = getpwnam(service.user) else {
            throw EngineError("service \(service.name): there is no user \(service.user)")
        }
        guard let program = service.command.first, access(program, X_OK) == 0 || !FileSystem.exists(places.initSocket)
        else {
            throw EngineError(
                "service \(service.name): this image has no \(service.command.first ?? ""): the definition's plugins say "
                    + "which features it has")
        }
        var unit = service.unit
        (unit.user, unit.group) = (user.pointee.pw_uid, user.pointee.pw_gid)
        // Its configuration and no other file beside it: one that is changed restarts it. Of a file
        // that it reads again the folder, where another file takes its place.
        let folders = service.reloadFiles.compactMap { FileSystem.parent(of: $0) }
        for path in Set(service.configurationFiles + folders).sorted() where path.hasPrefix("\(places.run)/") {
            if unit.profile?.visible.contains(path) == false { unit.profile?.visible.append(path) }
        }
        unit.stamps = service.configurationFiles.map { "\($0) \(Checksum.of(files[$0] ?? ""))" }
        return try unit.text()
    }
}

/// Tells one content from another, and no more.
enum Checksum {
    static func of(_ text: String) -> String { String(text.fnv1a, radix: 16) }

    static func of(_ bytes: ArraySlice<UInt8>) -> String {
        String(bytes.withUnsafeBufferPointer { FNV.hash($0) }, radix: 16)
    }
}
