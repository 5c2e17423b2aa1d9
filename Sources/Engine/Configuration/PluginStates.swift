import Documents
import Files
import Glibc
import PluginKit

/// What daemons keep below /data/PLUGIN, where releases write it in different formats: each finds what it can read.
///
/// A plugin's manifest says which format its daemons write. Where an earlier one lies there, a copy is kept before any service starts: the release before finds it when this one is
/// given up, as it left it. A release that is installed anew has nothing kept.
///
/// Power may fail at any step: the note of what lies there changes between one name's going and another's coming, and who finds nothing under the one looks
/// for the other. Falling back writes nothing that a full disk has no room for.
struct PluginStates {
    let places: Places

    private var folder: String { places.states }

    // Paths below /data: a copy of a plugin's state, and an empty file whose name has the state's format.
    // The state itself has the plugin's name.
    private func kept(_ plugin: String, _ format: Int) -> String { "\(Places.states)/\(plugin).\(format)" }
    private func mark(_ plugin: String, _ format: Int) -> String { "\(Places.states)/\(plugin)@\(format)" }

    /// Users of services own what is below: no link there is followed.
    private func data() throws -> Folder { try Folder(places.data) }

    private func isThere(_ path: String) -> Bool { (try? data().status(path)) != nil }

    /// Of what lies there, by plugin; 1 for those that are not listed.
    private func formats() throws -> [String: Int] {
        guard FileSystem.exists(folder) else { return [:] }
        var formats: [String: Int] = [:]
        for name in try FileSystem.list(folder) {
            let parts = name.split(separator: "@").map(String.init)
            if parts.count == 2, let format = Int(parts[1]) { formats[parts[0]] = format }
        }
        return formats
    }

    /// Gives each plugin of this release a state that it can read.
    ///
    /// - Returns: for people, what was done.
    /// - Throws: where no copy can be kept: then no daemon may make another format of the only state there is.
    func adopt(_ manifests: [PluginManifest]) throws -> [String] {
        try? FileSystem.removeLeftovers(in: folder)
        guard let formats = try? formats() else { return ["what daemons keep can't be looked at: \(folder)"] }
        return try manifests.compactMap { manifest in
            let (plugin, own, last) = (manifest.name, manifest.stateFormat, formats[manifest.name] ?? 1)
            if last < own, !isThere(kept(plugin, own)) { return try keepCopy(plugin, own, from: last) }
            // Whoever comes back must do so also where something is wrong with the disk.
            do { return try takeBack(plugin, own, from: last) } catch {
                return "\(plugin): its state in format \(own) can't be restored: \(error)"
            }
        }
    }

    private func keepCopy(_ plugin: String, _ own: Int, from last: Int) throws -> String? {
        let (place, aside) = (plugin, kept(plugin, last))
        try noteThat(plugin, has: last)
        let isThere = isThere(place)
        if isThere {
            let copy = "\(Places.states)/\(FileSystem.temporaryPrefix)\(plugin)"
            try data().copy(place, to: data(), as: copy)
            try File(folder, O_RDONLY | O_DIRECTORY).syncFileSystem()
            try data().remove(aside)
            try move(copy, to: aside)
        }
        try move(mark(plugin, last), to: mark(plugin, own))
        return isThere
            ? "\(plugin): a copy of its state in format \(last) is kept, before it becomes format \(own)" : nil
    }

    private func takeBack(_ plugin: String, _ own: Int, from last: Int) throws -> String? {
        let (place, saved, aside) = (plugin, kept(plugin, own), kept(plugin, last))
        if last == own {
            // Power failed when it was on its way back.
            guard !isThere(place), isThere(saved) else { return nil }
            try move(saved, to: place)
            return "\(plugin): its state in format \(own) is back"
        }
        try noteThat(plugin, has: last)
        if isThere(place) {
            try data().remove(aside)
            try move(place, to: aside)
        }
        try move(mark(plugin, last), to: mark(plugin, own))
        guard isThere(saved) else {
            return "\(plugin): its state in format \(last) is kept, and it begins with none in format \(own)"
        }
        try move(saved, to: place)
        return "\(plugin): its state in format \(own) is back, that in format \(last) is kept"
    }

    /// What was never listed is listed before anything moves.
    private func noteThat(_ plugin: String, has format: Int) throws {
        guard !isThere(mark(plugin, format)) else { return }
        try FileSystem.makeDirectory(folder)
        try data().replace(mark(plugin, format), with: [], FileAttributes(mode: 0o644))
    }

    private func move(_ path: String, to target: String) throws { try data().rename(path, to: target) }

    /// - Throws: where the data partition has no room for the copies that these plugins will want.
    func checkRoom(for manifests: [PluginManifest]) throws {
        let formats = try formats()
        // And something for the names.
        var wanted = 1 << 20
        for manifest in manifests where manifest.stateFormat > formats[manifest.name] ?? 1 {
            let (sum, isTooMuch) = wanted.addingReportingOverflow(try data().size(of: manifest.name))
            wanted = isTooMuch ? .max : sum
        }
        let free = try free()
        guard wanted <= free else {
            throw EngineError(
                "copies of the services' data need \(Size.text(wanted)) on the data partition, and "
                    + "\(Size.text(free)) are free; remove files below \(places.data)")
        }
    }

    /// Bytes that root may still write.
    private func free() throws -> Int {
        var status = statvfs()
        guard statvfs(places.data, &status) == 0 else { throw SystemError("statvfs", places.data) }
        return Int(status.f_bfree) * Int(status.f_frsize)
    }
}
