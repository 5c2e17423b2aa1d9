import Glibc

/// Small files and folders.
enum Text {
    /// Up to 1 MiB of a file as text; empty when it can't be read.
    static func read(_ path: String) -> String { String(decoding: bytes(path), as: UTF8.self) }

    /// Up to `limit` bytes of a file; empty when it can't be read. A FIFO in its place does not
    /// block PID 1.
    ///
    /// - Parameter flags: further ones of open(2).
    static func bytes(_ path: String, limit: Int = 1 << 20, flags: Int32 = 0) -> [UInt8] {
        let file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | flags)
        guard file >= 0 else { return [] }
        defer { close(file) }
        var result: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 1 << 14)
        while result.count < limit {
            let count = Glibc.read(file, &buffer, min(buffer.count, limit - result.count))
            if count < 0, errno == EINTR { continue }
            if count <= 0 { break }
            result += buffer[..<count]
        }
        return result
    }

    /// The lines of a file that hold something and are no comments.
    static func lines(_ path: String, limit: Int = 1 << 22) -> [Substring] {
        String(decoding: bytes(path, limit: limit), as: UTF8.self).split(separator: "\n").filter {
            !$0.isEmpty && !$0.hasPrefix("#")
        }
    }

    /// Writes a file such as those of /proc and /sys: in one call, in place.
    @discardableResult
    static func write(_ text: String, to path: String) -> Bool {
        let file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        guard file >= 0 else { return false }
        defer { close(file) }
        var text = text
        return text.withUTF8 { Glibc.write(file, $0.baseAddress, $0.count) == $0.count }
    }

    /// Replaces a file so that a power loss leaves the old content or the new one: written under
    /// another name, synced, renamed, and the folder synced.
    ///
    /// - Throws: with the old file untouched, unless only the folder can't be synced.
    static func replace(_ path: String, with text: String) throws(Failure) {
        let temporary = path + ".new"
        do throws(Failure) {
            try writeSynced(temporary, text)
            guard rename(temporary, path) == 0 else { throw Failure("rename", path) }
        } catch {
            unlink(temporary)
            throw error
        }
        let parent = path.utf8.lastIndex(of: UInt8(ascii: "/")).map { String(path[..<$0]) } ?? "."
        let folder = open(parent.isEmpty ? "/" : parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard folder >= 0 else { throw Failure("open", parent) }
        defer { close(folder) }
        // EINVAL: a file system that has no need of it.
        guard fsync(folder) == 0 || errno == EINVAL else { throw Failure("fsync", parent) }
    }

    private static func writeSynced(_ path: String, _ text: String) throws(Failure) {
        let file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard file >= 0 else { throw Failure("open", path) }
        defer { close(file) }
        guard Console.write(text, to: file) else { throw Failure("write", path) }
        guard fsync(file) == 0 else { throw Failure("fsync", path) }
    }

    /// Names in a folder, sorted; empty when it can't be read.
    static func list(_ path: String) -> [String] { (try? names(in: path)) ?? [] }

    /// Whether a folder has an entry; it may have very many.
    static func hasEntries(_ path: String) -> Bool {
        guard let folder = opendir(path) else { return false }
        defer { closedir(folder) }
        while let entry = readdir(folder) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) {
                String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name != ".", name != ".." { return true }
        }
        return false
    }

    /// Names in a folder, sorted.
    static func names(in path: String) throws(Failure) -> [String] {
        guard let folder = opendir(path) else { throw Failure("opendir", path) }
        defer { closedir(folder) }
        var names: [String] = []
        while let entry = readdir(folder) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) {
                String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names.sorted()
    }

    /// Makes a folder and those above it.
    static func makeFolder(_ path: String, mode: mode_t = 0o755) {
        var position = path.startIndex
        while let slash = path[position...].dropFirst().firstIndex(of: "/") {
            mkdir(String(path[..<slash]), 0o755)
            position = slash
        }
        mkdir(path, mode)
    }
}

/// The kernel's command line.
enum CommandLineOption {
    /// The value of the first `name=value`; empty for a bare `name`, nil without it.
    ///
    /// The boot image's own line, which its signature covers, ends with `--`. systemd-stub appends
    /// SMBIOS strings and addons behind it, which the kernel does not read, and PID 1 reads only
    /// where the firmware verifies no signatures.
    static func value(_ name: String) -> String? {
        let words = Text.read("/proc/cmdline").split(whereSeparator: { $0 == " " || $0 == "\n" })
        let own = words.prefix { $0 != "--" }
        if let value = value(name, own) { return value }
        let appended = words.dropFirst(own.count + 1)
        return appended.isEmpty || LoaderVariables.verifiesSignatures ? nil : value(name, appended)
    }

    private static func value(_ name: String, _ words: ArraySlice<Substring>) -> String? {
        words.first { $0 == name || $0.hasPrefix(name + "=") }.map { String($0.dropFirst(name.utf8.count + 1)) }
    }

    /// The value of `name=NUMBER`, clamped to a range; nil when there is none.
    static func number(_ name: String, _ range: ClosedRange<Int>) -> Int? {
        guard let text = value(name) else { return nil }
        if let number = Int(text) { return min(max(number, range.lowerBound), range.upperBound) }
        // A number that has no room in an Int is beyond any range.
        let digits = text.hasPrefix("-") ? text.dropFirst() : text[...]
        guard !digits.isEmpty, digits.allSatisfy({ ("0"..."9").contains($0) }) else { return nil }
        return text.hasPrefix("-") ? range.lowerBound : range.upperBound
    }

    static var isDebug: Bool { value("vcpe.debug") != nil }
}
