import Documents
import Planning
import PluginKit

/// What a definition says of a plugin's permissions: a third party's are repeated there, so that
/// the builder of the image has read them.
public enum AllowedPermissions {
    /// What keeps the plugin out of an image.
    ///
    /// - Parameter allow: the definition's key; nil where it is absent.
    static func problems(of plugin: BuiltPlugin, allow: Located<Permissions>?) -> [Problem] {
        let (manifest, reference) = (plugin.manifest, plugin.reference)
        if let objection = ForeignPlugins.objection(toName: manifest.name, isOwn: plugin.isOwn) {
            return [reference.problem("\(objection)")]
        }
        if plugin.isOwn {
            return allow.map {
                [
                    $0.problem(
                        "the plugin \(manifest.name) is the project's own, found allow",
                        hint: "remove it: only plugins by a path need it")
                ]
            } ?? []
        }
        let objections = ForeignPlugins.objections(to: manifest)
        if !objections.isEmpty {
            return objections.map {
                reference.problem("\($0)", hint: "no definition can allow it; the plugin must do without")
            }
        }
        let granted = manifest.granted
        let missing = granted.beyond(allow?.value ?? Permissions())
        let stale = (allow?.value ?? Permissions()).beyond(granted)
        var problems: [Problem] = []
        if !missing.isEmpty {
            let words = granted.words.map { "\n  - \($0)" }.joined()
            problems.append(
                (allow.map { $0.with(()) } ?? reference.with(())).problem(
                    "the plugin \(manifest.name) asks for permissions that the definition does not allow: "
                        + missing.map(\.description).joined(separator: "; "),
                    hint: "the plugin\(words)\nto allow this, write\n" + yaml(of: plugin)))
        }
        if !stale.isEmpty, let allow {
            problems.append(
                allow.problem(
                    "the definition allows the plugin \(manifest.name) what it does not ask for: "
                        + stale.map(\.description).joined(separator: "; "),
                    hint: "remove it: a later version of the plugin would have it without a question"))
        }
        return problems
    }

    /// An item of the definition's list `plugins`, to be pasted.
    public static func yaml(path: String, _ granted: Permissions) -> String {
        let start = SourcePosition(file: "", line: 1, column: 1)
        let lines = Node(granted.json, position: start).yaml.split(separator: "\n").map { "      \($0)\n" }
        let head = "plugins:\n  - path: \(Node(.text(path), position: start).yaml)"
        return (head.hasSuffix("\n") ? head : head + "\n") + (lines.isEmpty ? "" : "    allow:\n" + lines.joined())
    }

    static func yaml(of plugin: BuiltPlugin) -> String {
        yaml(path: plugin.reference.value, plugin.manifest.granted)
    }
}

extension Located {
    fileprivate func with<Other>(_ value: Other) -> Located<Other> {
        Located<Other>(value: value, position: position, path: path)
    }
}
