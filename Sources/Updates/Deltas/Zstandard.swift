import CZstd

/// Zstandard frames (RFC 8878) that may refer to a prefix: data that the reader already has.
public enum Zstandard {
    /// 32 MiB: more than a frame and its prefix together.
    private static let windowLog: Int32 = 25

    /// - Parameter prefix: data that the reader already has.
    public static func compress(_ bytes: [UInt8], after prefix: [UInt8] = [], level: Int32 = 19) -> [UInt8] {
        let context = ZSTD_createCCtx()
        defer { ZSTD_freeCCtx(context) }
        ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, level)
        if !prefix.isEmpty {
            ZSTD_CCtx_setParameter(context, ZSTD_c_windowLog, windowLog)
            ZSTD_CCtx_setParameter(context, ZSTD_c_enableLongDistanceMatching, 1)
        }
        return prefix.withUnsafeBytes { before in
            if !prefix.isEmpty { ZSTD_CCtx_refPrefix(context, before.baseAddress, before.count) }
            return [UInt8](unsafeUninitializedCapacity: ZSTD_compressBound(bytes.count)) { buffer, count in
                count = ZSTD_compress2(context, buffer.baseAddress, buffer.count, bytes, bytes.count)
                // The buffer has ZSTD_compressBound bytes, and nothing else can fail.
                precondition(ZSTD_isError(count) == 0)
            }
        }
    }

    /// - Parameter size: the size of the decompressed data, in bytes.
    /// - Returns: nil for anything but a frame of that size.
    public static func decompress(_ bytes: [UInt8], after prefix: [UInt8] = [], size: Int) -> [UInt8]? {
        let context = ZSTD_createDCtx()
        defer { ZSTD_freeDCtx(context) }
        ZSTD_DCtx_setParameter(context, ZSTD_d_windowLogMax, windowLog)
        return prefix.withUnsafeBytes { before -> [UInt8]? in
            if !prefix.isEmpty { ZSTD_DCtx_refPrefix(context, before.baseAddress, before.count) }
            let result = [UInt8](unsafeUninitializedCapacity: size) { buffer, count in
                let made = ZSTD_decompressDCtx(context, buffer.baseAddress, buffer.count, bytes, bytes.count)
                count = ZSTD_isError(made) == 0 ? made : 0
            }
            return result.count == size ? result : nil
        }
    }
}
