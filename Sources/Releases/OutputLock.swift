import Files
import Glibc

/// Blocks builds in an image's output folder while its files are read, by a shared lock on the file
/// that a build locks exclusively. Without it, a release could contain the root of one build and
/// the UKI of the next.
public struct OutputLock {
    private let file: File

    /// Waits for a running build.
    ///
    /// - Parameters:
    ///   - folder: `OUTPUT/NAME`, which must exist.
    ///   - waits: called once if the lock is not free.
    public init(_ folder: String, waits: () -> Void = {}) throws(SystemError) {
        file = try File("\(folder)/.lock", O_RDWR | O_CREAT)
        var isFirst = true
        while flock(file.descriptor, LOCK_SH | (isFirst ? LOCK_NB : 0)) != 0 {
            switch errno {
            case EWOULDBLOCK where isFirst: waits()
            case EINTR: break
            default: throw SystemError("flock", file.path)
            }
            isFirst = false
        }
    }
}
