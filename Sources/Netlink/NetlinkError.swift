import Glibc

/// A netlink request that the kernel refused, or that was not sent.
public struct NetlinkError: Error, Sendable, Hashable, CustomStringConvertible {
    /// The object that the request was about.
    public var subject: String
    /// errno(3).
    public var code: Int32
    /// The kernel's own words beside the errno (NLMSGERR_ATTR_MSG), or what to do.
    public var message: String?

    init(_ subject: String, code: Int32 = errno, message: String? = nil) {
        self.subject = subject
        self.code = code
        self.message = message
    }

    public var description: String {
        "\(subject): \(String(cString: strerror(code))) (\(code))" + (message.map { ": \($0)" } ?? "")
    }
}
