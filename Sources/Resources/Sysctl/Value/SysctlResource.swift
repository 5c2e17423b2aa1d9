/// The value of a sysctl. When no plan has it any more, it gets its earlier value back.
public struct SysctlResource: ResourceType {
    public static let kind = "sysctl"
    public static let isShared = true

    /// The path below /proc/sys: with slashes, since a link's name may contain a dot.
    public var key: String
    public var value: String

    public init(key: String, value: String) { (self.key, self.value) = (key, value) }

    public init(_ line: ResourceLine) throws(InvalidResource) {
        self.init(key: try line.required("id"), value: try line.required("value"))
        // Another way to write a key would be another key to those who compare.
        guard Permissions.isPath("/" + key) else {
            throw line.invalid("the id is not a path below /proc/sys without \".\", \"..\" or doubled slashes")
        }
    }

    public var identity: String { key }
    public var fields: [String: JSON] { ["value": .text(value)] }
}
