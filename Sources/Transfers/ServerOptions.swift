/// How to reach a server, and how to authenticate to it.
public struct ServerOptions: Sendable, Hashable {
    /// A user and a password (RFC 7617). Neither is part of any description.
    public struct Login: Sendable, Hashable, CustomStringConvertible, CustomReflectable {
        public var user: String
        public var password: String

        public init(user: String, password: String) { (self.user, self.password) = (user, password) }

        public var description: String { "login" }
        public var customMirror: Mirror { Mirror(self, children: [:]) }
    }

    /// The address of a proxy; empty for a direct connection, nil for the environment's
    /// (`http_proxy` and the like).
    public var proxy: String?
    public var login: Login?
    /// A PEM file with the client's certificate, and one with its key; a nil key is in the
    /// certificate's file.
    public var clientCertificate: String?
    public var clientKey: String?
    /// A PEM file with the only trust anchors for the server; nil for the system's.
    public var trustAnchors: String?
    /// A PEM file with revoked certificates.
    public var revocations: String?
    /// Whether the server's certificate must have a trust anchor, and whether it must have the
    /// server's name.
    public var verifiesPeer = true
    public var verifiesHost = true

    public init(proxy: String? = nil) { self.proxy = proxy }
}

/// A URL's user and password (RFC 3986, section 3.2.1).
public enum URLUser {
    /// The URL without user and password, for messages and for programs' arguments.
    public static func removed(from url: String) -> String {
        guard let (range, _) = find(in: url) else { return url }
        var rest = url
        rest.removeSubrange(range)
        return rest
    }

    /// The user and the password in a URL; nil if it has none.
    public static func login(in url: String) -> ServerOptions.Login? {
        guard let (_, text) = find(in: url) else { return nil }
        let parts = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
        let password = parts.count > 1 ? parts[1] : ""
        return .init(user: decoded(parts.first ?? ""), password: decoded(password))
    }

    private static func find(in url: String) -> (range: Range<String.Index>, text: Substring)? {
        guard let scheme = url.firstRange(of: "://") else { return nil }
        let authority = url[scheme.upperBound...].prefix { !"/?#".contains($0) }
        guard let at = authority.lastIndex(of: "@") else { return nil }
        return (authority.startIndex..<url.index(after: at), authority[..<at])
    }

    private static func decoded(_ text: Substring) -> String {
        var bytes: [UInt8] = []
        var rest = Array(text.utf8)[...]
        while let byte = rest.popFirst() {
            let digits = String(decoding: rest.prefix(2), as: UTF8.self)
            if byte == UInt8(ascii: "%"), digits.utf8.count == 2, let value = UInt8(digits, radix: 16) {
                bytes.append(value)
                rest = rest.dropFirst(2)
            } else {
                bytes.append(byte)
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
