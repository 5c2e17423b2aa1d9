/// The folders of a plugin's files.
public enum PluginFolders {
    public static func of(_ plugin: String) -> [String] { ["/run/vcpe/\(plugin)", "/data/\(plugin)"] }

    /// True for these folders and the paths below them, written without detours:
    /// `/data/NAME/../vcpe` is none.
    public static func isOwn(_ path: String, of plugin: String) -> Bool {
        Permissions.isPath(path) && of(plugin).contains { path == $0 || path.hasPrefix($0 + "/") }
    }
}

/// References to secrets in files: `${secret:NAME}`.
public enum Secrets {
    private static let start = "${secret:"

    /// The reference to a secret.
    public static func reference(_ name: String) -> String { "\(start)\(name)}" }

    public static func references(in content: String) -> Set<String> {
        Set(parts(of: content).compactMap { $0.name })
    }

    /// The content with values in place of the references.
    public static func filled(_ content: String, _ value: (String) throws -> String) rethrows -> String {
        try parts(of: content).map { part in try part.name.map(value) ?? part.text }.joined()
    }

    private static func parts(of content: String) -> [(text: String, name: String?)] {
        var parts: [(String, String?)] = []
        var rest = content[...]
        while let range = rest.place(of: start), let end = rest[range.upperBound...].firstIndex(of: "}") {
            parts.append((String(rest[..<range.lowerBound]), nil))
            parts.append(("", String(rest[range.upperBound..<end])))
            rest = rest[rest.index(after: end)...]
        }
        return parts + [(String(rest), nil)]
    }
}
