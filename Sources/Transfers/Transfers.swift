import CCurl
import Digests
import Files
import Glibc

/// Fetches files with libcurl: several at once, resumed where an earlier run ended, verified while
/// they arrive.
public enum Transfers {
    /// Fetches all of `downloads`.
    ///
    /// A file is written as `PATH.part` and renamed when its size and digest are right; the next
    /// run resumes what a failed one left. If two processes fetch the same file, one holds the lock
    /// on the part, and the other waits.
    ///
    /// - Parameters:
    ///   - parallel: the number of parallel transfers.
    ///   - triesOfEach: the number of attempts for a file while its failures are transient.
    ///   - progress: called a few times a second.
    ///   - server: the options of a URL's server; also called for each redirect.
    /// - Returns: the failures, in the order of `downloads`; empty if all succeeded.
    public static func fetch(
        _ downloads: [Download], parallel: Int = 8, triesOfEach: Int = 3,
        progress: ((DownloadProgress) -> Void)? = nil, server: (String) -> ServerOptions = { _ in ServerOptions() }
    ) throws(SystemError) -> [DownloadFailure] {
        if downloads.isEmpty { return [] }
        initialize
        guard let multi = curl_multi_init() else { throw SystemError("curl_multi_init", "", code: ENOMEM) }
        defer { curl_multi_cleanup(multi) }
        var waiting = downloads[...]
        var running: [OpaquePointer: Transfer] = [:]
        var failures: [String: DownloadFailure] = [:]
        var state = DownloadProgress(
            finishedFiles: 0, files: downloads.count, bytes: 0, totalBytes: downloads.reduce(0) { $0 + ($1.size ?? 0) })
        var finishedBytes = 0
        var triesSoFar: [String: Int] = [:]

        while !waiting.isEmpty || !running.isEmpty {
            var busy = false
            while running.count < parallel, let download = waiting.popFirst() {
                do {
                    guard let transfer = try Transfer(download, server: server) else {
                        // Another process fetches the file: try again after the others.
                        waiting.append(download)
                        busy = true
                        break
                    }
                    if transfer.needsNothing {
                        if let failure = transfer.finish(CURLE_OK) { failures[download.path] = failure }
                        finishedBytes += transfer.position
                        state.finishedFiles += 1
                        continue
                    }
                    running[OpaquePointer(transfer.handle)] = transfer
                    curl_multi_add_handle(multi, transfer.handle)
                } catch {
                    failures[download.path] = DownloadFailure(url: download.url, reason: .local("\(error)"))
                    state.finishedFiles += 1
                }
            }
            var active: Int32 = 0
            curl_multi_perform(multi, &active)
            if active > 0 || busy { curl_multi_poll(multi, nil, 0, 200, nil) }
            var left: Int32 = 0
            while let message = curl_multi_info_read(multi, &left) {
                var result = CURLE_OK
                guard let handle = ccurl_done(message, &result),
                    let transfer = running.removeValue(forKey: OpaquePointer(handle))
                else { continue }
                curl_multi_remove_handle(multi, handle)
                if transfer.follow(server) {
                    running[OpaquePointer(handle)] = transfer
                    curl_multi_add_handle(multi, handle)
                    continue
                }
                if let failure = transfer.finish(result) {
                    let tries = triesSoFar[transfer.download.path, default: 0] + 1
                    if transfer.mayRetry(failure) || failure.isTransient && tries < triesOfEach {
                        triesSoFar[transfer.download.path] = tries
                        waiting.append(transfer.download)
                        continue
                    }
                    failures[transfer.download.path] = failure
                }
                finishedBytes += transfer.position
                state.finishedFiles += 1
            }
            state.bytes = finishedBytes + running.values.reduce(0) { $0 + $1.position }
            progress?(state)
        }
        return downloads.compactMap { failures[$0.path] }
    }

    static let initialize: Void = { curl_global_init(Int(CURL_GLOBAL_DEFAULT)) }()
}

/// A file that is being fetched.
private final class Transfer {
    let download: Download
    let handle: UnsafeMutableRawPointer
    private let part: File
    /// Bytes on disk so far.
    private(set) var position = 0
    private let resumedFrom: Int
    private let isComplete: Bool
    private var cantResume = false
    private var hash = SHA256()
    private var localFailure: SystemError?
    /// That of the download, or of a redirect.
    private var url: String
    private var redirects = 0
    /// Bytes of the bodies of redirects, which are ignored.
    private var skipped = 0
    private static let mostSkipped = 1 << 16

    /// Nil if another process holds the lock on the part.
    init?(_ download: Download, server: (String) -> ServerOptions) throws(SystemError) {
        guard let part = try Self.lockedPart(download.path + ".part") else { return nil }
        self.download = download
        url = download.url
        self.part = part
        // Another process may have finished the file meanwhile.
        isComplete = download.digest != nil && FileSystem.exists(download.path)
        guard let handle = curl_easy_init() else { throw SystemError("curl_easy_init", download.url, code: ENOMEM) }
        self.handle = handle
        let present = Int(try part.status().st_size)
        if let size = download.size, download.digest != nil, present <= size {
            while position < present {
                let bytes = try part.read(1 << 20, at: position)
                hash.update(bytes)
                position += bytes.count
            }
        } else {
            try part.resize(to: 0)
        }
        resumedFrom = position
        prepare(server(url))
    }

    private func prepare(_ server: ServerOptions) {
        curl_easy_reset(handle)
        Transfers.prepare(handle, url, proxy: server.proxy)
        Transfers.set(server, handle)
        // CURLOPT_RESUME_FROM would take the body of a redirect for a file without the range.
        if position > 0 { ccurl_set_string(handle, CURLOPT_RANGE, "\(position)-") }
        ccurl_set_pointer(handle, CURLOPT_WRITEDATA, Unmanaged.passUnretained(self).toOpaque())
        ccurl_set_write_function(handle) { bytes, size, count, context in
            guard let bytes, let context else { return 0 }
            let transfer = Unmanaged<Transfer>.fromOpaque(context).takeUnretainedValue()
            return transfer.take(UnsafeRawBufferPointer(start: bytes, count: size * count)) ? size * count : 0
        }
    }

    deinit { curl_easy_cleanup(handle) }

    private var status: Int {
        var status = 0
        ccurl_get_long(handle, CURLINFO_RESPONSE_CODE, &status)
        return status
    }

    /// Prepares the transfer of the file that the server has redirected to, with the options of
    /// that server: credentials of one must not reach another.
    ///
    /// - Returns: false if the server has not redirected, or must not.
    func follow(_ server: (String) -> ServerOptions) -> Bool {
        var next: UnsafePointer<CChar>?
        ccurl_get_string(handle, CURLINFO_REDIRECT_URL, &next)
        guard (300..<400).contains(status), let next, redirects < Transfers.mostRedirects else { return false }
        let target = String(cString: next)
        guard Transfers.mayRedirect(from: url, to: target) else { return false }
        redirects += 1
        url = target
        prepare(server(target))
        return true
    }

    /// Whether nothing is left to fetch.
    var needsNothing: Bool { isComplete || (download.size == position && download.digest != nil && position > 0) }

    /// Opens and locks the part. The previous holder of the lock may have renamed or removed the
    /// file that was opened here. Then the lock has no effect, and the path is opened again.
    private static func lockedPart(_ path: String) throws(SystemError) -> File? {
        while true {
            let part = try File(path, O_RDWR | O_CREAT)
            while flock(part.descriptor, LOCK_EX | LOCK_NB) != 0 {
                if errno == EWOULDBLOCK { return nil }
                guard errno == EINTR else { throw SystemError("flock", path) }
            }
            var named = stat()
            if stat(path, &named) == 0, try part.status().st_ino == named.st_ino { return part }
        }
    }

    private func take(_ bytes: UnsafeRawBufferPointer) -> Bool {
        let status = status
        if (300..<400).contains(status) {
            skipped += bytes.count
            return skipped <= Self.mostSkipped
        }
        // A server without ranges sends the whole file (RFC 9110, section 14.2).
        if resumedFrom > 0, ![0, 206].contains(status) {
            cantResume = true
            return false
        }
        // Never write more than the expected size: a hostile server could fill the disk.
        if let size = download.size, position + bytes.count > size {
            position += bytes.count
            return false
        }
        do {
            try part.write(bytes, at: position)
            hash.update(bytes)
            position += bytes.count
            return true
        } catch {
            localFailure = error
            return false
        }
    }

    /// Verifies the file and renames it to its path.
    ///
    /// - Returns: the failure; nil if the file is complete.
    func finish(_ result: CURLcode) -> DownloadFailure? {
        func failure(_ reason: DownloadFailure.Reason) -> DownloadFailure {
            DownloadFailure(url: download.url, reason: reason)
        }
        if isComplete {
            unlink(part.path)
            return nil
        }
        if let localFailure { return failure(.local("\(localFailure)")) }
        if let size = download.size, position > size {
            unlink(part.path)
            return failure(.mismatch("the server sends more than the \(size) bytes that are expected"))
        }
        let status = status
        if (300..<400).contains(status) {
            if position == 0 { unlink(part.path) }
            return failure(.refused(status))
        }
        if result != CURLE_OK {
            if [CURLE_RANGE_ERROR, CURLE_BAD_DOWNLOAD_RESUME].contains(result) || status == 416 { cantResume = true }
            if position == 0 { unlink(part.path) }
            return failure(Transfers.reason(result, status))
        }
        if let size = download.size, position != size {
            return failure(.transfer("ended after \(position) of \(size) bytes"))
        }
        let digest = hash.finishCopy()
        if let expected = download.digest, digest != expected {
            unlink(part.path)
            return failure(.mismatch("SHA-256 is \(digest), expected is \(expected)"))
        }
        do {
            try part.sync()
            try FileSystem.rename(part.path, to: download.path)
        } catch {
            return failure(.local("\(error)"))
        }
        return nil
    }

    /// Whether to fetch the file again from its start, because the part of an earlier run may
    /// differ from the server's file.
    func mayRetry(_ failure: DownloadFailure) -> Bool {
        guard resumedFrom > 0 else { return false }
        switch failure.reason {
        case .mismatch: return true
        case .transfer:
            // A server without ranges answers with the whole file, which libcurl refuses to append.
            // After any other failure the next run resumes the part.
            if cantResume { unlink(part.path) }
            return cantResume
        case .gone, .refused, .local: return false
        }
    }
}
