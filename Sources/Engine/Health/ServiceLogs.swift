import Documents
import Files
import Glibc
import Terminals

/// What services have said, as PID 1 keeps it: a file each, and one that was full before it.
public struct ServiceLogs {
    let folder: String

    public init(folder: String = Places().logs) { self.folder = folder }

    public var names: [String] { ((try? FileSystem.list(folder)) ?? []).filter { !$0.hasSuffix(".1") } }

    /// How far a log reaches.
    struct Mark: Hashable, Sendable {
        var inode: UInt
        var size: Int
    }

    /// Nil for a service that has logged nothing.
    func end(of name: String) -> Mark? {
        guard let status = try? File("\(folder)/\(name)").status() else { return nil }
        return Mark(inode: UInt(status.st_ino), size: Int(status.st_size))
    }

    /// The last lines that a service has logged since a mark.
    func lastLines(of name: String, since mark: Mark?) -> [String] {
        guard let file = try? File("\(folder)/\(name)"), let end = end(of: name) else { return [] }
        let start = mark.map { $0.inode == end.inode && $0.size <= end.size ? $0.size : 0 } ?? 0
        let from = max(start, end.size - Excerpt.most)
        return Excerpt.last(of: (try? file.read(end.size - from, at: from)) ?? [])
    }

    /// Bytes as characters from U+0000 to U+00FF (ISO 8859-1): JSON carries no others.
    static func characters(of bytes: [UInt8]) -> String {
        var text = String.UnicodeScalarView()
        text.append(contentsOf: bytes.lazy.map { Unicode.Scalar($0) })
        return String(text)
    }

    /// The bytes that are in the text of a raw answer.
    public static func bytes(of text: String) -> [UInt8] { text.unicodeScalars.map { UInt8($0.value & 0xFF) } }

    /// All that is kept of a service, or what came after an earlier answer.
    ///
    /// - Parameters:
    ///   - place: what the earlier answer said as `next`.
    ///   - isRaw: whether a byte is a character from U+0000 to U+00FF, whatever it was meant for;
    ///     else the bytes are UTF-8, and invalid ones are escaped.
    public func read(_ name: String, from place: String?, isRaw: Bool = false) throws -> JSON {
        guard names.contains(name) else { throw EngineError.unknown("log", name, names) }
        let path = "\(folder)/\(name)"
        let file = try File(path)
        let status = try file.status()
        let size = Int(status.st_size)
        let known = (place ?? "").split(separator: ":").compactMap { Int($0) }
        var (start, bytes) = (0, [UInt8]())
        if known.count == 2, known[0] == Int(status.st_ino), (0...size).contains(known[1]) {
            start = known[1]
        } else if place == nil, FileSystem.exists(path + ".1") {
            bytes = try FileSystem.read(path + ".1")
        }
        bytes += try file.read(size - start, at: start)
        let text = isRaw ? Self.characters(of: bytes) : TerminalText.validated(bytes)
        return ["text": .text(text), "next": .text("\(status.st_ino):\(size)")]
    }
}
