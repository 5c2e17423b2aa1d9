import Files
import Updates

/// What an installation is at, in a file for whoever asks meanwhile; gone when it ends.
final class Progress {
    private let version: String
    private let path: String
    private var step = ""
    private var bytes = 0
    /// As of ``bytes`` when it was written last.
    private var written = 0
    /// Bytes after which it is written anew.
    private static let interval = 1 << 18

    init(_ version: String, path: String) { (self.version, self.path) = (version, path) }

    deinit { try? FileSystem.remove(path) }

    func begin(_ step: Installation.Step) {
        self.step = step.rawValue
        write()
    }

    func add(_ count: Int) {
        bytes += count
        if bytes - written >= Self.interval { write() }
    }

    private func write() {
        written = bytes
        try? FileSystem.replace(path, with: "\(version): \(step), \(bytes) bytes fetched")
    }
}

/// A file of a release, with everything that is read of it reported.
struct ObservedSource<Source: DeltaSource>: DeltaSource {
    private let source: Source
    private let progress: Progress

    init(_ source: Source, _ progress: Progress) { (self.source, self.progress) = (source, progress) }

    func read(_ range: Range<Int>) throws(UpdateFailure) -> [UInt8] {
        let bytes = try source.read(range)
        progress.add(bytes.count)
        return bytes
    }
}
