import Documents
import Files
import Glibc

/// Records of one class on the data partition: a line of JSON each. The file that is full becomes
/// the old one, in place of the one before.
///
/// A record is on the disk (`fdatasync(2)`) before its request is answered. Power loss can cut the
/// last line: the next record begins a new one, and readers skip what is no record.
struct AuditFile {
    let path: String
    /// Bytes of the file, and of the old one.
    let most: Int

    var old: String { "\(path).1" }

    func append(_ record: AuditRecord) throws {
        let file = try open()
        var line: [UInt8] = []
        let size = Int(try file.status().st_size)
        if size > 0, try file.read(1, at: size - 1) != [UInt8(ascii: "\n")] { line.append(UInt8(ascii: "\n")) }
        record.json.write(into: &line)
        line.append(UInt8(ascii: "\n"))
        if size + line.count > most, size > 0 {
            try FileSystem.rename(path, to: old)
            try FileSystem.syncDirectory(FileSystem.parent(of: path) ?? "/")
            return try append(record)
        }
        try file.append(line)
        guard fdatasync(file.descriptor) == 0 else { throw SystemError("fdatasync", path) }
    }

    private func open() throws -> File {
        if let file = try? File(path, O_RDWR | O_APPEND | O_NOFOLLOW) { return file }
        let folder = FileSystem.parent(of: path) ?? "/"
        try FileSystem.makeDirectory(folder)
        // A collector's program may read it, and users of the box may not.
        chmod(folder, 0o700)
        let file = try File(path, O_RDWR | O_APPEND | O_CREAT | O_NOFOLLOW, mode: 0o600)
        try FileSystem.syncDirectory(folder)
        return file
    }

    /// All records, oldest first.
    var records: [AuditRecord] {
        [old, path].flatMap { path in
            ((try? FileSystem.read(path)) ?? []).split(separator: UInt8(ascii: "\n")).compactMap { line in
                (try? JSON.parse(line)).flatMap { AuditRecord($0) }
            }
        }
    }
}
