/// A file of a plugin, below /run/vcpe/NAME or /data/NAME.
public struct FileResource: ResourceType {
    public static let kind = "file"
    static let modes = 0...0o7777

    public var path: String
    /// `${secret:NAME}` stands for a secret of the same plugin.
    public var content: String
    /// A user's name; its group is the file's, too.
    public var owner: String
    public var mode: Int

    public init(path: String, content: String, owner: String, mode: Int) {
        (self.path, self.content, self.owner, self.mode) = (path, content, owner, mode)
    }

    public init(_ line: ResourceLine) throws(InvalidResource) {
        self.init(
            path: try line.required("path"), content: try line.required("content"),
            owner: try line.required("owner"), mode: try line.number("mode", Self.modes) ?? 0o644)
    }

    public var identity: String { path }

    public var fields: [String: JSON] {
        ["path": .text(path), "content": .text(content), "owner": .text(owner), "mode": .integer(mode)]
    }

    public func objection(to plugin: String) -> String? { Self.objection(toPath: path, of: plugin) }

    public var references: [ResourceKey] {
        Secrets.references(in: content).sorted().map { ResourceKey(SecretResource.kind, $0) }
    }
}
