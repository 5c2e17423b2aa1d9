import CArchive

/// One pass over an archive with libarchive. A reader is not thread-safe; several readers can run
/// in parallel.
final class ArchiveReader {
    enum Source {
        case path(String)
        /// The current entry of another reader: an archive within an archive, which is never
        /// unpacked to disk.
        case entry(of: ArchiveReader)
    }

    let archive: OpaquePointer
    let name: String
    private let limits: ArchiveLimits
    private var entry: OpaquePointer?
    /// Kept alive, since libarchive calls back into it while this reader reads.
    private let outer: ArchiveReader?
    private let isNested: Bool
    /// Entries and bytes so far, counted against the limits.
    private var (entries, bytes) = (0, 0)

    /// - Parameter configure: chooses the formats and filters that are allowed.
    init(
        _ source: Source, name: String, limits: ArchiveLimits, configure: (OpaquePointer) -> Void
    ) throws(ArchiveError) {
        guard let archive = archive_read_new() else {
            throw ArchiveError(file: name, reason: .unreadable, message: "libarchive: out of memory")
        }
        self.archive = archive
        self.name = name
        self.limits = limits
        configure(archive)
        switch source {
        case .path(let path):
            (outer, isNested) = (nil, false)
            try check(archive_read_open_filename(archive, path, 1 << 18))
        case .entry(let reader):
            (outer, isNested) = (reader, true)
            let client = Unmanaged.passUnretained(reader).toOpaque()
            try check(
                archive_read_open(
                    archive, client, nil,
                    { archive, client, buffer in
                        guard let client, let buffer else { return -1 }
                        let outer = Unmanaged<ArchiveReader>.fromOpaque(client).takeUnretainedValue()
                        var count = 0
                        var offset: Int64 = 0
                        let result = archive_read_data_block(outer.archive, buffer, &count, &offset)
                        if result == ARCHIVE_EOF { return 0 }
                        if result < ARCHIVE_WARN {
                            // Copies the error text. Swift cannot call archive_set_error, which is
                            // variadic.
                            archive_copy_error(archive, outer.archive)
                            return -1
                        }
                        return count
                    }, nil))
        }
    }

    deinit { archive_read_free(archive) }

    private func check(_ result: Int32) throws(ArchiveError) {
        guard result >= ARCHIVE_WARN else {
            let text = archive_error_string(archive).map { String(cString: $0) } ?? "not readable"
            throw failure(.unreadable, text)
        }
    }

    private func failure(_ reason: ArchiveError.Reason, _ message: String) -> ArchiveError {
        ArchiveError(file: name, reason: reason, message: message)
    }

    /// Advances to the next entry; nil at the end.
    func next() throws(ArchiveError) -> ArchiveEntry? {
        let result = archive_read_next_header(archive, &entry)
        if result == ARCHIVE_EOF { return nil }
        try check(result)
        guard let entry else { return nil }
        entries += 1
        guard entries <= limits.entries else {
            throw failure(.tooLarge, "it has more entries than the limit of \(limits.entries)")
        }
        return try convert(entry)
    }

    /// Passes the current entry's bytes to `body` in chunks, with holes as zeros.
    ///
    /// - Throws: ``ArchiveError`` when the data does not match the size in the entry's header; also
    ///   rethrows errors of `body`.
    func readData<Failure: Error>(_ body: (UnsafeRawBufferPointer) throws(Failure) -> Void) throws {
        // The ar layer has no holes, and the file's own size bounds its data.
        let size = try isNested ? checkedSize() : Int.max
        var position = 0
        while true {
            var pointer: UnsafeRawPointer?
            var count = 0
            var offset: Int64 = 0
            let result = archive_read_data_block(archive, &pointer, &count, &offset)
            if result == ARCHIVE_EOF { break }
            try check(result)
            // Both values come from the archive, and a sparse map can contain any number.
            guard offset >= position, count >= 0, offset <= size, count <= size - Int(offset) else {
                throw failure(.size, "an entry's data does not fit into the \(size) bytes of its header")
            }
            try zeros(Int(offset) - position, body)
            try body(UnsafeRawBufferPointer(start: pointer, count: count))
            position = Int(offset) + count
        }
        // A sparse file can end in a hole, for which libarchive returns no block.
        if isNested { try zeros(size - position, body) }
    }

    private func zeros<Failure: Error>(
        _ count: Int, _ body: (UnsafeRawBufferPointer) throws(Failure) -> Void
    ) throws {
        if count <= 0 { return }
        let piece = [UInt8](repeating: 0, count: min(count, 1 << 16))
        var left = count
        while left > 0 {
            try piece.withUnsafeBytes { try body(UnsafeRawBufferPointer(rebasing: $0[..<min(left, piece.count)])) }
            left -= min(left, piece.count)
        }
    }

    /// The current entry's size in bytes, within the limits.
    private func checkedSize() throws(ArchiveError) -> Int {
        let size = Int(archive_entry_size(entry))
        guard size >= 0, size <= limits.file else {
            throw failure(.tooLarge, "an entry has \(size) bytes; at most \(limits.file) are allowed")
        }
        bytes += size
        guard bytes <= limits.package else {
            throw failure(.tooLarge, "it unpacks to more bytes than the limit of \(limits.package)")
        }
        return size
    }

    /// The current entry's bytes, for small files.
    func readAllData() throws -> [UInt8] {
        let most = limits.small
        var bytes: [UInt8] = []
        let name = name
        try readData { (piece: UnsafeRawBufferPointer) throws(ArchiveError) in
            guard bytes.count + piece.count <= most else {
                throw ArchiveError(
                    file: name, reason: .tooLarge, message: "a control file has more bytes than the limit of \(most)")
            }
            bytes.append(contentsOf: piece)
        }
        return bytes
    }

    private func convert(_ entry: OpaquePointer) throws(ArchiveError) -> ArchiveEntry {
        let path = try normalized(try text(archive_entry_pathname(entry), "name"))
        let kind: ArchiveEntry.Kind
        if let target = archive_entry_hardlink(entry) {
            kind = .hardLink(path: try normalized(try text(target, "hard link's target")))
        } else {
            let type = archive_entry_filetype(entry)
            switch type {
            // binutils writes ar members without a file type.
            case 0o100000, 0: kind = .file(size: Int(archive_entry_size(entry)))
            case 0o040000: kind = .directory
            case 0o120000: kind = .symbolicLink(target: try text(archive_entry_symlink(entry), "link's target"))
            case 0o020000:
                kind = .characterDevice(
                    major: UInt32(truncatingIfNeeded: archive_entry_rdevmajor(entry)),
                    minor: UInt32(truncatingIfNeeded: archive_entry_rdevminor(entry)))
            case 0o060000:
                kind = .blockDevice(
                    major: UInt32(truncatingIfNeeded: archive_entry_rdevmajor(entry)),
                    minor: UInt32(truncatingIfNeeded: archive_entry_rdevminor(entry)))
            case 0o010000: kind = .fifo
            default: throw failure(.entryType, "\(path): an entry of unknown type \(type)")
            }
        }
        // Checked as 64 bits: truncation would turn the owner id 2^32 into root's.
        guard let uid = UInt32(exactly: archive_entry_uid(entry)), let gid = UInt32(exactly: archive_entry_gid(entry))
        else { throw failure(.entryType, "\(path): the owner's id is above \(UInt32.max)") }
        return ArchiveEntry(
            path: path, kind: kind, mode: UInt32(archive_entry_mode(entry)) & 0o7777, uid: uid, gid: gid,
            modified: Int64(archive_entry_mtime(entry)), attributes: try attributes(entry, path))
    }

    private func attributes(_ entry: OpaquePointer, _ path: String) throws(ArchiveError) -> [String: [UInt8]] {
        var attributes: [String: [UInt8]] = [:]
        archive_entry_xattr_reset(entry)
        var key: UnsafePointer<CChar>?
        var value: UnsafeRawPointer?
        var size = 0
        while archive_entry_xattr_next(entry, &key, &value, &size) == ARCHIVE_OK {
            guard let key else { continue }
            attributes[try text(key, "extended attribute's name")] = [UInt8](
                UnsafeRawBufferPointer(start: value, count: size))
        }
        return attributes
    }

    /// Converts a C string of the archive. Debian's file names are UTF-8 (Policy 10.10). Invalid
    /// bytes are refused: replacing them could make two names equal.
    private func text(_ raw: UnsafePointer<CChar>?, _ what: String) throws(ArchiveError) -> String {
        guard let raw else { throw failure(.name, "an entry's \(what) is not readable") }
        var bytes: [UInt8] = []
        var next = raw
        while next.pointee != 0 {
            bytes.append(UInt8(bitPattern: next.pointee))
            next += 1
        }
        guard bytes.count <= limits.path else {
            throw failure(.tooLarge, "an entry's \(what) has \(bytes.count) bytes; at most \(limits.path) are allowed")
        }
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw failure(.name, "an entry's \(what) is not UTF-8: \(String(decoding: bytes, as: UTF8.self))")
        }
        return text
    }

    /// Removes `./`, repeated and trailing slashes. Refuses absolute paths and `..`.
    private func normalized(_ path: String) throws(ArchiveError) -> String {
        guard !path.hasPrefix("/") else {
            throw failure(.pathOutside, "\"\(path)\" is an absolute path; a package's paths are relative")
        }
        let parts = path.split(separator: "/").filter { $0 != "." }
        guard !parts.contains("..") else { throw failure(.pathOutside, "\"\(path)\" leaves the tree through \"..\"") }
        return parts.joined(separator: "/")
    }
}
