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
    private func place(_ plugin: String) -> String { "\(places.data)/\(plugin)" }
    private func kept(_ plugin: String, _ format: Int) -> String { "\(folder)/\(plugin).\(format)" }

    /// An empty file by whose name one knows what lies there.
    private func mark(_ plugin: String, _ format: Int) -> String { "\(folder)/\(plugin)@\(format)" }

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
            if last < own, !FileSystem.exists(kept(plugin, own)) { return try keepCopy(plugin, own, from: last) }
            // Whoever comes back must do so also where something is wrong with the disk.
            do { return try takeBack(plugin, own, from: last) } catch {
                return "\(plugin): its state in format \(own) can't be put back: \(error)"
            }
        }
    }

    private func keepCopy(_ plugin: String, _ own: Int, from last: Int) throws -> String? {
        let (place, aside) = (place(plugin), kept(plugin, last))
        try noteThat(plugin, has: last)
        let isThere = FileSystem.exists(place)
        if isThere {
            let copy = "\(folder)/\(FileSystem.temporaryPrefix)\(plugin)"
            try FileTreeCopy.make(of: place, at: copy)
            try File(folder, O_RDONLY | O_DIRECTORY).syncFileSystem()
            try FileSystem.remove(aside)
            try move(copy, to: aside)
        }
        try move(mark(plugin, last), to: mark(plugin, own))
        return isThere
            ? "\(plugin): a copy of its state in format \(last) is kept, before it becomes format \(own)" : nil
    }

    private func takeBack(_ plugin: String, _ own: Int, from last: Int) throws -> String? {
        let (place, saved, aside) = (place(plugin), kept(plugin, own), kept(plugin, last))
        if last == own {
            // Power failed when it was on its way back.
            guard !FileSystem.exists(place), FileSystem.exists(saved) else { return nil }
            try move(saved, to: place)
            return "\(plugin): its state in format \(own) is back"
        }
        try noteThat(plugin, has: last)
        if FileSystem.exists(place) {
            try FileSystem.remove(aside)
            try move(place, to: aside)
        }
        try move(mark(plugin, last), to: mark(plugin, own))
        guard FileSystem.exists(saved) else {
            return "\(plugin): its state in format \(last) is kept, and it begins with none in format \(own)"
        }
        try move(saved, to: place)
        return "\(plugin): its state in format \(own) is back, that in format \(last) is kept"
    }

    /// What was never listed is listed before anything moves.
    private func noteThat(_ plugin: String, has format: Int) throws {
        guard !FileSystem.exists(mark(plugin, format)) else { return }
        try FileSystem.makeDirectory(folder)
        try FileSystem.replace(mark(plugin, format), with: "")
        try FileSystem.syncDirectory(folder)
    }

    private func move(_ path: String, to target: String) throws {
        try FileSystem.rename(path, to: target)
        for folder in [folder, places.data] { try FileSystem.syncDirectory(folder) }
    }

    /// - Throws: where the data partition has no room for the copies that these plugins will want.
    func checkRoom(for manifests: [PluginManifest]) throws {
        let formats = try formats()
        // And something for the names.
        var wanted = 1 << 20
        for manifest in manifests where manifest.stateFormat > formats[manifest.name] ?? 1 {
            if FileSystem.exists(place(manifest.name)) { wanted += try FileTreeCopy.size(of: place(manifest.name)) }
        }
        let free = try FileTreeCopy.free(at: places.data)
        guard wanted <= free else {
            throw EngineError(
                "\(Size.text(wanted)) are wanted on the data partition for copies of what daemons keep, and \(Size.text(free)) are free"
            )
        }
    }
}
