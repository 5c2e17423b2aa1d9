import CSystem
import Documents
import Engine
import Files
import Glibc
import Terminals

/// vcpectl as somebody's login shell: its verbs, one a line, with history and completion.
enum Shell {
    static func run(_ arguments: [String]) -> Int32 {
        guard arguments.isEmpty else { return ControlCommand.run(arguments) }
        // Ctrl-C ends what runs, never the shell.
        signal(SIGINT) { _ in }
        var session: File?
        do { session = try EngineClient().session() } catch {
            Log.say("\(error)")
            return 1
        }
        defer { withExtendedLifetime(session) {} }
        let user = getpwuid(getuid()).map { String(cString: $0.pointee.pw_name) } ?? "?"
        let status = try? EngineClient().answer(to: ["do": "status"])
        if let trouble = status?["trouble"]?.text { Log.say("trouble: \(trouble)") }
        Terminal.line("vcpectl: help lists what can be done, exit leaves")
        var editor = LineEditor(complete: Completion.line)
        while true {
            var host = utsname()
            uname(&host)
            let name = withUnsafeBytes(of: &host.nodename) {
                String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            guard let line = editor.read(prompt: "\(user)@\(name)> ") else { return 0 }
            do {
                var words = try words(of: line)
                if words.first == "vcpectl" { words.removeFirst() }
                guard let first = words.first else { continue }
                if ["exit", "quit", "logout"].contains(first) { return 0 }
                try runApart(words)
            } catch {
                Log.say("\(error)")
            }
        }
    }

    /// In a process of its own, which Ctrl-C may end.
    private static func runApart(_ words: [String]) throws {
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var defaults = sigset_t()
        sigemptyset(&defaults)
        sigaddset(&defaults, SIGINT)
        posix_spawnattr_setsigdefault(&attributes, &defaults)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGDEF))
        let argv = (["vcpectl"] + words).map { strdup($0) } + [nil]
        defer { for pointer in argv { free(pointer) } }
        var pid: pid_t = 0
        let failure = posix_spawn(&pid, "/proc/self/exe", nil, &attributes, argv, environ)
        guard failure == 0 else { throw SystemError("posix_spawn", words[0], code: failure) }
        var status: Int32 = 0
        while waitpid(pid, &status, 0) < 0, errno == EINTR {}
    }

    /// Words as a POSIX shell takes a line apart, without anything that it would put in their place.
    static func words(of line: String) throws -> [String] {
        var (words, word, quote, isEscaped): ([String], String?, Character?, Bool) = ([], nil, nil, false)
        for character in line {
            if isEscaped {
                word = (word ?? "") + String(character)
                isEscaped = false
            } else if character == "\\", quote != "'" {
                isEscaped = true
            } else if let open = quote {
                if character == open { quote = nil } else { word = (word ?? "") + String(character) }
            } else if character == "'" || character == "\"" {
                (quote, word) = (character, word ?? "")
            } else if character == " " || character == "\t" {
                if let done = word { words.append(done) }
                word = nil
            } else {
                word = (word ?? "") + String(character)
            }
        }
        guard quote == nil, !isEscaped else { throw WrongUsage("a quote is not closed: \(line)") }
        return words + (word.map { [$0] } ?? [])
    }
}

/// A line from a terminal, edited as it is typed; from anything else as it comes.
struct LineEditor {
    /// What the last word of a line may become: whole words, and parts that end in `.` or `[`.
    let complete: (String) -> [String]
    private var history: [String] = []

    init(complete: @escaping (String) -> [String]) { self.complete = complete }

    /// Nil at the end of the input.
    mutating func read(prompt: String) -> String? {
        guard isatty(0) == 1 else { return readLine() }
        var before = termios()
        guard tcgetattr(0, &before) == 0 else { return readLine() }
        var raw = before
        raw.c_lflag &= ~tcflag_t(ICANON | ECHO | ISIG)
        tcsetattr(0, TCSADRAIN, &raw)
        defer { tcsetattr(0, TCSADRAIN, &before) }
        let line = edit(prompt)
        Terminal.say("\n")
        if let line, !line.isEmpty, history.last != line { history.append(line) }
        return line
    }

    private func byte() -> UInt8? {
        var byte: UInt8 = 0
        while true {
            let count = Glibc.read(0, &byte, 1)
            if count == 1 { return byte }
            if count < 0, errno == EINTR { continue }
            return nil
        }
    }

    private func edit(_ prompt: String) -> String? {
        var (line, place) = ([UInt8](), history.count)
        let prompt = TerminalText.line(prompt)
        func show() {
            Terminal.write("\r\u{1B}[K" + prompt + TerminalText.line(String(decoding: line, as: UTF8.self)))
        }
        show()
        while let byte = byte() {
            switch byte {
            case 0x0A, 0x0D: return String(decoding: line, as: UTF8.self)
            case 0x03:
                Terminal.line("^C")
                (line, place) = ([], history.count)
            case 0x04: if line.isEmpty { return nil }
            case 0x08, 0x7F:
                // A character may have several bytes.
                while let last = line.popLast(), last & 0xC0 == 0x80 {}
            case 0x15: line = []
            case 0x17:
                while line.last == 0x20 { line.removeLast() }
                while let last = line.last, last != 0x20 { line.removeLast() }
            case 0x09: line = completed(line)
            case 0x1B:
                guard self.byte() == 0x5B, let key = self.byte() else { continue }
                if key == 0x41, place > 0 { place -= 1 } else if key == 0x42, place < history.count { place += 1 }
                line = place < history.count ? Array(history[place].utf8) : []
            case 0x20...: line.append(byte)
            default: continue
            }
            show()
        }
        return nil
    }

    /// As far as all that it may become agree; where that is no further, they are listed.
    private func completed(_ line: [UInt8]) -> [UInt8] {
        let begun = line.split(separator: 0x20, omittingEmptySubsequences: false).last.map(Array.init) ?? []
        let candidates = complete(String(decoding: line, as: UTF8.self)).map { Array($0.utf8) }
        guard let first = candidates.first else { return line }
        let common = candidates.dropFirst().reduce(first) { common, next in
            Array(zip(common, next).prefix { $0 == $1 }.map(\.0))
        }
        if candidates.count == 1 {
            let isWhole = first.last != UInt8(ascii: ".") && first.last != UInt8(ascii: "[")
            return line.dropLast(begun.count) + first + (isWhole ? [0x20] : [])
        }
        if common.count > begun.count { return line.dropLast(begun.count) + common }
        Terminal.say("\n")
        Terminal.line(candidates.map { String(decoding: $0, as: UTF8.self) }.joined(separator: "  "))
        return line
    }
}
