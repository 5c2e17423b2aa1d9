import Digests
import Files
import Glibc
import ImageBuilder
import Updates

/// Appends a dm-verity tree to a copy of a file that has none, such as a UKI, so that a block delta
/// can be made of it.
enum FileTree {
    /// Copies a file, pads the copy to whole blocks, and appends a tree.
    ///
    /// - Parameter root: the root whose salt the tree uses.
    static func copy(_ file: File, _ path: String, like root: File) async throws -> File {
        let copy = try File(path, O_RDWR | O_CREAT | O_TRUNC)
        let size = Int(try file.status().st_size)
        let whole = (size + Verity.blockSize - 1) / Verity.blockSize * Verity.blockSize
        try copy.copy(from: file, at: 0, count: size, to: 0)
        try copy.resize(to: whole)
        let salt = try VerityLayout(file: root).salt
        _ = try await Verity.append(to: copy, at: 0, size: whole, salt: salt)
        return copy
    }

    /// The hash at the top of a file's tree.
    static func top(of file: File) throws -> Digest {
        let layout = try VerityLayout(file: file)
        let block = layout.levels.last?.lowerBound ?? 0
        return layout.hash(try file.read(VerityLayout.blockSize, at: block * VerityLayout.blockSize))
    }
}
