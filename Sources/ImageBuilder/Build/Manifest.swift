import Documents
import Files

/// A build's manifest, read back.
public struct Manifest: Sendable {
    struct File: Hashable {
        var kind: String
        var mode: String
        var owner: String
        var content: String
        var size: Int
    }

    var packages: [String: String] = [:]
    var files: [String: File] = [:]

    /// Reads the file that a build leaves as `NAME.manifest`.
    public static func read(_ path: String) throws -> Manifest {
        var manifest = Manifest()
        for (number, line) in String(decoding: try FileSystem.read(path), as: UTF8.self).split(separator: "\n")
            .enumerated()
        {
            let words = line.split(separator: " ", maxSplits: 6, omittingEmptySubsequences: false).map(String.init)
            switch words.first {
            case "image", "root-hash": break
            case "package" where words.count == 4: manifest.packages[words[1]] = words[2]
            case "file", "folder", "link", "hard":
                guard let start = line.firstRange(of: " /"), words.count >= 6 else { fallthrough }
                let name = words.count == 7 ? words[6] : String(line[line.index(after: start.lowerBound)...])
                manifest.files[name] = File(
                    kind: words[0], mode: words[1], owner: words[2], content: words[3], size: Int(words[4]) ?? 0)
            default:
                throw BuildFailure(
                    "\(path):\(number + 1): not a line of a manifest: \(line.prefix(60))",
                    hint: "name the NAME.manifest that a build leaves")
            }
        }
        return manifest
    }
}

/// What differs between two builds.
public struct ManifestDifference: Sendable {
    private struct Change {
        var name: String
        var from: String?
        var to: String?
        var bytes = 0
    }

    private var packages: [Change] = []
    private var files: [Change] = []

    public init(from old: Manifest, to new: Manifest) {
        for name in Set(old.packages.keys).union(new.packages.keys).sorted()
        where old.packages[name] != new.packages[name] {
            packages.append(Change(name: name, from: old.packages[name], to: new.packages[name]))
        }
        for path in Set(old.files.keys).union(new.files.keys).sorted() where old.files[path] != new.files[path] {
            func text(_ file: Manifest.File?) -> String? {
                file.map {
                    "\($0.kind) \($0.mode) \($0.owner) \($0.kind == "link" ? "→ \($0.content)" : Size.text($0.size))"
                }
            }
            files.append(
                Change(
                    name: path, from: text(old.files[path]), to: text(new.files[path]),
                    bytes: (new.files[path]?.size ?? 0) - (old.files[path]?.size ?? 0)))
        }
    }

    /// For people.
    public var text: String {
        if packages.isEmpty, files.isEmpty { return "no difference\n" }
        func line(_ change: Change) -> String {
            switch (change.from, change.to) {
            case (nil, let to?): "  + \(change.name) \(to)"
            case (let from?, nil): "  - \(change.name) \(from)"
            case (let from?, let to?) where from == to: "    \(change.name): other contents"
            default: "    \(change.name): \(change.from ?? "") → \(change.to ?? "")"
            }
        }
        var lines: [String] = []
        if !packages.isEmpty { lines += ["packages:"] + packages.map(line) }
        if !files.isEmpty { lines += ["files:"] + files.map(line) }
        let bytes = files.reduce(0) { $0 + $1.bytes }
        lines.append("\(files.count) files, \(bytes < 0 ? "-" : "+")\(Size.text(abs(bytes)))")
        return lines.joined(separator: "\n") + "\n"
    }

    public var json: JSON {
        func list(_ changes: [Change]) -> JSON {
            .list(
                changes.map { change in
                    [
                        "name": .text(change.name), "from": change.from.map { .text($0) } ?? .null,
                        "to": change.to.map { .text($0) } ?? .null, "bytes": .integer(change.bytes),
                    ]
                })
        }
        return ["packages": list(packages), "files": list(files)]
    }
}
