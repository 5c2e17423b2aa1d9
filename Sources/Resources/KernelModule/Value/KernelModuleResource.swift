/// A kernel module that is loaded, and never unloaded.
public struct KernelModuleResource: ResourceType {
    public static let kind = "kernel-module"
    public static let isShared = true

    /// As modprobe(8) takes it.
    public var name: String

    public init(_ name: String) { self.name = name }

    public init(_ line: ResourceLine) throws(InvalidResource) { name = try line.required("id") }

    public var identity: String { name }
    public var fields: [String: JSON] { [:] }
}
