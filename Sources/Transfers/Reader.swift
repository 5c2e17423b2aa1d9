import CCurl
import Glibc

/// Reads small files, or parts of large ones, into memory. A connection stays open between two reads from the same server.
public final class Reader {
    /// The way to servers.
    public struct Line: Sendable, Hashable {
        /// The address of a proxy; nil for the environment's (`http_proxy` and the like).
        public var proxy: String?
        /// Bytes a second that are read at most; nil for as many as come.
        public var bytesPerSecond: Int?
        /// A file of certificates in PEM, by which alone servers are known; nil for the system's.
        public var trustAnchors: String?
        /// Seconds with next to no data after which a server is given up.
        public var stallTime: Int

        public init(
            proxy: String? = nil, bytesPerSecond: Int? = nil, trustAnchors: String? = nil, stallTime: Int = 30
        ) {
            (self.proxy, self.bytesPerSecond) = (proxy, bytesPerSecond)
            (self.trustAnchors, self.stallTime) = (trustAnchors, stallTime)
        }
    }

    private let line: Line
    private let handle: UnsafeMutableRawPointer?
    /// When the next read may begin, in microseconds: libcurl limits a long transfer, and not many short ones.
    private var freeAt = 0

    public init(_ line: Line = Line()) {
        Transfers.initialize
        self.line = line
        handle = curl_easy_init()
    }

    deinit { if let handle { curl_easy_cleanup(handle) } }

    /// Fetches a file, or a part of it.
    ///
    /// - Parameters:
    ///   - most: bytes; of a longer file not one more is read, and it is a mismatch.
    ///   - range: a part of it alone, and all of that; a server that knows no ranges sends more, which is too long.
    public func read(_ url: String, most: Int, range: Range<Int>? = nil) throws(DownloadFailure) -> [UInt8] {
        guard let handle else { throw DownloadFailure(url: url, reason: .local("no memory")) }
        guard Self.mayBeOpened(url, handle) else { throw DownloadFailure(url: url, reason: .gone) }
        let begin = waitUntilFree()
        // Options go; what is connected stays.
        curl_easy_reset(handle)
        Transfers.prepare(handle, url, proxy: line.proxy, stallTime: line.stallTime)
        if let trustAnchors = line.trustAnchors { ccurl_set_string(handle, CURLOPT_CAINFO, trustAnchors) }
        if let most = line.bytesPerSecond {
            ccurl_set_offset(handle, CURLOPT_MAX_RECV_SPEED_LARGE, curl_off_t(most))
            // A line that is held back by ourselves has not stalled.
            ccurl_set_long(handle, CURLOPT_LOW_SPEED_LIMIT, min(1000, most / 4))
        }
        if let range { ccurl_set_string(handle, CURLOPT_RANGE, "\(range.lowerBound)-\(range.upperBound - 1)") }
        let arrival = Arrival(most: most)
        ccurl_set_pointer(handle, CURLOPT_WRITEDATA, Unmanaged.passUnretained(arrival).toOpaque())
        ccurl_set_write_function(handle) { bytes, size, count, context in
            guard let bytes, let context else { return 0 }
            let arrival = Unmanaged<Arrival>.fromOpaque(context).takeUnretainedValue()
            guard arrival.bytes.count + size * count <= arrival.most else {
                arrival.isTooLong = true
                return 0
            }
            arrival.bytes += UnsafeRawBufferPointer(start: bytes, count: size * count)
            return size * count
        }
        let result = withExtendedLifetime(arrival) { curl_easy_perform(handle) }
        if let most = line.bytesPerSecond { freeAt = begin + arrival.bytes.count * 1_000_000 / max(1, most) }
        if arrival.isTooLong {
            throw DownloadFailure(url: url, reason: .mismatch("longer than the \(most) bytes that are allowed"))
        }
        guard result == CURLE_OK else {
            var status = 0
            ccurl_get_long(handle, CURLINFO_RESPONSE_CODE, &status)
            // It ends before the part begins.
            if range != nil, result == CURLE_BAD_DOWNLOAD_RESUME || result == CURLE_RANGE_ERROR {
                throw DownloadFailure(url: url, reason: .mismatch("it ends before byte \(range?.lowerBound ?? 0)"))
            }
            throw DownloadFailure(url: url, reason: Transfers.reason(result, status))
        }
        if let range, arrival.bytes.count < range.count {
            throw DownloadFailure(
                url: url, reason: .mismatch("\(arrival.bytes.count) bytes instead of \(range.count)"))
        }
        return arrival.bytes
    }

    /// False for a local address of anything but a plain file: opening a FIFO would wait for ever for somebody to write to it.
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

    private final class Arrival {
        let most: Int
        var bytes: [UInt8] = []
        var isTooLong = false

        init(most: Int) { self.most = most }
    }
}
