import Documents
import Files

/// The differences between two builds.
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
            files.append(
                Change(
                    name: path, from: old.files[path].map(Self.text), to: new.files[path].map(Self.text),
                    bytes: (new.files[path]?.size ?? 0) - (old.files[path]?.size ?? 0)))
        }
    }

    /// True when both have the same packages and files.
    public var isEmpty: Bool { packages.isEmpty && files.isEmpty }

    private static func text(_ file: Manifest.File) -> String {
        let owner = "\(file.uid):\(file.gid)"
        var words = [file.kind.rawValue, String(file.mode, radix: 8), owner]
        switch file.kind {
        case .link, .hard: words.append("→ \(Quoting.quoted(file.content))")
        case .folder: break
        case .file: words.append(Size.text(file.size))
        }
        words += file.attributes.sorted { $0.key < $1.key }.map { AttributeText.text($0.key, $0.value) }
        return words.joined(separator: " ")
    }

    /// The differences as text for the operator.
    public var text: String {
        if isEmpty { return "no difference\n" }
        func line(_ change: Change) -> String {
            let name = Quoting.quoted(change.name)
            return switch (change.from, change.to) {
            case (nil, let to?): "  + \(name) \(to)"
            case (let from?, nil): "  - \(name) \(from)"
            case (let from?, let to?) where from == to: "    \(name): contents differ"
            default: "    \(name): \(change.from ?? "") → \(change.to ?? "")"
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
