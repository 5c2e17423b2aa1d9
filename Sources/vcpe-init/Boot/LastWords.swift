import Glibc

/// What is kept of a start that failed: why, and the last that kernel and engine said.
enum LastWords {
    private static let path = "/data/vcpe/failed-start"
    private static let most = 32 << 10

    /// - Parameter release: name and version.
    static func keep(_ reason: String, release: String) {
        Text.makeFolder("/data/vcpe", mode: 0o700)
        let engine = String(decoding: Text.bytes("/run/log/engine", limit: 1 << 20).suffix(most), as: UTF8.self)
        let text = "\(release): \(reason)\n\nkernel:\n\(kernel())\nengine:\n\(engine)"
        do { try Text.replace(path, with: text) } catch { Console.say("the last words can't be kept: \(error)") }
    }

    /// The kernel's last lines, by /dev/kmsg: one record a read.
    private static func kernel() -> String {
        let file = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC)
        guard file >= 0 else { return "" }
        defer { close(file) }
        var (lines, size): ([String], Int) = ([], 0)
        var buffer = [UInt8](repeating: 0, count: 8192)
        for _ in 0..<100_000 {
            let count = read(file, &buffer, buffer.count)
            // Older records that were overwritten meanwhile.
            if count < 0, errno == EPIPE || errno == EINTR { continue }
            if count <= 0 { break }
            let line = String(decoding: buffer[..<count].drop { $0 != UInt8(ascii: ";") }.dropFirst(), as: UTF8.self)
            lines.append(line)
            size += line.utf8.count
            while size > most { size -= lines.removeFirst().utf8.count }
        }
        return lines.joined()
    }
}
