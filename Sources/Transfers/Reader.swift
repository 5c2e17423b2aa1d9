import CCurl
import Glibc

/// Reads small files, or parts of large ones, into memory. A connection stays open between two
/// reads from one server.
public final class Reader {
    /// How to connect to servers.
    public struct Options: Sendable, Hashable {
        /// The address of a proxy; nil for the environment's (`http_proxy` and the like).
        public var proxy: String?
        /// The rate limit in bytes a second; nil for no limit.
        public var bytesPerSecond: Int?
        /// A PEM file with the only trust anchors for servers; nil for the system's.
        public var trustAnchors: String?
        /// Seconds below 1000 bytes a second after which a read fails.
        public var stallTime: Int
        /// The socket of a ``Fetcher`` that reads instead of this process; nil for none.
        public var fetcher: String?

        public init(
            proxy: String? = nil, bytesPerSecond: Int? = nil, trustAnchors: String? = nil, stallTime: Int = 30,
            fetcher: String? = nil
        ) {
            self.fetcher = fetcher
            (self.proxy, self.bytesPerSecond) = (proxy, bytesPerSecond)
            (self.trustAnchors, self.stallTime) = (trustAnchors, stallTime)
        }
    }

    public let options: Options
    private let handle: UnsafeMutableRawPointer?
    /// When the next read may begin, in microseconds: libcurl limits a long transfer, but not many
    /// short ones.
    private var freeAt = 0

    public init(_ options: Options = Options()) {
        Transfers.initialize
        self.options = options
        handle = curl_easy_init()
    }

    deinit { if let handle { curl_easy_cleanup(handle) } }

    /// Fetches a file, or a part of it.
    ///
    /// - Parameters:
    ///   - most: the largest size in bytes; a longer file is a mismatch, and no more is read.
    ///   - range: the part, which must exist completely; a server without ranges sends more, which
    ///     is a mismatch.
    ///   - deadline: seconds for the whole read; nil for no limit while it does not stall.
    public func read(
        _ url: String, most: Int, range: Range<Int>? = nil, deadline: Int? = nil
    ) throws(DownloadFailure) -> [UInt8] {
        guard let handle else { throw DownloadFailure(url: url, reason: .local("curl_easy_init: out of memory")) }
        guard Self.mayBeOpened(url, handle) else { throw DownloadFailure(url: url, reason: .gone) }
        let begin = waitUntilFree()
        // Resets options, and keeps connections.
        curl_easy_reset(handle)
        Transfers.prepare(handle, url, proxy: options.proxy, stallTime: options.stallTime)
        if let trustAnchors = options.trustAnchors { ccurl_set_string(handle, CURLOPT_CAINFO, trustAnchors) }
        if let most = options.bytesPerSecond {
            ccurl_set_offset(handle, CURLOPT_MAX_RECV_SPEED_LARGE, curl_off_t(most))
            // A read at the rate limit must not count as a stall.
            ccurl_set_long(handle, CURLOPT_LOW_SPEED_LIMIT, min(1000, most / 4))
        }
        if let deadline { ccurl_set_long(handle, CURLOPT_TIMEOUT, deadline) }
        if let range { ccurl_set_string(handle, CURLOPT_RANGE, "\(range.lowerBound)-\(range.upperBound - 1)") }
        let response = Response(most: most)
        ccurl_set_pointer(handle, CURLOPT_WRITEDATA, Unmanaged.passUnretained(response).toOpaque())
        ccurl_set_write_function(handle) { bytes, size, count, context in
            guard let bytes, let context else { return 0 }
            let response = Unmanaged<Response>.fromOpaque(context).takeUnretainedValue()
            guard response.bytes.count + size * count <= response.most else {
                response.isTooLong = true
                return 0
            }
            response.bytes += UnsafeRawBufferPointer(start: bytes, count: size * count)
            return size * count
        }
        let result = withExtendedLifetime(response) { curl_easy_perform(handle) }
        if let most = options.bytesPerSecond { freeAt = begin + response.bytes.count * 1_000_000 / max(1, most) }
        if response.isTooLong {
            throw DownloadFailure(url: url, reason: .mismatch("longer than the \(most) bytes that are allowed"))
        }
        guard result == CURLE_OK else {
            var status = 0
            ccurl_get_long(handle, CURLINFO_RESPONSE_CODE, &status)
            // The server reports that the file ends before the part begins.
            if range != nil, result == CURLE_BAD_DOWNLOAD_RESUME || result == CURLE_RANGE_ERROR {
                throw DownloadFailure(url: url, reason: .mismatch("it ends before byte \(range?.lowerBound ?? 0)"))
            }
            throw DownloadFailure(url: url, reason: Transfers.reason(result, status))
        }
        if let range, response.bytes.count < range.count {
            throw DownloadFailure(
                url: url, reason: .mismatch("\(response.bytes.count) bytes instead of \(range.count)"))
        }
        return response.bytes
    }

    /// False for a local address of anything but a plain file: opening a FIFO would block until
    /// another process writes.
    private static func mayBeOpened(_ url: String, _ handle: UnsafeMutableRawPointer) -> Bool {
        guard url.hasPrefix("file:///"),
            let path = curl_easy_unescape(handle, String(url.dropFirst("file://".utf8.count)), 0, nil)
        else { return true }
        defer { curl_free(path) }
        var status = stat()
        return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFREG
    }

    /// - Returns: the time, in microseconds.
    private func waitUntilFree() -> Int {
        func now() -> Int {
            var time = timespec()
            clock_gettime(CLOCK_BOOTTIME, &time)
            return time.tv_sec * 1_000_000 + time.tv_nsec / 1000
        }
        while case let left = freeAt - now(), left > 0 { usleep(UInt32(min(left, 1_000_000))) }
        return now()
    }

    private final class Response {
        let most: Int
        var bytes: [UInt8] = []
        var isTooLong = false

        init(most: Int) { self.most = most }
    }
}
