import Documents
import Files
import Glibc
import Updates

extension ReleaseRepository {
    /// Files that no client needs.
    public struct Garbage: Sendable, Hashable {
        /// Paths below the repository's folder, sorted.
        public var files: [String] = []
        public var bytes = 0
    }

    /// Files below `metadata/` and `targets/` that no client can be reading.
    ///
    /// A version of a role's metadata is in use while it is the newest, and for `grace` seconds
    /// after its successor was published, because a client may use it until its timestamp expires.
    /// All roots stay, because a box that was off for years needs each of them in turn. Targets
    /// stay while such a version, or a waiting change, lists them.
    ///
    /// - Parameter grace: seconds; the timestamp's period by default.
    public func garbage(grace: Int? = nil) throws -> Garbage {
        let grace = grace ?? 86_400 * period("timestamp")
        var (garbage, listed) = (Garbage(), Set<String>())
        func drop(_ path: String) throws {
            garbage.files.append(path)
            garbage.bytes += Int(try File("\(folder)/\(path)").status().st_size)
        }
        for (role, versions) in try versions().sorted(by: { $0.key < $1.key }) {
            for (index, version) in versions.enumerated() {
                let path = "metadata/\(version).\(role).json"
                let isNewest = version >= published[role]?.version ?? 0
                if !isNewest, role != "root", index + 1 < versions.count,
                    try modified("metadata/\(versions[index + 1]).\(role).json") <= now - grace
                {
                    try drop(path)
                } else if channels.contains(role) {
                    listed.formUnion(Self.files(of: try SignedDocument(role, file: "\(folder)/\(path)").signed))
                }
            }
        }
        for document in pending.values { listed.formUnion(Self.files(of: document.signed)) }
        for path in try files(below: "targets") where !listed.contains(path) { try drop(path) }
        garbage.files.sort()
        return garbage
    }

    /// Removes files that ``garbage(grace:)`` returned, and folders that become empty.
    public func remove(_ garbage: Garbage) throws {
        for path in garbage.files {
            try FileSystem.remove("\(folder)/\(path)")
            var parent = FileSystem.parent(of: path)
            while let path = parent, path.contains("/"), try FileSystem.list("\(folder)/\(path)").isEmpty {
                try FileSystem.remove("\(folder)/\(path)")
                parent = FileSystem.parent(of: path)
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

    /// Paths of target files below the repository's folder, with the digest in each file's name.
    private static func files(of signed: [String: JSON]) -> [String] {
        (signed["targets"]?.object ?? [:]).flatMap { path, meta -> [String] in
            (meta["hashes"]?.object ?? [:]).values.compactMap(\.text).map { digest in
                let parent = FileSystem.parent(of: path).map { "\($0)/" } ?? ""
                return "targets/\(parent)\(digest).\(FileSystem.name(of: path))"
            }
        }
    }

    private func files(below base: String) throws -> [String] {
        var found: [String] = []
        guard FileSystem.exists("\(folder)/\(base)") else { return [] }
        for name in try FileSystem.list("\(folder)/\(base)") {
            let path = "\(base)/\(name)"
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
