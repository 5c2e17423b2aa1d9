import Digests

/// A file to fetch.
public struct Download: Sendable, Hashable {
    public var url: String
    /// The destination; the file appears there only when it is complete and verified.
    public var path: String
    /// Bytes; nil if unknown.
    public var size: Int?
    public var digest: Digest?

    public init(url: String, path: String, size: Int? = nil, digest: Digest? = nil) {
        self.url = url
        self.path = path
        self.size = size
        self.digest = digest
    }
}

/// A download that failed.
public struct DownloadFailure: Error, Sendable, CustomStringConvertible {
    public enum Reason: Sendable, Hashable {
        /// The server answered with 404 or 410, or there is no such local file.
        case gone
        /// The server answered with another status from 400 to 499.
        case refused(Int)
        /// The file has another size or digest than expected.
        case mismatch(String)
        /// A failure of the server or the network, as libcurl describes it.
        case transfer(String)
        /// A failure of this machine's disk, as errno describes it.
        case local(String)
    }

    public var url: String
    public var reason: Reason

    /// - Parameter url: a user and a password in it are removed.
    public init(url: String, reason: Reason) { (self.url, self.reason) = (URLUser.removed(from: url), reason) }

    /// Whether a retry may succeed.
    public var isTransient: Bool { if case .transfer = reason { true } else { false } }

    /// Whether the server demands an authentication (RFC 9110, section 15.5).
    public var isDenied: Bool { [.refused(401), .refused(403), .refused(407)].contains(reason) }

    public var description: String {
        switch reason {
        case .gone: "\(url): the server no longer has it"
        case .refused(let status): "\(url): the server answered with \(status)"
        case .mismatch(let text), .transfer(let text), .local(let text): "\(url): \(text)"
        }
    }
}

/// The progress of a set of downloads.
public struct DownloadProgress: Sendable, Hashable {
    public var finishedFiles: Int
    public var files: Int
    /// Bytes written, including those of an earlier run.
    public var bytes: Int
    /// The sum of the known sizes.
    public var totalBytes: Int
}
