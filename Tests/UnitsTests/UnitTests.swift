import CSystem
import Files
import TestSupport
import Testing
import Units

@Suite struct UnitTests {
    // MARK: - One reader, one writer

    @Test func whatIsWrittenIsReadAsTheSame() throws {
        var random = Random(seed: 11)
        for round in 0..<5000 {
            let unit = Unit.random(&random)
            let text = try unit.text()
            let read = try Unit(name: unit.name, text: text)
            #expect(read == unit, "round \(round): \(text)")
            #expect(try read.text() == text)
        }
    }

    /// Whatever the reader takes, the writer writes; the rest is refused, and nothing traps.
    @Test func whatIsReadCanBeWritten() throws {
        var random = Random(seed: 12)
        var good = 0
        for _ in 0..<20_000 {
            var lines = ["command /bin/true"]
            for _ in 0..<random.next(4) {
                let word = Unit.Word.allCases[random.next(Unit.Word.allCases.count)].rawValue
                lines.append(random.next(8) == 0 ? random.text(30) : "\(word) \(random.value())")
            }
            guard let unit = try? Unit(name: "u", text: lines.joined(separator: "\n")) else { continue }
            good += 1
            #expect(try Unit(name: "u", text: unit.text()) == unit, "\(lines)")
        }
        #expect(good > 2000)
    }

    @Test func aWrittenUnitHasOnlyTheWordsThatItNeeds() throws {
        var unit = Unit(name: "a", command: ["/bin/sleep", "two words", "", "back\\slash"])
        #expect(try unit.text() == "command /bin/sleep two\\ words \\e back\\\\slash\n")
        unit.isOnce = true
        unit.capabilities = Capabilities()
        unit.directories = ["/data/a", "/run/b c"]
        unit.environment = ["B": "2", "A": "x y"]
        unit.network = "guests"
        unit.reload = .command(Unit.Command(["/bin/tell", "${MAINPID}"], mayFail: true))
        #expect(
            try unit.text() == """
                command /bin/sleep two\\ words \\e back\\\\slash
                capabilities
                directory /data/a
                directory /run/b c
                network guests
                environment A=x y
                environment B=2
                once
                reload command -/bin/tell ${MAINPID}

                """)
    }

    @Test func onceIsReadyWhenItExitedAndTriedAgainAfterAFailure() throws {
        let once = try Unit(name: "a", text: "command /a\nonce\n")
        #expect(once.readiness == .exited && once.restart == .onFailure && once.isOnce)
        #expect(try Unit(name: "a", text: "command /a\nready exited\nrestart on-failure\n") == once)
        var unit = once
        unit.isOnce = false
        #expect(unit == Unit(name: "a", command: ["/a"]))
    }

    // MARK: - What is refused

    /// The error of what must be refused; empty for what is not.
    private static func refusal<Value>(_ body: () throws -> Value) -> String {
        do { _ = try body() } catch { return "\(error)" }
        return ""
    }

    /// A value with a line break would add a word to the unit, such as `user 0`.
    @Test(arguments: ["\n", "\r", "\0", "\r\n"]) func aLineBreakInAValueIsRefused(_ end: String) throws {
        let bad = "/data/x\(end)user 0"
        let changes: [(String, (inout Unit) -> Void)] = [
            ("command", { $0.command.append(bad) }),
            ("before", { $0.before = [Unit.Command(["/a", bad])] }),
            ("after-start", { $0.afterStart = [Unit.Command(["/a", bad])] }),
            ("condition", { $0.conditions = [Unit.Condition(.exists, bad)] }),
            ("working-directory", { $0.workingDirectory = bad }),
            ("read-only", { $0.readOnly = [bad] }),
            ("directory", { $0.directories = ["/data/y", bad] }),
            ("network", { $0.network = bad }),
            ("environment", { $0.environment = ["A": bad] }),
            ("environment", { $0.environment = [bad: "a"] }),
            ("after", { $0.after = [bad] }),
            ("ready", { $0.readiness = .file(bad) }),
            ("ready", { $0.readiness = .forked(pidFile: bad) }),
            ("reload", { $0.reload = .command(Unit.Command(["/a", bad])) }),
            ("stamp", { $0.stamps = [bad] }),
        ]
        for (word, change) in changes {
            var unit = Unit(name: "x", command: ["/a"])
            change(&unit)
            let error = Self.refusal { try unit.text() }
            #expect(error.hasPrefix("unit x: "), "\(word): \(error)")
            #expect(error.contains(word), "\(word): \(error)")
        }
        #expect(throws: InvalidUnit.self) { try Unit(name: "x\(end)y", command: ["/a"]).text() }
    }

    @Test func aValueThatWouldBeReadAsAnotherIsRefused() {
        let changes: [(inout Unit) -> Void] = [
            { $0.after = ["a b"] }, { $0.after = [""] }, { $0.environment = ["A=B": "c"] },
            { $0.environment = ["": "c"] },
            { $0.directories = ["data"] }, { $0.directories = ["/data/../etc"] }, { $0.network = "../x" },
            { $0.command = ["sleep"] }, { $0.command = [] }, { $0.before = [Unit.Command(["true"])] },
            { $0.before = [Unit.Command([])] }, { $0.before = [Unit.Command(["-/true"])] }, { $0.umask = 0o1000 },
            { $0.memory = 0 }, { $0.processes = -1 }, { $0.cpuWeight = 10_001 }, { $0.oomScoreAdjustment = 1001 },
            { $0.readyTimeout = 0 }, { $0.watchdog = 86_401 }, { $0.user = .max },
            { $0.groups = Array(repeating: 1, count: 33) }, { $0.capabilities = Capabilities(mask: 1 << 63) },
            { $0.stamps = [String(repeating: "x", count: 1 << 16)] }, { $0.name = "a/b" }, { $0.name = ".a" },
        ]
        for (number, change) in changes.enumerated() {
            var unit = Unit(name: "x", command: ["/a"])
            change(&unit)
            #expect(throws: InvalidUnit.self, "change \(number)") { try unit.text() }
        }
    }

    @Test(arguments: [
        ("comand /a", "unit x, line 2: unknown word: comand /a"),
        ("writable /x", "unit x, line 2: it needs a line \"strict\" before it: writable /x"),
        ("access all", "unit x, line 2: not one of init, engine, login, power: access all"),
        ("restart sometimes", "unit x, line 2: not one of always, never, on-failure: restart sometimes"),
        ("capabilities fly", "unit x, line 2: no capability fly: capabilities fly"),
        ("memory 5", "unit x, line 2: not a number from 1048576 to 1125899906842624: memory 5"),
        ("reload sometimes", "unit x, line 2: not signal NAME or command PROGRAM ARGUMENT …: reload sometimes"),
        (
            "limit fish 3",
            "unit x, line 2: not NAME NUMBER; names are cpu, fsize, data, stack, core, nproc, nofile, "
                + "memlock, as: limit fish 3"
        ),
        ("essential no", "unit x, line 2: it has a value; none is allowed: essential no"),
        ("directory data", "unit x, line 2: not an absolute path without ..: directory data"),
        ("stamp a\rb", "unit x, line 2: a line break or NUL in the value of stamp: stamp a?b"),
    ])
    func aLineThatIsNotUnderstoodIsNamed(_ line: String, _ message: String) {
        #expect(Self.refusal { try Unit(name: "x", text: "command /a\n\(line)\n") } == message)
    }

    // MARK: - One list

    @Test func capabilitiesAreTheKernels() throws {
        for (number, name) in Capabilities.names.enumerated() { #expect(csystem_capability(name) == Int32(number)) }
        #expect(try Capabilities(["net_admin", "chown"]).names == ["chown", "net_admin"])
    }

    @Test func theDocumentationHasEveryWord() throws {
        let repository = "/" + #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
        let text = String(decoding: try FileSystem.read("\(repository)/docs/init.md"), as: UTF8.self)
        let rows = text.split(separator: "\n").filter { $0.hasPrefix("| `") }.map { $0.split(separator: "|")[0] }
        for word in Unit.Word.allCases {
            let isThere = rows.contains { $0.contains("`\(word.rawValue)`") || $0.contains("`\(word.rawValue) ") }
            #expect(isThere, "docs/init.md has no row for \(word.rawValue)")
        }
    }
}

extension Random {
    /// Text without line breaks that is likely to be misread: blanks, backslashes, signs, marks.
    fileprivate mutating func text(_ length: Int) -> String {
        let pieces = [
            "a", "e", " ", "\\", "/", "..", "=", "#", "-", "+", "!", "\u{301}", "é", "🧪", "\t", "${MAINPID}", "0",
        ]
        return (0..<next(length + 1)).map { _ in pieces[next(pieces.count)] }.joined()
    }

    /// A value that some word takes.
    fileprivate mutating func value() -> String {
        let values = [
            "", "1", "100", "/a/b", "TERM", "a=b", "signal HUP", "command /a b", "file /x", "exited", "nofile 7",
        ]
        let more = [
            "always", "on-failure", "net_admin chown", "one two", "-+/a \\ b", "exists /x", "!not-empty /y z",
            "2000000",
        ]
        return next(4) == 0 ? text(12) : (values + more)[next(values.count + more.count)]
    }

    fileprivate mutating func path() -> String { "/x" + text(6).split(separator: ".").joined(separator: "_") }

    fileprivate mutating func key() -> String {
        var key = "K"
        key.unicodeScalars += text(3).unicodeScalars.filter { $0 != "=" }
        return key
    }

    fileprivate mutating func name() -> String { ["lan-dnsmasq", "engine", "a.b_C9", "x"][next(4)] }

    fileprivate mutating func command() -> Unit.Command {
        Unit.Command([path()] + texts(3), mayFail: next(2) == 0, isPrivileged: next(2) == 0)
    }

    fileprivate mutating func texts(_ most: Int) -> [String] { (0..<next(most + 1)).map { _ in text(8) } }

    fileprivate mutating func some<Value>(_ make: (inout Random) -> Value) -> Value? {
        next(3) == 0 ? make(&self) : nil
    }

    fileprivate mutating func list<Value>(_ make: (inout Random) -> Value) -> [Value] {
        (0..<(next(2) * next(4))).map { _ in make(&self) }
    }

    fileprivate mutating func one<Value>(_ values: [Value]) -> Value { values[next(values.count)] }
}

extension Unit {
    fileprivate static func random(_ random: inout Random) -> Unit {
        var unit = Unit(name: random.name(), command: [random.path()] + random.texts(4))
        unit.before = random.list { $0.command() }
        unit.afterStart = random.list { $0.command() }
        unit.conditions = random.list {
            Condition($0.one(Condition.Kind.allCases), $0.path(), isNegated: $0.next(2) == 0)
        }
        unit.user = random.some { UInt32($0.next(70_000)) } ?? 0
        unit.group = random.some { UInt32($0.next(70_000)) } ?? 0
        unit.groups = random.list { UInt32($0.next(70_000)) }
        unit.workingDirectory = random.some { $0.path() }
        unit.umask = random.some { UInt32($0.next(0o1000)) } ?? 0o022
        unit.capabilities = random.some { Capabilities(mask: $0.next() & (1 << 41 - 1)) }
        unit.hasNoNewPrivileges = random.next(2) == 0
        unit.hasPrivateTmp = random.next(2) == 0
        unit.profile = random.some { random in
            Profile(
                writable: random.list { $0.path() }, visible: random.list { $0.path() },
                devices: random.list { $0.one(["*", "tty", "net/tun"]) },
                systemCalls: random.list { $0.one(SystemCalls.allCases) },
                families: random.list { $0.one(AddressFamily.allCases) },
                permissions: random.list { $0.one(Permission.allCases) })
        }
        unit.readOnly = random.list { $0.path() }
        unit.directories = random.list { $0.path() }
        unit.network = random.some { $0.name() }
        for _ in 0..<random.next(3) { unit.environment[random.key()] = random.text(9) }
        for limit in Limit.allCases where random.next(4) == 0 { unit.limits[limit] = random.next() }
        unit.memory = random.some { 1 << 20 + $0.next(1 << 40) }
        unit.processes = random.some { 1 + $0.next(1 << 20) }
        unit.cpuWeight = random.some { 1 + $0.next(10_000) }
        unit.ioWeight = random.some { 1 + $0.next(10_000) }
        unit.oomScoreAdjustment = random.some { $0.next(2000) - 999 } ?? 0
        unit.after = random.list { $0.name() }
        let file = random.path()
        unit.readiness = random.one([
            .started, .notify, .file(file), .forked(pidFile: nil), .forked(pidFile: file), .exited,
        ])
        unit.readyTimeout = random.some { 1 + $0.next(86_400) } ?? 90
        unit.watchdog = random.some { 1 + $0.next(86_400) }
        unit.restart = random.one(Restart.allCases)
        unit.reload = random.some { $0.next(2) == 0 ? .signal($0.one(Signal.allCases)) : .command($0.command()) }
        unit.stopSignal = random.one(Signal.allCases)
        unit.stopsAll = random.next(2) == 0
        unit.stopTimeout = random.some { 1 + $0.next(86_400) } ?? 10
        unit.isEssential = random.next(2) == 0
        unit.isNeverFailed = random.next(2) == 0
        unit.access = random.list { $0.one(Access.allCases) }
        unit.stamps = random.list { $0.text(9) }
        return unit
    }
}
