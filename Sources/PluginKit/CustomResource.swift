/// A resource of a custom kind: a plugin's program drives it (``PluginManifest/drivers``), and the
/// engine reads nothing of it but its kind and its id.
///
/// Like Kubernetes' custom resources, it lets a plugin add a kind without a change of the engine.
public struct CustomResource: ResourceType {
    /// A line of a plan says its own kind instead (``lineKind``).
    public static let kind = "custom"

    public let lineKind: String
    /// 1 to 255 bytes without control characters.
    public let identity: String
    /// The keys of the line beside `kind`, `id` and `at`.
    public let fields: [String: JSON]

    private static let reservedKeys = ["kind", "id", "at"]

    /// - Parameter fields: without the keys `kind`, `id` and `at`, which every line has.
    public init(kind: String, id: String, _ fields: [String: JSON]) {
        lineKind = kind
        identity = id
        self.fields = fields.filter { !Self.reservedKeys.contains($0.key) }
    }

    public init(_ line: ResourceLine) throws(InvalidResource) {
        let id = try line.required("id")
        guard Self.isIdentity(id) else {
            throw line.invalid("\"id\" must be a text of 1 to 255 bytes without control characters")
        }
        self.init(kind: try line.required("kind"), id: id, line.json.object ?? [:])
    }

    /// Whether a text can be the id of a resource: it becomes a part of log lines and errors.
    public static func isIdentity(_ text: String) -> Bool {
        (1...255).contains(text.utf8.count) && text.utf8.allSatisfy { $0 >= 0x20 && $0 != 0x7F }
    }
}
