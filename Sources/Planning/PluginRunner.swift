import Documents
import Files
import Glibc
import PluginKit
import Processes

/// A plugin's program, run as one: a verb, JSON in, lines of JSON out.
public struct PluginRunner: Sendable {
    public let name: String
    /// The program and what stands before the verb.
    let command: [String]
    /// Nil for a plugin that is not confined.
    private var sandbox: Sandbox?
    private var calledAs: String?
    /// Beside what every program is given.
    public var environment: [String: String] = [:]

    /// Seconds that a plugin may take.
    private static let deadline = 10.0
    /// Bytes that it may say.
    private static let limit = 64 << 20

    public init(name: String, command: [String]) {
        self.name = name
        self.command = command
    }

    /// A plugin that a build host runs.
    ///
    /// - Parameters:
    ///   - program: a path in the sandbox.
    ///   - calledAs: the program's own name, for an executable that is several programs; nil for its path.
    public init(name: String, program: String, calledAs: String? = nil, in sandbox: Sandbox) {
        self.init(name: name, command: [program])
        self.sandbox = sandbox
        self.calledAs = calledAs
    }

    /// The first of the numeric users that plugins run as, one each: of the range that systemd keeps free
    /// for such. The kernel counts a plugin's processes by user, so plugins that work for previews have
    /// users of their own.
    private static let (firstUser, firstUserOfPreviews): (UInt32, UInt32) = (64_000, 64_500)

    /// The plugins of a box's folder: `NAME/NAME` is a program.
    ///
    /// - Parameters:
    ///   - isConfined: false for a test that is not root.
    ///   - forPreviews: whether they run beside those of the engine.
    public static func all(
        in folder: String, isConfined: Bool = true, forPreviews: Bool = false
    ) throws -> [PluginRunner] {
        guard FileSystem.exists(folder) else { return [] }
        let first = forPreviews ? firstUserOfPreviews : firstUser
        let names = try FileSystem.list(folder).filter { FileSystem.exists("\(folder)/\($0)/\($0)") }
        return try names.enumerated().map { number, name in
            let program = "\(folder)/\(name)/\(name)"
            var runner = PluginRunner(name: name, command: [program])
            if isConfined {
                runner.sandbox = .onBox(
                    user: first + UInt32(number),
                    folders: try Sandbox.Folder.lacking(of: ["\(folder)/\(name)", program]))
            }
            return runner
        }
    }

    /// What the plugin says of itself.
    public func describe() throws -> PluginManifest {
        let text = try begin("describe", nil).text()
        return try PluginManifest.decode(Array(text.utf8), file: "plugin \(name)")
    }

    /// The lines that it answers to a verb, as they are.
    public func lines(_ verb: String, _ input: JSON) throws -> [String] {
        try begin(verb, Array(input.line.utf8)).lines()
    }

    /// What it answers to a verb.
    public func ask(_ verb: String, _ input: JSON) throws -> [JSON] {
        let asked = try begin(verb, Array(input.line.utf8))
        return try asked.lines().map { try Self.parse($0, of: asked.source) }
    }

    /// - Parameter source: the plugin and the verb, for errors.
    static func parse(_ line: String, of source: String) throws(PluginFailure) -> JSON {
        do {
            return try JSON.parse(line.utf8)
        } catch {
            throw PluginFailure("\(source): a line is no JSON (\(error)): \(line.prefix(120))")
        }
    }

    /// Starts it; the answer is waited for later, so that several work at a time.
    ///
    /// - Parameter input: JSON.
    func begin(_ verb: String, _ input: [UInt8]?) throws -> Asked {
        let file = try input.map { try File.temporary(holding: $0) }
        var program = Command(command[0], command.dropFirst() + [verb], environment: environment)
        program.sandbox = sandbox
        program.argumentZero = calledAs
        let running = try program.begin(input: file)
        return Asked(name: name, verb: verb, running: running)
    }

    /// A plugin at work.
    struct Asked {
        let name: String
        let verb: String
        let running: Command.Running

        var source: String { "plugin \(name) \(verb)" }

        func text() throws -> String {
            guard let text = String(validating: try output(), as: UTF8.self) else {
                throw PluginFailure("\(source): its output is not UTF-8")
            }
            return text
        }

        private func output() throws -> [UInt8] {
            let result: Command.Result
            do {
                result = try running.finish(deadline: PluginRunner.deadline, limit: PluginRunner.limit)
            } catch let error as Command.Overrun {
                throw PluginFailure("\(source): \(error)")
            }
            guard result.status == 0 else {
                let said = result.errorText.split(separator: "\n").suffix(3).joined(separator: "; ")
                throw PluginFailure(
                    "\(source): it ended with \(result.status)\(said.isEmpty ? "" : ": \(said)")")
            }
            return result.output
        }

        /// The lines that it answers with.
        func lines() throws -> [String] { try lines(knowing: []).map(\.text) }

        /// The lines that it answers with.
        ///
        /// - Parameter known: lines of an earlier answer: one that is the same, byte by byte, is
        ///   taken from
        ///   there. Where both answers are in the order of their bytes, all of these are found.
        func lines(knowing known: [PluginAnswer.Line]) throws -> [PluginAnswer.Line] {
            let bytes = try output()
            guard bytes.isEmpty || bytes.last == UInt8(ascii: "\n") else {
                throw PluginFailure("\(source): its last line has no end: it was cut off")
            }
            var lines: [PluginAnswer.Line] = []
            lines.reserveCapacity(known.count)
            var (start, place) = (0, 0)
            try bytes.withUnsafeBufferPointer { buffer in
                while start < buffer.count, let base = buffer.baseAddress,
                    let end = memchr(base + start, Int32(UInt8(ascii: "\n")), buffer.count - start)
                {
                    let next = UnsafePointer(end.assumingMemoryBound(to: UInt8.self)) - base
                    let line = UnsafeBufferPointer(rebasing: buffer[start..<next])
                    start = next + 1
                    if line.isEmpty { continue }
                    var order = -1
                    while place < known.count {
                        order = Self.order(known[place].text, line)
                        if order >= 0 { break }
                        place += 1
                    }
                    if place < known.count, order == 0 {
                        lines.append(known[place])
                        place += 1
                        continue
                    }
                    guard let text = String(validating: line, as: UTF8.self) else {
                        throw PluginFailure("\(source): its output is not UTF-8")
                    }
                    lines.append(PluginAnswer.Line(text: text))
                }
            }
            return lines
        }

        /// Below 0 for a text that is before a line, 0 for the same bytes.
        private static func order(_ text: String, _ line: UnsafeBufferPointer<UInt8>) -> Int {
            var text = text
            return text.withUTF8 { text in
                if let one = text.baseAddress, let other = line.baseAddress {
                    let order = memcmp(one, other, min(text.count, line.count))
                    if order != 0 { return Int(order) }
                }
                return text.count - line.count
            }
        }
    }
}

extension PluginManifest {
    /// Reads a manifest's file.
    public static func read(_ path: String) throws -> PluginManifest {
        try decode(try FileSystem.read(path), file: path)
    }

    /// - Throws: when the plugin and this engine have no version of the contract in common.
    public func checkContract() throws(PluginFailure) {
        guard contract == nil else { return }
        func list(_ versions: [Int]) -> String { versions.map(String.init).joined(separator: ", ") }
        throw PluginFailure(
            "plugin \(name) speaks the contract in version \(list(contracts)), and this engine in version "
                + "\(list(Self.contracts)): build the image with a plugin of its own age")
    }

    static func decode(_ bytes: [UInt8], file: String) throws -> PluginManifest {
        let problems = ProblemList()
        let node = try YAML.read(bytes, file: file)
        let manifest = shape.read(node, path: "", into: problems)
        try problems.throwIfAny()
        guard let manifest else { throw InvalidDocument(problems.problems) }
        return manifest
    }
}
