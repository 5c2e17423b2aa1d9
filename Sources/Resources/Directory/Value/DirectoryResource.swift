/// A directory of a plugin, below /run/vcpe/NAME or /data/NAME.
public struct DirectoryResource: ResourceType {
    public static let kind = "directory"

    public var path: String
    /// A user's name; its group is the directory's, too.
    public var owner: String
    public var mode: Int

    public init(path: String, owner: String, mode: Int) { (self.path, self.owner, self.mode) = (path, owner, mode) }

    public init(_ line: ResourceLine) throws(InvalidResource) {
        self.init(
            path: try line.required("path"), owner: try line.required("owner"),
            mode: try line.number("mode", FileResource.modes) ?? 0o755)
    }

    public var identity: String { path }

    public var fields: [String: JSON] {
        ["path": .text(path), "owner": .text(owner), "mode": .integer(mode)]
    }

    public func objection(to plugin: String) -> String? { Self.objection(toPath: path, of: plugin) }
}
