import Files
import Glibc

/// Keeps builds away from an image's output folder while its files are read: a shared lock on the
/// file that a build locks exclusively. Without it a release could take its root from one build and
/// its UKI from the next.
public struct OutputLock {
    private let file: File

    /// Waits for a build that is under way.
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
