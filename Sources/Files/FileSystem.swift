import CSystem
import Glibc
import Synchronization

/// The few operations on names that the tools need.
public enum FileSystem {
    /// True when something stands at `path`, links followed.
    public static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

    /// True when `path` is a folder, links followed.
    public static func isDirectory(_ path: String) -> Bool {
        var status = stat()
        return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
    }

    /// All bytes of a regular file.
    public static func read(_ path: String) throws(SystemError) -> [UInt8] { try File(path).readAll() }

    /// The lines of a file by their first words: a word, a blank, the rest. Of those that begin
    /// alike the first; none without a rest.
    public static func words(_ path: String) throws(SystemError) -> [String: String] {
        var words: [String: String] = [:]
        for line in String(decoding: try read(path), as: UTF8.self).split(separator: "\n") {
            let pair = line.split(separator: " ", maxSplits: 1).map(String.init)
            if pair.count == 2, words[pair[0]] == nil { words[pair[0]] = pair[1] }
        }
        return words
    }

    /// Makes a folder and those above it.
    public static func makeDirectory(_ path: String) throws(SystemError) {
        if mkdir(path, 0o755) == 0 || errno == EEXIST {
            var status = stat()
            guard stat(path, &status) == 0 else { throw SystemError("stat", path) }
            guard status.st_mode & S_IFMT == S_IFDIR else { throw SystemError("mkdir", path, code: ENOTDIR) }
            return
        }
        guard errno == ENOENT, let parent = parent(of: path) else { throw SystemError("mkdir", path) }
        try makeDirectory(parent)
        guard mkdir(path, 0o755) == 0 || errno == EEXIST else { throw SystemError("mkdir", path) }
    }

    /// The folder that holds `path`; nil for the root and for a bare name.
    public static func parent(of path: String) -> String? {
        guard let slash = path.lastIndex(of: "/") else { return nil }
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }

    /// The last component of `path`.
    public static func name(of path: String) -> String {
        path.lastIndex(of: "/").map { String(path[path.index(after: $0)...]) } ?? path
    }

    /// The path without links, `.` and `..`: `realpath(3)`.
    public static func realPath(_ path: String) throws(SystemError) -> String {
        guard let real = realpath(path, nil) else { throw SystemError("realpath", path) }
        defer { free(real) }
        return String(cString: real)
    }

    /// Where a symbolic link leads, as it is written (readlink(2)).
    public static func linkTarget(_ path: String) throws(SystemError) -> String {
        var buffer = [CChar](repeating: 0, count: Int(PATH_MAX) + 1)
        let count = readlink(path, &buffer, Int(PATH_MAX))
        guard count >= 0 else { throw SystemError("readlink", path) }
        return String(decoding: buffer.prefix(count).map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// The names in a folder, sorted, without `.` and `..`.
    public static func list(_ path: String) throws(SystemError) -> [String] { try Folder(path).list() }

    /// Removes a file, or a folder with all in it; a missing one is fine. Links in the path above it are
    /// followed. From there on links are removed, and another process that exchanges names leads this
    /// one nowhere else (``Folder/remove(_:)``).
    public static func remove(_ path: String) throws(SystemError) {
        try removeTree(path)
        unfinished.withLock { _ = $0.paths.remove(path) }
    }

    private static func removeTree(_ path: String) throws(SystemError) {
        var path = path
        while path.count > 1, path.hasSuffix("/") { path.removeLast() }
        let folder: Folder
        do throws(SystemError) { folder = try Folder(parent(of: path) ?? ".") } catch {
            guard error.code == ENOENT else { throw error }
            return
        }
        try folder.remove(name(of: path))
    }

    /// Gives `path` a new name, replacing what stood there.
    public static func rename(_ path: String, to target: String) throws(SystemError) {
        guard Glibc.rename(path, target) == 0 else { throw SystemError("rename", "\(path) → \(target)") }
    }

    /// Waits until the names in a folder are on the disk.
    public static func syncDirectory(_ path: String) throws(SystemError) {
        try File(path, O_RDONLY | O_DIRECTORY).sync()
    }

    /// A new, empty, private folder within `parent`.
    public static func makeTemporaryDirectory(in parent: String, prefix: String) throws(SystemError) -> String {
        try makeDirectory(parent)
        let isUnfinished = prefix.hasPrefix(temporaryPrefix)
        return try makeUnfinished("\(parent)/\(prefix)", "mkdtemp", isNoted: isUnfinished) {
            mkdtemp($0) == nil ? -1 : 0
        }
        .path
    }

    /// Makes a file or folder by a name of its own, and notes it at once: whoever removes what is
    /// unfinished misses none, and none comes after that.
    private static func makeUnfinished(
        _ start: String, _ call: String, isNoted: Bool = true, _ make: (UnsafeMutablePointer<CChar>) -> Int32
    ) throws(SystemError) -> (path: String, descriptor: Int32) {
        let made: Result<(path: String, descriptor: Int32), SystemError> = unfinished.withLock { state in
            if state.isOver { return .failure(SystemError(call, start, code: EINTR)) }
            var template = Array("\(start).XXXXXX".utf8CString)
            let descriptor = template.withUnsafeMutableBufferPointer { $0.baseAddress.map(make) ?? -1 }
            guard descriptor >= 0 else { return .failure(SystemError(call, start)) }
            let path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
            if isNoted { state.paths.insert(path) }
            return .success((path, descriptor))
        }
        return try made.get()
    }

    /// With this begin the names of files that aren't whole yet; only a killed process leaves one
    /// behind.
    public static let temporaryPrefix = ".new."

    /// Removes what killed processes left in a folder that nobody else writes to now.
    public static func removeLeftovers(in folder: String) throws(SystemError) {
        try Folder(folder).removeLeftovers()
    }

    /// Writes a file whole or not at all: under a temporary name beside it, synced, then renamed.
    ///
    /// - Parameter body: writes the contents; when it throws, nothing is left behind.
    public static func replace<Failure: Error>(
        _ path: String, mode: mode_t = 0o644, sync: Bool = true, body: (File) throws(Failure) -> Void
    ) throws {
        let file = try makeTemporaryFile(for: path)
        do {
            try body(file)
            try finish(file, as: path, mode: mode, sync: sync)
        } catch {
            try? remove(file.path)
            throw error
        }
    }

    /// The same for a body that waits.
    public static func replace(
        _ path: String, mode: mode_t = 0o644, sync: Bool = true, body: (File) async throws -> Void
    ) async throws {
        let file = try makeTemporaryFile(for: path)
        do {
            try await body(file)
            try finish(file, as: path, mode: mode, sync: sync)
        } catch {
            try? remove(file.path)
            throw error
        }
    }

    private static func makeTemporaryFile(for path: String) throws(SystemError) -> File {
        let folder = parent(of: path).map { $0 == "/" ? "/" : $0 + "/" } ?? ""
        let made = try makeUnfinished("\(folder)\(temporaryPrefix)\(name(of: path))", "mkostemp") {
            csystem_make_temporary_file($0)
        }
        return File(descriptor: made.descriptor, path: made.path)
    }

    private static func finish(_ file: File, as path: String, mode: mode_t, sync: Bool) throws(SystemError) {
        guard fchmod(file.descriptor, mode) == 0 else { throw SystemError("fchmod", file.path) }
        if sync { try file.sync() }
        try rename(file.path, to: path)
        unfinished.withLock { _ = $0.paths.remove(file.path) }
    }

    /// Files and folders that are being made now, under their temporary names.
    private struct Unfinished {
        var paths: Set<String> = []
        /// This process ends: nothing more is begun.
        var isOver = false
    }

    private static let unfinished = Mutex(Unfinished())

    /// Removes what is half made, for a process that must end now.
    public static func removeUnfinished() {
        unfinished.withLock {
            $0.isOver = true
            for path in $0.paths {
                // A program that was started may still put something into a folder of ours.
                for _ in 0..<20 where exists(path) {
                    try? removeTree(path)
                    if exists(path) { usleep(10_000) }
                }
            }
        }
    }

    /// Writes `bytes` as a file, whole or not at all.
    public static func replace(_ path: String, with bytes: [UInt8], mode: mode_t = 0o644) throws {
        try replace(path, mode: mode) { (file: File) throws(SystemError) in try file.write(bytes, at: 0) }
    }

    /// Writes `text` as UTF-8, whole or not at all.
    public static func replace(_ path: String, with text: String, mode: mode_t = 0o644) throws {
        try replace(path, with: Array(text.utf8), mode: mode)
    }
}
