extension Unit {
    /// Reads a unit file: a line a word, `word value`; empty lines and those that begin with `#`
    /// are left out. Of two lines with a word that may be there once, the later one counts.
    ///
    /// - Throws: for a line that isn't understood, with its number.
    public init(name: String, text: String) throws(InvalidUnit) {
        self.init(name: name, command: [])
        guard Self.isName(name) else {
            throw InvalidUnit("unit \(name.prefix(60)): not a name: 1 to 64 letters, digits, -, . and _")
        }
        guard text.utf8.count < Self.limit else {
            throw InvalidUnit("unit \(name): it has more than \(Self.limit) bytes")
        }
        let lines = text.utf8.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        for (number, line) in lines.enumerated() {
            guard let first = line.first, first != UInt8(ascii: "#") else { continue }
            let word = String(decoding: line.prefix { $0 != UInt8(ascii: " ") }, as: UTF8.self)
            let value = String(decoding: line.dropFirst(word.utf8.count + 1), as: UTF8.self)
            do throws(InvalidUnit) {
                guard let word = Word(rawValue: word) else { throw InvalidUnit("unknown word") }
                guard !line.contains(where: Self.isBreak) else {
                    throw InvalidUnit("a line break or NUL in the value of \(word.rawValue)")
                }
                try read(word, value)
            } catch {
                let shown = String(decoding: line.prefix(80).map { Self.isBreak($0) ? 0x3F : $0 }, as: UTF8.self)
                throw InvalidUnit("unit \(name), line \(number + 1): \(error): \(shown)")
            }
        }
        guard command.first?.utf8.first == UInt8(ascii: "/") else {
            throw InvalidUnit("unit \(name) has no command; the program is an absolute path")
        }
    }

    private mutating func read(_ word: Word, _ value: String) throws(InvalidUnit) {
        switch word {
        case .command: command = Self.words(value)
        case .before: before.append(try Self.command(value))
        case .afterStart: afterStart.append(try Self.command(value))
        case .condition: conditions.append(try Self.condition(value))
        case .user: user = try Self.number(value, 0...UInt32.max - 1)
        case .group: group = try Self.number(value, 0...UInt32.max - 1)
        case .groups:
            let words = Self.split(value)
            guard words.count <= Self.mostGroups else {
                throw InvalidUnit("\(words.count) groups; at most \(Self.mostGroups) are allowed")
            }
            groups = []
            for word in words { groups.append(try Self.number(word, 0...UInt32.max - 1)) }
        case .workingDirectory: workingDirectory = try Self.path(value)
        case .umask:
            guard let mask = UInt32(value, radix: 8), mask <= 0o777 else {
                throw InvalidUnit("not an octal number from 0 to 777")
            }
            umask = mask
        case .capabilities: capabilities = try Capabilities(Self.split(value))
        case .noNewPrivileges: hasNoNewPrivileges = try Self.flag(value)
        case .privateTmp: hasPrivateTmp = try Self.flag(value)
        case .strict: profile = try Self.flag(value) ? Profile() : nil
        case .writable, .visible, .device, .systemCalls, .addressFamily, .allow: try ask(word, value)
        case .readOnly: readOnly.append(try Self.path(value))
        case .directory: directories.append(try Self.path(value))
        case .network: network = try Self.name(value)
        case .environment:
            let bytes = value.utf8
            guard let equals = bytes.firstIndex(of: UInt8(ascii: "=")), equals > bytes.startIndex else {
                throw InvalidUnit("not KEY=value")
            }
            let key = String(decoding: bytes[..<equals], as: UTF8.self)
            environment[key] = String(decoding: bytes[bytes.index(after: equals)...], as: UTF8.self)
        case .limit:
            let parts = Self.split(value)
            guard parts.count == 2, let limit = Limit(rawValue: parts[0]), let number = UInt64(parts[1]) else {
                throw InvalidUnit("not NAME NUMBER; names are \(Self.list(Limit.allCases))")
            }
            limits[limit] = number
        case .memory: memory = try Self.number(value, 1 << 20...1 << 50)
        case .processes: processes = try Self.number(value, 1...1 << 22)
        case .cpuWeight: cpuWeight = try Self.number(value, 1...10_000)
        case .ioWeight: ioWeight = try Self.number(value, 1...10_000)
        case .oomScoreAdjust: oomScoreAdjustment = try Self.number(value, -999...1000)
        case .after: for word in Self.split(value) { after.append(try Self.name(word)) }
        case .once: isOnce = try Self.flag(value)
        case .ready: readiness = try Self.readiness(value)
        case .readyTimeout: readyTimeout = try Self.number(value, Self.seconds)
        case .watchdog: watchdog = try Self.number(value, Self.seconds)
        case .restart:
            guard let restart = Restart(rawValue: value) else {
                throw InvalidUnit("not one of \(Self.list(Restart.allCases))")
            }
            self.restart = restart
        case .reload: reload = try Self.reload(value)
        case .stopSignal: stopSignal = try Self.signal(value)
        case .stopAll: stopsAll = try Self.flag(value)
        case .stopTimeout: stopTimeout = try Self.number(value, Self.seconds)
        case .essential: isEssential = try Self.flag(value)
        case .neverFailed: isNeverFailed = try Self.flag(value)
        case .access:
            guard let right = Access(rawValue: value) else {
                throw InvalidUnit("not one of \(Self.list(Access.allCases))")
            }
            access.append(right)
        case .stamp: stamps.append(value)
        }
    }

    /// A word of the strict profile.
    private mutating func ask(_ word: Word, _ value: String) throws(InvalidUnit) {
        guard var asked = profile else { throw InvalidUnit("it needs a line \"strict\" before it") }
        switch word {
        case .writable: asked.writable.append(try Self.path(value))
        case .visible: asked.visible.append(try Self.path(value))
        case .device: asked.devices.append(try Self.device(value))
        case .systemCalls: asked.systemCalls.append(try Self.one(of: value))
        case .addressFamily: asked.families.append(try Self.one(of: value))
        default: asked.permissions.append(try Self.one(of: value))
        }
        profile = asked
    }

    private static func one<Name: RawRepresentable & CaseIterable>(
        of text: String
    ) throws(InvalidUnit) -> Name where Name.RawValue == String {
        guard let name = Name(rawValue: text) else { throw InvalidUnit("not one of \(list(Array(Name.allCases)))") }
        return name
    }

    /// `*`, or a path below /dev.
    private static func device(_ text: String) throws(InvalidUnit) -> String {
        let parts = text.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
        let isPath = !parts.contains { $0.isEmpty || $0.elementsEqual("..".utf8) || $0.elementsEqual(".".utf8) }
        guard text == "*" || isPath && text.utf8.count <= 50 else {
            throw InvalidUnit("neither * nor a name below /dev of at most 50 bytes")
        }
        return text
    }

    private static func number<Number: FixedWidthInteger>(
        _ text: String, _ range: ClosedRange<Number>
    ) throws(InvalidUnit) -> Number {
        guard let number = Number(text), range.contains(number) else {
            throw InvalidUnit("not a number from \(range.lowerBound) to \(range.upperBound)")
        }
        return number
    }

    private static func flag(_ value: String) throws(InvalidUnit) -> Bool {
        guard value.isEmpty else { throw InvalidUnit("it has a value; none is allowed") }
        return true
    }

    private static func name(_ text: String) throws(InvalidUnit) -> String {
        guard isName(text) else { throw InvalidUnit("not a name: 1 to 64 letters, digits, -, . and _") }
        return text
    }

    private static func path(_ text: String) throws(InvalidUnit) -> String {
        let parts = text.utf8.split(separator: UInt8(ascii: "/"))
        guard text.utf8.first == UInt8(ascii: "/"), !parts.contains(where: { $0.elementsEqual("..".utf8) }) else {
            throw InvalidUnit("not an absolute path without ..")
        }
        return text
    }

    private static func signal(_ text: String) throws(InvalidUnit) -> Signal {
        guard let signal = Signal(rawValue: text) else { throw InvalidUnit("not one of \(list(Signal.allCases))") }
        return signal
    }

    /// `-` before the program: its exit code doesn't matter; `+`: it runs as root.
    private static func command(_ value: String) throws(InvalidUnit) -> Command {
        var command = Command(words(value))
        while let flag = command.words.first?.utf8.first, flag == UInt8(ascii: "-") || flag == UInt8(ascii: "+") {
            if flag == UInt8(ascii: "-") { command.mayFail = true } else { command.isPrivileged = true }
            command.words[0] = String(decoding: command.words[0].utf8.dropFirst(), as: UTF8.self)
        }
        guard command.words.first?.utf8.first == UInt8(ascii: "/") else {
            throw InvalidUnit("not -, + and an absolute path with its arguments")
        }
        return command
    }

    private static func condition(_ value: String) throws(InvalidUnit) -> Condition {
        let words = split(value, maxSplits: 1)
        let isNegated = words.first?.utf8.first == UInt8(ascii: "!")
        guard words.count == 2, words[1].utf8.first == UInt8(ascii: "/"),
            let kind = Condition.Kind(rawValue: String(words[0].dropFirst(isNegated ? 1 : 0)))
        else { throw InvalidUnit("not \(list(Condition.Kind.allCases)), maybe after !, and an absolute path") }
        return Condition(kind, words[1], isNegated: isNegated)
    }

    private static func readiness(_ value: String) throws(InvalidUnit) -> Readiness {
        let words = split(value, maxSplits: 1)
        switch (words.first, words.count) {
        case ("started", 1): return .started
        case ("notify", 1): return .notify
        case ("exited", 1): return .exited
        case ("forked", 1): return .forked(pidFile: nil)
        case ("forked", 2): return .forked(pidFile: try path(words[1]))
        case ("file", 2), ("socket", 2): return .file(try path(words[1]))
        default: throw InvalidUnit("not started, notify, file PATH, socket PATH, forked, forked PIDFILE or exited")
        }
    }

    private static func reload(_ value: String) throws(InvalidUnit) -> Reload {
        let words = split(value, maxSplits: 1)
        switch (words.first, words.count) {
        case ("signal", 2): return .signal(try signal(words[1]))
        case ("command", 2): return .command(try command(words[1]))
        default: throw InvalidUnit("not signal NAME or command PROGRAM ARGUMENT …")
        }
    }

    private static func list<Name: RawRepresentable>(_ names: [Name]) -> String where Name.RawValue == String {
        names.map(\.rawValue).joined(separator: ", ")
    }
}
