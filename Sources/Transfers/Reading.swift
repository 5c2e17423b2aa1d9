import CCurl

extension Transfers {
    /// Fetches a small file into memory.
    ///
    /// - Parameters:
    ///   - most: bytes; of a longer file not one more is read, and it is a mismatch.
    ///   - range: a part of it alone; a server that knows no ranges sends more, which is too long.
    ///   - stallTime: seconds with next to no data after which the server is given up.
    public static func read(
        _ url: String, most: Int, range: Range<Int>? = nil, proxy: String? = nil, stallTime: Int = 30
    ) throws(DownloadFailure)
        -> [UInt8]
    {
        initialize
        guard let handle = curl_easy_init() else { throw DownloadFailure(url: url, reason: .local("no memory")) }
        defer { curl_easy_cleanup(handle) }
        prepare(handle, url, proxy: proxy, stallTime: stallTime)
        if let range { ccurl_set_string(handle, CURLOPT_RANGE, "\(range.lowerBound)-\(range.upperBound - 1)") }
        let reading = Reading(most: most)
        ccurl_set_pointer(handle, CURLOPT_WRITEDATA, Unmanaged.passUnretained(reading).toOpaque())
        ccurl_set_write_function(handle) { bytes, size, count, context in
            guard let bytes, let context else { return 0 }
            let reading = Unmanaged<Reading>.fromOpaque(context).takeUnretainedValue()
            guard reading.bytes.count + size * count <= reading.most else {
                reading.isTooLong = true
                return 0
            }
            reading.bytes += UnsafeRawBufferPointer(start: bytes, count: size * count)
            return size * count
        }
        let result = withExtendedLifetime(reading) { curl_easy_perform(handle) }
        if reading.isTooLong {
            throw DownloadFailure(url: url, reason: .mismatch("longer than the \(most) bytes that are allowed"))
        }
        guard result == CURLE_OK else {
            var status = 0
            ccurl_get_long(handle, CURLINFO_RESPONSE_CODE, &status)
            throw DownloadFailure(url: url, reason: reason(result, status))
        }
        return reading.bytes
    }

    private final class Reading {
        let most: Int
        var bytes: [UInt8] = []
        var isTooLong = false

        init(most: Int) { self.most = most }
    }

    /// What holds for every transfer.
    ///
    /// - Parameter stallTime: seconds with next to no data after which a server is given up.
    static func prepare(_ handle: UnsafeMutableRawPointer, _ url: String, proxy: String?, stallTime: Int = 30) {
        ccurl_set_string(handle, CURLOPT_URL, url)
        ccurl_set_long(handle, CURLOPT_FOLLOWLOCATION, 1)
        ccurl_set_long(handle, CURLOPT_FAILONERROR, 1)
        ccurl_set_long(handle, CURLOPT_NOSIGNAL, 1)
        ccurl_set_long(handle, CURLOPT_CONNECTTIMEOUT, 20)
        ccurl_set_long(handle, CURLOPT_LOW_SPEED_LIMIT, 1000)
        ccurl_set_long(handle, CURLOPT_LOW_SPEED_TIME, stallTime)
        ccurl_set_string(handle, CURLOPT_USERAGENT, "vcpe")
        if let proxy { ccurl_set_string(handle, CURLOPT_PROXY, proxy) }
    }

    /// - Parameter status: of HTTP; 0 where none came.
    static func reason(_ result: CURLcode, _ status: Int) -> DownloadFailure.Reason {
        if [404, 410].contains(status) || result == CURLE_FILE_COULDNT_READ_FILE { return .gone }
        if status >= 400, status < 500 { return .refused(status) }
        return .transfer(
            status >= 500 ? "the server answered with \(status)" : String(cString: curl_easy_strerror(result)))
    }
}
