import Glibc

/// A netlink request that the kernel refused, or that never reached it.
public struct NetlinkError: Error, Sendable, Hashable, CustomStringConvertible {
    /// What was asked, about which object.
    public var subject: String
    /// errno(3).
    public var code: Int32
    /// What the kernel says beside the errno.
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
