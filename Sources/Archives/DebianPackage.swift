import CArchive

/// Reads a .deb (deb(5)): an ar archive with the format version, the control files and the data.
/// Control files and data are tar archives, uncompressed or compressed with gzip, xz or zstd.
/// Nothing is unpacked to disk.
public enum DebianPackage {
    /// Reads the package in one pass.
    ///
    /// - Parameters:
    ///   - path: the .deb file.
    ///   - limits: bounds on the unpacked contents.
    ///   - control: called for each control file (`control`, `postinst`, …) with its name and
    ///     contents.
    ///   - data: called for each entry of the package's tree, in archive order. `content` passes a
    ///     regular file's bytes to its argument in chunks; it can be called at most once.
    /// - Throws: ``ArchiveError`` for a file that is not a .deb, is truncated, exceeds a limit or
    ///   has a path outside of the tree; also rethrows errors of the callbacks.
    public static func read(
        _ path: String, limits: ArchiveLimits = .standard,
        control: (_ name: String, _ bytes: [UInt8]) throws -> Void,
        data: (
            _ entry: ArchiveEntry, _ content: ((UnsafeRawBufferPointer) throws -> Void) throws -> Void
        ) throws -> Void
    ) throws {
        let name = path.split(separator: "/").last.map(String.init) ?? path
        let package = try ArchiveReader(.path(path), name: name, limits: limits) { archive_read_support_format_ar($0) }
        var members: [String] = []
        while let member = try package.next() {
            members.append(member.path)
            switch member.path {
            case "debian-binary":
                guard try package.readAllData().starts(with: Array("2.".utf8)) else {
                    throw ArchiveError(
                        file: name, reason: .notADebianPackage,
                        message: "found another version in debian-binary, allowed is 2.x")
                }
            case let path where path.hasPrefix("control.tar"):
                let reader = try tar(in: package, name: name, limits)
                while let entry = try reader.next() {
                    if case .file = entry.kind { try control(entry.path, try reader.readAllData()) }
                }
            case let path where path.hasPrefix("data.tar"):
                let reader = try tar(in: package, name: name, limits)
                while let entry = try reader.next() {
                    try data(entry) { body in try reader.readData(body) }
                }
            default: break
            }
        }
        for wanted in ["debian-binary", "control.tar", "data.tar"]
        where !members.contains(where: { $0.hasPrefix(wanted) }) {
            throw ArchiveError(
                file: name, reason: .notADebianPackage, message: "incomplete .deb: it has no \(wanted)")
        }
    }

    private static func tar(in package: ArchiveReader, name: String, _ limits: ArchiveLimits) throws(ArchiveError)
        -> ArchiveReader
    {
        try ArchiveReader(.entry(of: package), name: name, limits: limits) { archive in
            archive_read_support_format_tar(archive)
            archive_read_support_format_empty(archive)
            archive_read_support_filter_gzip(archive)
            archive_read_support_filter_xz(archive)
            archive_read_support_filter_zstd(archive)
        }
    }
}
