import CArchive

/// One pass over an archive, by libarchive. Not thread-safe; several readers may run at once.
final class Reader {
    enum Source {
        case path(String)
        /// The entry on which another reader stands: an archive within an archive, never unpacked to disk.
        case entry(of: Reader)
    }

    let archive: OpaquePointer
    let name: String
    private var entry: OpaquePointer?
    /// Kept alive, since libarchive calls back into it while this reader reads.
    private let outer: Reader?

    /// - Parameter configure: chooses the formats and filters that are allowed.
    init(_ source: Source, name: String, configure: (OpaquePointer) -> Void) throws(ArchiveError) {
        guard let archive = archive_read_new() else {
            throw ArchiveError(file: name, message: "libarchive has no memory left")
        }
        self.archive = archive
        self.name = name
        configure(archive)
        switch source {
        case .path(let path):
            outer = nil
            try check(archive_read_open_filename(archive, path, 1 << 18))
        case .entry(let reader):
            outer = reader
            let client = Unmanaged.passUnretained(reader).toOpaque()
            try check(
                archive_read_open(
                    archive, client, nil,
                    { archive, client, buffer in
                        guard let client, let buffer else { return -1 }
                        let outer = Unmanaged<Reader>.fromOpaque(client).takeUnretainedValue()
                        var count = 0
                        var offset: Int64 = 0
                        let result = archive_read_data_block(outer.archive, buffer, &count, &offset)
                        if result == ARCHIVE_EOF { return 0 }
                        if result < ARCHIVE_WARN {
                            // Carries the text across; the function that sets it is variadic and takes none from Swift.
                            archive_copy_error(archive, outer.archive)
                            return -1
                        }
                        return count
                    }, nil))
        }
    }

    deinit { archive_read_free(archive) }

    private func check(_ result: Int32) throws(ArchiveError) {
        guard result >= ARCHIVE_WARN else { throw failure() }
    }

    private func failure() -> ArchiveError {
        let text = archive_error_string(archive).map { String(cString: $0) } ?? "not readable"
        return ArchiveError(file: name, message: text)
    }

    /// Moves on to the next entry; nil at the end.
    func next() throws(ArchiveError) -> ArchiveEntry? {
        let result = archive_read_next_header(archive, &entry)
        if result == ARCHIVE_EOF { return nil }
        try check(result)
        guard let entry else { return nil }
        return try convert(entry)
    }

    /// Feeds the current entry's bytes to `body`, piece by piece, holes as zeros.
    func readData<Failure: Error>(_ body: (UnsafeRawBufferPointer) throws(Failure) -> Void) throws {
        var position: Int64 = 0
        while true {
            var pointer: UnsafeRawPointer?
            var count = 0
            var offset: Int64 = 0
            let result = archive_read_data_block(archive, &pointer, &count, &offset)
            if result == ARCHIVE_EOF { return }
            try check(result)
            if offset > position {
                try [UInt8](repeating: 0, count: Int(offset - position)).withUnsafeBytes { try body($0) }
            }
            try body(UnsafeRawBufferPointer(start: pointer, count: count))
            position = offset + Int64(count)
        }
    }

    /// The current entry's bytes.
    func readAllData() throws -> [UInt8] {
        var bytes: [UInt8] = []
        try readData { bytes.append(contentsOf: $0) }
        return bytes
    }

    private func convert(_ entry: OpaquePointer) throws(ArchiveError) -> ArchiveEntry {
        guard let raw = archive_entry_pathname(entry) else {
            throw ArchiveError(file: name, message: "an entry has no readable name")
        }
        let path = try normalized(String(cString: raw))
        let kind: ArchiveEntry.Kind
        if let target = archive_entry_hardlink(entry) {
            kind = .hardLink(path: try normalized(String(cString: target)))
        } else {
            let type = archive_entry_filetype(entry)
            switch type {
            // ar members carry no type when binutils wrote them.
            case 0o100000, 0: kind = .file(size: Int(archive_entry_size(entry)))
            case 0o040000: kind = .directory
            case 0o120000: kind = .symbolicLink(target: archive_entry_symlink(entry).map { String(cString: $0) } ?? "")
            case 0o020000:
                kind = .characterDevice(
                    major: UInt32(archive_entry_rdevmajor(entry)), minor: UInt32(archive_entry_rdevminor(entry)))
            case 0o060000:
                kind = .blockDevice(
                    major: UInt32(archive_entry_rdevmajor(entry)), minor: UInt32(archive_entry_rdevminor(entry)))
            case 0o010000: kind = .fifo
            default: throw ArchiveError(file: name, message: "\(path): an entry of unknown type \(type)")
            }
        }
        return ArchiveEntry(
            path: path, kind: kind, mode: UInt32(archive_entry_mode(entry)) & 0o7777,
            uid: UInt32(truncatingIfNeeded: archive_entry_uid(entry)),
            gid: UInt32(truncatingIfNeeded: archive_entry_gid(entry)), modified: Int64(archive_entry_mtime(entry)),
            attributes: attributes(entry))
    }

    private func attributes(_ entry: OpaquePointer) -> [String: [UInt8]] {
        var attributes: [String: [UInt8]] = [:]
        archive_entry_xattr_reset(entry)
        var key: UnsafePointer<CChar>?
        var value: UnsafeRawPointer?
        var size = 0
        while archive_entry_xattr_next(entry, &key, &value, &size) == ARCHIVE_OK {
            guard let key else { continue }
            attributes[String(cString: key)] = [UInt8](UnsafeRawBufferPointer(start: value, count: size))
        }
        return attributes
    }

    /// Without `./`, doubled and trailing slashes. An absolute path and `..` are refused: nothing honest has them.
    private func normalized(_ path: String) throws(ArchiveError) -> String {
        guard !path.hasPrefix("/") else {
            throw ArchiveError(file: name, message: "\"\(path)\" is an absolute path; a package's paths are relative")
        }
        let parts = path.split(separator: "/").filter { $0 != "." }
        guard !parts.contains("..") else {
            throw ArchiveError(file: name, message: "\"\(path)\" leaves the tree by \"..\"")
        }
        return parts.joined(separator: "/")
    }
}
