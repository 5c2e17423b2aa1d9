import PluginKit

/// Something that a plugin asks for and may not have.
public struct PermissionViolation: Error, Sendable, Hashable, CustomStringConvertible {
    public enum Reason: Sendable, Hashable {
        /// The manifest does not grant it: the line that it would need.
        case missing(Permissions.Grant)
        /// No manifest can grant it: why.
        case forbidden(String)
    }

    public var plugin: String
    /// What it plans, such as `service lan-dnsmasq`; `manifest` for the manifest itself.
    public var resource: String
    public var asked: String
    public var reason: Reason

    public init(_ plugin: String, _ resource: String, _ asked: String, _ reason: Reason) {
        (self.plugin, self.resource, self.asked, self.reason) = (plugin, resource, asked, reason)
    }

    public var description: String {
        switch reason {
        case .missing(let grant):
            "plugin \(plugin): \(resource) asks for \(asked), which its manifest does not grant; "
                + "the manifest would need \(grant)"
        case .forbidden(let why): "plugin \(plugin): \(resource) asks for \(asked): \(why)"
        }
    }
}
