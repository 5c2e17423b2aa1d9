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

    /// Sets the options of one server. libcurl follows no redirect: the next server has others.
    static func set(_ server: ServerOptions, _ handle: UnsafeMutableRawPointer) {
        ccurl_set_long(handle, CURLOPT_FOLLOWLOCATION, 0)
        func set(_ option: CURLoption, _ value: String?) {
            if let value { ccurl_set_string(handle, option, value) }
        }
        set(CURLOPT_USERNAME, server.login?.user)
        set(CURLOPT_PASSWORD, server.login?.password)
        set(CURLOPT_SSLCERT, server.clientCertificate)
        set(CURLOPT_SSLKEY, server.clientKey)
        set(CURLOPT_CAINFO, server.trustAnchors)
        set(CURLOPT_CRLFILE, server.revocations)
        if !server.verifiesPeer { ccurl_set_long(handle, CURLOPT_SSL_VERIFYPEER, 0) }
        // apt, too, compares the name only where it verifies the certificate.
        if !server.verifiesPeer || !server.verifiesHost { ccurl_set_long(handle, CURLOPT_SSL_VERIFYHOST, 0) }
    }

    /// Whether a server of `url` may redirect to another URL: a mirror is not trusted, so never to
    /// a local file, nor from TLS to plain HTTP.
    static func mayRedirect(from url: String, to other: String) -> Bool {
        other.hasPrefix("https://") || url.hasPrefix("http://") && other.hasPrefix("http://")
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
