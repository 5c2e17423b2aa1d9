import CCurl

extension Transfers {
    /// The maximum number of redirects.
    static let mostRedirects = 5

    /// Sets the options of all transfers.
    ///
    /// - Parameter stallTime: seconds below 1000 bytes a second after which the transfer fails.
    static func prepare(_ handle: UnsafeMutableRawPointer, _ url: String, proxy: String?, stallTime: Int = 30) {
        ccurl_set_string(handle, CURLOPT_URL, url)
        ccurl_set_string(handle, CURLOPT_PROTOCOLS_STR, "http,https,file")
        // A mirror is not trusted: it must not redirect to a local file, nor from TLS to plain
        // HTTP.
        ccurl_set_string(handle, CURLOPT_REDIR_PROTOCOLS_STR, url.hasPrefix("http:") ? "http,https" : "https")
        ccurl_set_long(handle, CURLOPT_FOLLOWLOCATION, 1)
        ccurl_set_long(handle, CURLOPT_MAXREDIRS, mostRedirects)
        ccurl_set_long(handle, CURLOPT_FAILONERROR, 1)
        ccurl_set_long(handle, CURLOPT_NOSIGNAL, 1)
        ccurl_set_long(handle, CURLOPT_CONNECTTIMEOUT, 20)
        ccurl_set_long(handle, CURLOPT_LOW_SPEED_LIMIT, 1000)
        ccurl_set_long(handle, CURLOPT_LOW_SPEED_TIME, stallTime)
        ccurl_set_string(handle, CURLOPT_USERAGENT, "vcpe")
        if let proxy { ccurl_set_string(handle, CURLOPT_PROXY, proxy) }
    }

    /// - Parameter status: the HTTP status; 0 if the server sent none.
    static func reason(_ result: CURLcode, _ status: Int) -> DownloadFailure.Reason {
        if [404, 410].contains(status) || result == CURLE_FILE_COULDNT_READ_FILE { return .gone }
        // After a timeout, or too many requests, a retry may succeed (RFC 9110, section 15; RFC
        // 6585, section 4).
        let isTransient = status >= 500 || [408, 429].contains(status)
        if status >= 400, !isTransient { return .refused(status) }
        return .transfer(
            isTransient ? "the server answered with \(status)" : String(cString: curl_easy_strerror(result)))
    }
}
