import CSystem
import Glibc

/// A system call that failed: which, on what, and why.
public struct SystemError: Error, Sendable, Hashable, CustomStringConvertible {
    /// The call, as its man page names it.
    public var call: String
    /// What it was applied to, usually a path.
    public var subject: String
    /// The value of `errno(3)`.
    public var code: Int32

    /// Keeps the current `errno` unless `code` is given.
    public init(_ call: String, _ subject: String, code: Int32 = errno) {
        self.call = call
        self.subject = subject
        self.code = code
    }

    public var description: String {
        let name = csystem_errno_name(code).map { String(cString: $0) } ?? "errno \(code)"
        return "\(subject): \(call): \(String(cString: strerror(code))) (\(name))"
    }
}
