import Files
import Glibc
import Terminals

/// The terminals that the kernel writes to: a box's person may look at any of them.
struct Consoles {
    /// Where the terminals lie.
    let folder: String

    /// Such as `ttyS0`.
    var names: [String] {
        guard let bytes = try? File("/sys/class/tty/console/active").read(4096, at: 0) else { return [] }
        return String(decoding: bytes, as: UTF8.self).split { $0 == " " || $0 == "\n" }.map(String.init)
    }

    /// Writes a text on all of them. Never waits: what doesn't fit is lost.
    func say(_ text: String) {
        Log.say(text)
        let bytes = Array("\r\nvcpe: \(TerminalText.lines(text))\r\n".utf8)
        for name in names {
            let console = open("\(folder)/\(name)", O_WRONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC)
            guard console >= 0 else { continue }
            _ = Glibc.write(console, bytes, bytes.count)
            close(console)
        }
    }
}
