import Glibc

/// One service as its unit file has it: a line a word, `word value`.
///
/// ```
/// command /usr/sbin/chronyd -d
/// user 104
/// group 104
/// restart always
/// environment KEY=value
/// directory /run/chrony
/// ```
struct Unit {
    enum Restart: String {
        case always, never
        case onFailure = "on-failure"
    }

    let name: String
    var command: [String] = []
    var user: UInt32 = 0
    var group: UInt32 = 0
    var restart = Restart.always
    var environment: [String] = []
    var directories: [String] = []

    /// Reads a unit file; a line that isn't understood makes the unit unusable and is named.
    init(name: String, text: String) throws(Failure) {
        self.name = name
        for (number, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
            if line.isEmpty || line.hasPrefix("#") { continue }
            let words = line.split(separator: " ", maxSplits: 1)
            let value = words.count == 2 ? String(words[1]) : ""
            func unusable(_ why: String) -> Failure {
                Failure("unit \(name), line \(number + 1): \(why): \(line.prefix(80))")
            }
            guard let word = words.first else { continue }
            switch word {
            case "command": command = Self.words(value)
            case "user":
                guard let id = UInt32(value) else { throw unusable("not a number") }
                user = id
            case "group":
                guard let id = UInt32(value) else { throw unusable("not a number") }
                group = id
            case "restart":
                guard let restart = Restart(rawValue: value) else { throw unusable("not always, on-failure or never") }
                self.restart = restart
            case "environment": environment.append(value)
            case "directory": directories.append(value)
            default: throw unusable("unknown word")
            }
        }
        guard command.first?.hasPrefix("/") == true else { throw Failure("unit \(name) has no command") }
    }

    /// Words end at blanks; a backslash takes the next character as it is, `\e` is an empty word.
    private static func words(_ text: String) -> [String] {
        var words: [String] = []
        var word: String?
        var escaped = false
        for character in text {
            if escaped {
                word = (word ?? "") + (character == "e" ? "" : String(character))
                escaped = false
            } else if character == "\\" {
                escaped = true
            } else if character == " " {
                if let done = word { words.append(done) }
                word = nil
            } else {
                word = (word ?? "") + String(character)
            }
        }
        return words + (word.map { [$0] } ?? [])
    }

    /// The units of a folder, and what is wrong with those that can't be used.
    static func read(folder: String) -> (units: [Unit], problems: [Failure]) {
        var units: [Unit] = []
        var problems: [Failure] = []
        for name in Text.list(folder) where !name.hasPrefix(".") {
            do {
                units.append(try Unit(name: name, text: Text.read("\(folder)/\(name)")))
            } catch {
                problems.append(error)
            }
        }
        return (units, problems)
    }
}
