import Documents

/// The root of trust: the keys of the other three roles, and its own (TUF 1.0, section 4.3).
public struct Root: Sendable {
    public let metadata: Metadata
    public let roles: [String: SigningRole]
    /// Whether file names contain version or hash, so that a repository can change while it is read
    /// (section 6.2).
    public let isConsistent: Bool

    public init(_ bytes: [UInt8], name: String = "root") throws(UpdateFailure) {
        metadata = try Metadata(bytes, name: name, type: "root")
        let signed = metadata.signed
        guard let keys = signed["keys"]?.object, let listed = signed["roles"]?.object else {
            throw UpdateFailure(.malformed, name, "keys or roles is missing")
        }
        var roles: [String: SigningRole] = [:]
        for role in TrustedMetadata.topLevel {
            guard let json = listed[role] else {
                throw UpdateFailure(.malformed, name, "the role \(role) is missing")
            }
            roles[role] = try SigningRole(json, keys: keys, name: name)
        }
        self.roles = roles
        isConsistent = signed["consistent_snapshot"]?.boolean ?? false
    }

    func role(_ name: String) throws(UpdateFailure) -> SigningRole {
        guard let role = roles[name] else { throw UpdateFailure(.malformed, "root", "the role \(name) is missing") }
        return role
    }
}
