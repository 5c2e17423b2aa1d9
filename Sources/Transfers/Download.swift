import Digests

/// A file to fetch.
public struct Download: Sendable, Hashable {
    public var url: String
    /// Where it goes; it appears there only whole and verified.
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
        /// The bytes are not those that were expected.
        case mismatch(String)
        /// The server or the network, in libcurl's words.
        case transfer(String)
        /// This machine's disk, in the words of errno.
        case local(String)
    }

    public var url: String
    public var reason: Reason

    public init(url: String, reason: Reason) { (self.url, self.reason) = (url, reason) }

    /// Whether another try may succeed.
    public var isTransient: Bool { if case .transfer = reason { true } else { false } }

    public var description: String {
        switch reason {
        case .gone: "\(url): the server no longer has it"
        case .refused(let status): "\(url): the server answered with \(status)"
        case .mismatch(let text), .transfer(let text), .local(let text): "\(url): \(text)"
        }
    }
}

/// How far a set of downloads is.
public struct DownloadProgress: Sendable, Hashable {
    public var finishedFiles: Int
    public var files: Int
    /// Bytes written, with those that an earlier run left.
    public var bytes: Int
    /// Bytes to write in all, as far as sizes are known.
    public var totalBytes: Int
}
