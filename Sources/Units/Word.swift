extension Unit {
    /// The first word of a unit file's line, in the order in which ``Unit/text()`` writes them.
    public enum Word: String, Sendable, CaseIterable {
        case command, before
        case afterStart = "after-start"
        case condition, user, group, groups
        case workingDirectory = "working-directory"
        case umask, capabilities
        case noNewPrivileges = "no-new-privileges"
        case privateTmp = "private-tmp"
        case strict, writable, visible, device
        case systemCalls = "system-calls"
        case addressFamily = "address-family"
        case allow
        case readOnly = "read-only"
        case directory, network, environment, limit, memory, processes
        case cpuWeight = "cpu-weight"
        case ioWeight = "io-weight"
        case oomScoreAdjust = "oom-score-adjust"
        case after, once, ready
        case readyTimeout = "ready-timeout"
        case watchdog, restart, reload
        case stopSignal = "stop-signal"
        case stopAll = "stop-all"
        case stopTimeout = "stop-timeout"
        case essential
        case neverFailed = "never-failed"
        case access, stamp
    }

    /// Bytes of a unit file at most.
    static let limit = 1 << 16
    /// Seconds of a time-out.
    static let seconds = 1...86_400
    /// Supplementary groups at most.
    static let mostGroups = 32
    private static let backslash = UInt8(ascii: "\\")
    private static let blank = UInt8(ascii: " ")

    /// The words of a command in one line: a backslash stands before a blank or a backslash within
    /// a word, `\e` for an empty one.
    public static func quoted(_ words: [String]) -> String {
        var result: [UInt8] = []
        for word in words {
            if !result.isEmpty { result.append(blank) }
            if word.isEmpty { result += [backslash, UInt8(ascii: "e")] }
            for byte in word.utf8 {
                if byte == backslash || byte == blank { result.append(backslash) }
                result.append(byte)
            }
        }
        return String(decoding: result, as: UTF8.self)
    }

    /// The words that ``quoted(_:)`` has put in one line.
    static func words(_ text: String) -> [String] {
        var words: [String] = []
        var word: [UInt8]?
        var isEscaped = false
        // By bytes: a blank before a combining mark would not be found as a character.
        for byte in text.utf8 {
            if isEscaped {
                word = (word ?? []) + (byte == UInt8(ascii: "e") ? [] : [byte])
                isEscaped = false
            } else if byte == backslash {
                isEscaped = true
            } else if byte == blank {
                if let done = word { words.append(String(decoding: done, as: UTF8.self)) }
                word = nil
            } else {
                word = (word ?? []) + [byte]
            }
        }
        return words + (word.map { [String(decoding: $0, as: UTF8.self)] } ?? [])
    }

    /// What is between blanks; by bytes, as ``words(_:)``.
    static func split(_ text: String, maxSplits: Int = .max) -> [String] {
        text.utf8.split(separator: blank, maxSplits: maxSplits).map { String(decoding: $0, as: UTF8.self) }
    }

    /// A line break or NUL, which no value may have.
    static func isBreak(_ byte: UInt8) -> Bool { byte == 0x0A || byte == 0x0D || byte == 0 }
}
