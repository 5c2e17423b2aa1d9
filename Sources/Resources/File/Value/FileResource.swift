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
    /// A program of the image, with its arguments, that exits with 0 when the file is valid; empty for
    /// none. It runs before a commit is applied and finds the plan's files at their paths.
    public var check: [String]

    public init(path: String, content: String, owner: String, mode: Int, check: [String] = []) {
        (self.path, self.content, self.owner, self.mode, self.check) = (path, content, owner, mode, check)
    }

    public init(_ line: ResourceLine) throws(InvalidResource) {
        let check = try line.texts("check")
        guard check.first?.hasPrefix("/") ?? (line["check"] == nil) else {
            throw line.invalid("\"check\" is not a list of an absolute path and its arguments")
        }
        self.init(
            path: try line.required("path"), content: try line.required("content"),
            owner: try line.required("owner"), mode: try line.number("mode", Self.modes) ?? 0o644,
            check: check)
    }

    public var identity: String { path }

    public var fields: [String: JSON] {
        Self.fields([
            "path": .text(path), "content": .text(content), "owner": .text(owner), "mode": .integer(mode),
            "check": check.isEmpty ? nil : .texts(check),
        ])
    }

    public var programs: [String] { Array(check.prefix(1)) }

    public func objection(to plugin: String) -> String? { Self.objection(toPath: path, of: plugin) }

    public var references: [ResourceKey] {
        Secrets.references(in: content).sorted().map { ResourceKey(SecretResource.kind, $0) }
    }
}
