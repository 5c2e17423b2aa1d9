import CArchive

/// Decompresses single files, such as kernel modules, with libarchive.
public enum Decompression {
    /// Returns the contents of a file that is compressed with xz, zstd or gzip.
    ///
    /// - Parameters:
    ///   - name: the file's name in errors.
    ///   - limit: the largest accepted size of the contents, in bytes.
    /// - Throws: ``ArchiveError``, with the reason `tooLarge` above the limit.
    public static func decompress(
        _ bytes: [UInt8], name: String, limit: Int = ArchiveLimits.standard.small
    ) throws(ArchiveError) -> [UInt8] {
        guard let archive = archive_read_new() else {
            throw ArchiveError(file: name, reason: .unreadable, message: "libarchive: out of memory")
        }
        defer { archive_read_free(archive) }
        archive_read_support_format_raw(archive)
        archive_read_support_filter_gzip(archive)
        archive_read_support_filter_xz(archive)
        archive_read_support_filter_zstd(archive)
        var result: [UInt8] = []
        let failed = bytes.withUnsafeBytes { input in
            var entry: OpaquePointer?
            guard archive_read_open_memory(archive, input.baseAddress, input.count) == ARCHIVE_OK,
                archive_read_next_header(archive, &entry) == ARCHIVE_OK
            else { return true }
            var buffer = [UInt8](repeating: 0, count: 1 << 16)
            while true {
                let count = archive_read_data(archive, &buffer, buffer.count)
                if count < 0 { return true }
                if count == 0 || result.count > limit { return false }
                result += buffer[..<count]
            }
        }
        guard result.count <= limit else {
            throw ArchiveError(
                file: name, reason: .tooLarge, message: "it unpacks to more bytes than the limit of \(limit)")
        }
        if failed {
            let text = archive_error_string(archive).map { String(cString: $0) } ?? "not readable"
            throw ArchiveError(file: name, reason: .unreadable, message: text)
        }
        return result
    }
}
