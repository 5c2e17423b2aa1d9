import Documents
import Files
import Glibc
import Updates

extension ReleaseRepository {
    /// Files that no client needs.
    public struct Garbage: Sendable, Hashable {
        /// Below the repository's folder, sorted.
        public var files: [String] = []
        public var bytes = 0
    }

    /// Files below `metadata/` and `targets/` that no client can be reading.
    ///
    /// A version of a role's metadata is in use while it is the newest, and for `grace` seconds
    /// after its successor was published: until its timestamp expires, a client may go on with what
    /// it has read. All roots stay, since a box that was switched off for years follows them one by
    /// one. Targets stay while such a version, or a change that waits, names them.
    ///
    /// - Parameter grace: seconds; the timestamp's period by default.
    public func garbage(grace: Int? = nil) throws -> Garbage {
        let grace = grace ?? 86_400 * period("timestamp")
        var (garbage, named) = (Garbage(), Set<String>())
        func drop(_ path: String) throws {
            garbage.files.append(path)
            garbage.bytes += Int(try File("\(folder)/\(path)").status().st_size)
        }
        for (role, versions) in try versions().sorted(by: { $0.key < $1.key }) {
            for (place, version) in versions.enumerated() {
                let path = "metadata/\(version).\(role).json"
                let isNewest = version >= published[role]?.version ?? 0
                if !isNewest, role != "root", place + 1 < versions.count,
                    try modified("metadata/\(versions[place + 1]).\(role).json") <= now - grace
                {
                    try drop(path)
                } else if channels.contains(role) {
                    named.formUnion(Self.files(of: try SignedDocument(role, file: "\(folder)/\(path)").signed))
                }
            }
        }
        for document in pending.values { named.formUnion(Self.files(of: document.signed)) }
        for path in try files(below: "targets") where !named.contains(path) { try drop(path) }
        garbage.files.sort()
        return garbage
    }

    /// Removes files that ``garbage(grace:)`` listed, and the folders that are empty then.
    public func remove(_ garbage: Garbage) throws {
        for path in garbage.files {
            try FileSystem.remove("\(folder)/\(path)")
            var parent = FileSystem.parent(of: path)
            while let place = parent, place.contains("/"), try FileSystem.list("\(folder)/\(place)").isEmpty {
                try FileSystem.remove("\(folder)/\(place)")
                parent = FileSystem.parent(of: place)
            }
        }
    }

    /// Versions of each role's metadata in the folder, in order.
    private func versions() throws -> [String: [Int]] {
        var found: [String: [Int]] = [:]
        for name in try FileSystem.list("\(folder)/metadata") where name.hasSuffix(".json") {
            let parts = name.split(separator: ".", maxSplits: 1).map(String.init)
            guard parts.count == 2, let version = Int(parts[0]) else { continue }
            found[String(parts[1].dropLast(".json".count)), default: []].append(version)
        }
        return found.mapValues { $0.sorted() }
    }

    /// Names of target files, as consistent snapshots have them, below the repository's folder.
    private static func files(of signed: [String: JSON]) -> [String] {
        (signed["targets"]?.object ?? [:]).flatMap { path, meta -> [String] in
            (meta["hashes"]?.object ?? [:]).values.compactMap(\.text).map { digest in
                let parent = FileSystem.parent(of: path).map { "\($0)/" } ?? ""
                return "targets/\(parent)\(digest).\(FileSystem.name(of: path))"
            }
        }
    }

    private func files(below place: String) throws -> [String] {
        var found: [String] = []
        guard FileSystem.exists("\(folder)/\(place)") else { return [] }
        for name in try FileSystem.list("\(folder)/\(place)") {
            let path = "\(place)/\(name)"
            let isFolder = try File("\(folder)/\(path)").status().st_mode & S_IFMT == S_IFDIR
            found += isFolder ? try files(below: path) : [path]
        }
        return found
    }

    /// Seconds since 1970.
    private func modified(_ path: String) throws -> Int {
        Int(try File("\(folder)/\(path)").status().st_mtim.tv_sec)
    }
}
