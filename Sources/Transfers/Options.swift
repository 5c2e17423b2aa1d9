import CCurl

extension Transfers {
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
        // Too slow, or too many of us at once: another time.
        let mayPass = status >= 500 || [408, 429].contains(status)
        if status >= 400, !mayPass { return .refused(status) }
        return .transfer(
            mayPass ? "the server answered with \(status)" : String(cString: curl_easy_strerror(result)))
    }
}
