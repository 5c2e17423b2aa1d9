import Digests
import Files
import Updates

extension BlockDelta {
    /// Writes the file from which any root becomes this one.
    ///
    /// - Parameter level: zstd's; 14 takes half as long as 19, for 0.3 % more.
    public static func make(of root: File, to path: String, level: Int32 = 19) throws {
        let count = Int(try root.status().st_size) / VerityLayout.blockSize
        var sizes: [UInt8] = magic + (0..<4).map { UInt8(truncatingIfNeeded: count >> (8 * $0)) }
        try FileSystem.replace(path) { (file: File) throws in
            var offset = sizes.count + 2 * count
            for block in 0..<count {
                let bytes = try root.read(VerityLayout.blockSize, at: block * VerityLayout.blockSize)
                let packed = Zstandard.compress(bytes, level: level)
                let kept = packed.count < bytes.count ? packed : bytes
                sizes += [UInt8(kept.count & 255), UInt8(kept.count >> 8)]
                try file.write(kept, at: offset)
                offset += kept.count
            }
            try file.write(sizes, at: 0)
        }
    }
}
