import Files
import Glibc

/// Where a local process was started from, as far as the kernel and sshd tell.
enum CallerOrigin {
    /// - Parameter process: 0 for an unknown one.
    static func text(of process: pid_t, proc: String = "/proc") -> String {
        guard process > 0 else { return "" }
        let folder = "\(proc)/\(process)"
        // sshd sets it for each session; a user of the box can run no program that changes it.
        if let address = environment(folder)["SSH_CONNECTION"].flatMap(address) { return "ssh \(address)" }
        if let terminal = try? FileSystem.linkTarget("\(folder)/fd/0"), terminal.hasPrefix("/dev/tty") {
            return "console \(terminal.dropFirst("/dev/".count))"
        }
        return service(folder).map { "service \($0)" } ?? ""
    }

    /// `ADDRESS PORT` of the client; nil for what sshd does not write.
    private static func address(_ connection: String) -> String? {
        let words = connection.split(separator: " ")
        guard words.count == 4, words[0].utf8.count < 64, UInt16(words[1]) != nil,
            words[0].utf8.allSatisfy({ isOfAddress($0) })
        else { return nil }
        return "\(words[0]) \(words[1])"
    }

    /// Digits, `.` and `:` of an address, `%` and letters of a link-local one's interface.
    private static func isOfAddress(_ byte: UInt8) -> Bool {
        let character = Character(Unicode.Scalar(byte))
        return byte < 0x7F && (character.isLetter || character.isNumber || ".:%-_".contains(character))
    }

    private static func environment(_ folder: String) -> [String: String] {
        guard let bytes = try? File("\(folder)/environ").read(64 << 10, at: 0) else { return [:] }
        var values: [String: String] = [:]
        for entry in bytes.split(separator: 0) {
            let words = entry.split(separator: UInt8(ascii: "="), maxSplits: 1, omittingEmptySubsequences: false)
            guard words.count == 2 else { continue }
            values[String(decoding: words[0], as: UTF8.self)] = String(decoding: words[1], as: UTF8.self)
        }
        return values
    }

    private static func service(_ folder: String) -> String? {
        guard let bytes = try? File("\(folder)/cgroup").read(4096, at: 0) else { return nil }
        let start = "0::/services/"
        for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") where line.hasPrefix(start) {
            return String(line.dropFirst(start.count).prefix { $0 != "/" })
        }
        return nil
    }
}
