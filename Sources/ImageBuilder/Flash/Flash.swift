import Disks
import Files
import Glibc
import Slots

/// Writes a built image onto a disk: for premises servers and USB sticks.
public struct Flash {
    private let image: BuiltImage
    private var writer: DiskWriter
    /// The site document's path on the EFI system partition.
    private static let site = "vcpe/site.yaml"

    /// - Parameter mayFormatRemovable: allows the box to keep its data on this disk although the
    ///   disk is removable.
    public init(_ image: BuiltImage, to device: BlockDevice, mayFormatRemovable: Bool = false) throws {
        self.image = image
        let raw = try File(image.raw)
        if let backing = device.backingFile, try Self.isSame(backing, raw) {
            throw DiskFailure(
                "\(device.path) was not written: it is a loop device of \(image.raw) itself", reason: .unusable,
                hint: "cp --sparse=always \(image.raw) COPY, and use a loop device of the copy")
        }
        let table = try PartitionTable.read(raw)
        let extents = try Sparse.extents(of: raw, unit: 1 << 16)
        let pieces = try ["esp", "root-a"].compactMap { name -> DiskWriter.Piece? in
            guard let partition = table[name] else { return nil }
            let end = partition.offset + partition.size
            let last = extents.last { $0.offset >= partition.offset && $0.offset < end }
            let used =
                name == "esp"
                ? partition.offset + (try FATUsage.end(of: raw, at: partition.offset))
                : last.map { $0.offset + $0.count } ?? partition.offset
            return DiskWriter.Piece(raw, from: partition.offset, to: partition.offset..<min(used, end))
        }
        writer = try DiskWriter(pieces, table: table, to: device)
        writer.mayFormatRemovable = mayFormatRemovable
    }

    private static func isSame(_ path: String, _ file: File) throws -> Bool {
        var other = stat()
        let own = try file.status()
        return stat(path, &other) == 0 && other.st_dev == own.st_dev && other.st_ino == own.st_ino
    }

    /// Writes the used parts of the partitions, blanks those that the box formats, gives the disk
    /// new identifiers, and verifies all data.
    ///
    /// - Parameters:
    ///   - site: the bytes of a site document, which goes onto the EFI system partition.
    ///   - signature: of the document, which an image may demand.
    ///   - progress: called with the phase, the bytes done and the total bytes.
    public mutating func run(
        site: [UInt8]?, signature: [UInt8]? = nil, progress: (DiskWriter.Phase, Int, Int) -> Void
    ) throws {
        try writer.run(
            finish: { esp in
                for (path, bytes) in [(Self.site, site), ("\(Self.site).sig", signature)] {
                    guard let bytes else { continue }
                    var volume = try FATVolume(esp)
                    try volume.write(bytes, to: path)
                    guard try FATVolume(esp).read(path) == bytes else {
                        throw DiskFailure(
                            "\(esp.path): \(path) read back differs from what was written", reason: .comparison)
                    }
                }
            }, progress: progress)
    }
}
