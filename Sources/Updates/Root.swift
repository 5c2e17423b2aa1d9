import Documents

/// The root of trust: the keys of the other three roles, and its own (TUF 1.0, section 4.3).
public struct Root: Sendable {
    public let metadata: Metadata
    public let roles: [String: Role]
    /// Whether files carry their version or hash in their names, so that a repository can be changed while it is read.
    public let isConsistent: Bool

    public init(_ bytes: [UInt8], name: String = "root") throws(UpdateFailure) {
        metadata = try Metadata(bytes, name: name, type: "root")
        let signed = metadata.signed
        guard let keys = signed["keys"]?.object, let listed = signed["roles"]?.object else {
            throw UpdateFailure(.malformed, name, "a root without keys and roles")
        }
        var roles: [String: Role] = [:]
        for role in TrustedMetadata.topLevel {
            guard let json = listed[role] else {
                throw UpdateFailure(.malformed, name, "a root without the role \(role)")
            }
            roles[role] = try Role(json, keys: keys, name: name)
        }
        self.roles = roles
        isConsistent = signed["consistent_snapshot"]?.boolean ?? false
    }

    func role(_ name: String) throws(UpdateFailure) -> Role {
        guard let role = roles[name] else { throw UpdateFailure(.malformed, "root", "it has no role \(name)") }
        return role
    }
}
