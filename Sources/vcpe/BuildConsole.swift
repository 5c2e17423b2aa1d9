import Files
import Documents
import Glibc
import ImageBuilder
import Synchronization
import Terminals

/// Prints for a terminal: names of packages, mirrors' answers and boxes' words come from outside.
/// In this module it takes the place of the standard library's. JSON passes as it is.
func print(_ text: Any = "", terminator: String = "\n") {
    Swift.print(TerminalText.lines("\(text)"), terminator: terminator)
}

/// Shows a build's events: one line per step, updated in place, on a terminal; plain lines in a
/// pipe; JSON on request.
final class BuildConsole: Sendable {
    enum Style: Sendable { case terminal, plain, json }

    private struct State {
        var step = ""
        var lastDownload = 0.0
        var downloadStart: (seconds: Double, bytes: Int)?
    }

    private let style: Style
    private let explain: Bool
    private let state = Mutex(State())
    private let start = Clock.seconds

    init(json: Bool, explain: Bool = false) {
        style = json ? .json : isatty(2) == 1 ? .terminal : .plain
        self.explain = explain
    }

    static func error(_ text: String) { write(TerminalText.lines(text) + "\n") }

    /// Writes to standard error, unbuffered.
    private static func write(_ text: String) {
        var text = text
        text.withUTF8 { _ = Glibc.write(2, $0.baseAddress, $0.count) }
    }

    /// Shows one event.
    func show(_ event: BuildEvent) {
        if style == .json { return print(json(event).line) }
        switch event {
        case .started(let step, let reasons):
            state.withLock { $0 = State(step: step) }
            if explain { line("\(step): runs because \(reasons.joined(separator: ", "))") }
            if style == .terminal { moving("\(step) …") }
        case .unchanged(let step): if explain { line("\(step): unchanged") }
        case .finished(let step, let note, let seconds):
            line("\(pad(step))\(pad(hundredths(seconds) + " s", 10))\(note)")
        case .downloading(let bytes, let total, let files, let ofFiles): download(bytes, total, files, ofFiles)
        case .remark(let text): line(text)
        }
    }

    /// Shows the outputs and the total time of a build that succeeded.
    ///
    /// - Parameter reports: of the outputs, those to print on standard output.
    /// - Throws: ``SystemError`` of reading them.
    func done(_ outputs: [String], reports: [String] = []) throws(SystemError) {
        let texts = try reports.map { (path: String) throws(SystemError) in
            String(decoding: try FileSystem.read(path), as: UTF8.self)
        }
        if style == .json {
            var results: [String: JSON] = ["outputs": .texts(outputs)]
            if !reports.isEmpty { results["reports"] = .texts(texts) }
            return done(results)
        }
        for (path, text) in zip(reports, texts) {
            print("\(reports.count > 1 ? "\(path)\n" : "")\(text)", terminator: "")
        }
        line("\(pad("total"))\(pad(hundredths(Clock.seconds - start) + " s", 10))\(outputs.first ?? "")")
    }

    /// The closing event, for programs.
    func done(_ results: [String: JSON]) {
        var event = results
        event["event"] = "done"
        event["milliseconds"] = .integer(Int((Clock.seconds - start) * 1000))
        print(JSON.object(event).line)
    }

    /// Prints the closing JSON event of a failed command. `main` prints the error itself.
    func failed(_ error: any Error) {
        guard style == .json else { return }
        var event: [String: JSON] = ["event": "failed"]
        switch error {
        case let failure as BuildFailure:
            event["message"] = .text(failure.message)
            event["hint"] = failure.hint.map { .text($0) } ?? .null
        case let invalid as InvalidDocument:
            event["message"] = "the document is invalid"
            event["problems"] = .list(
                invalid.problems.map { problem in
                    [
                        "file": .text(problem.position.file), "line": .integer(problem.position.line),
                        "column": .integer(problem.position.column), "path": .text(problem.path),
                        "message": .text(problem.message), "hint": problem.hint.map { .text($0) } ?? .null,
                    ]
                })
        case let gone as Fetching.Gone:
            event["message"] = "the archive no longer has locked packages"
            event["packages"] = .list(gone.packages.map { .text("\($0.name) \($0.version)") })
        default: event["message"] = .text("\(error)")
        }
        print(JSON.object(event).line)
    }

    private func download(_ bytes: Int, _ total: Int, _ files: Int, _ ofFiles: Int) {
        guard style == .terminal else { return }
        let now = Clock.seconds
        let rate: Int? = state.withLock { state in
            let begin = state.downloadStart ?? (now, bytes)
            state.downloadStart = begin
            guard now - state.lastDownload > 0.2 else { return nil }
            state.lastDownload = now
            return now > begin.seconds ? Int(Double(bytes - begin.bytes) / (now - begin.seconds)) : 0
        }
        guard let rate else { return }
        moving("fetch: \(files) of \(ofFiles) files, \(Size.text(bytes)) of \(Size.text(total)), \(Size.text(rate))/s")
    }

    /// Shows a line that is updated in place on a terminal; a pipe gets only the last one.
    func progress(_ text: String, isLast: Bool) {
        if isLast { line(text) } else if style == .terminal { moving(text) }
    }

    private func moving(_ text: String) { Self.write("\r\u{1B}[K\(TerminalText.line(text))") }

    private func line(_ text: String) {
        Self.write((style == .terminal ? "\r\u{1B}[K" : "") + TerminalText.lines(text) + "\n")
    }

    private func pad(_ text: String, _ width: Int = 22) -> String {
        text + String(repeating: " ", count: max(1, width - text.count))
    }

    private func hundredths(_ seconds: Double) -> String {
        let value = Int((seconds * 100).rounded())
        return "\(value / 100).\(value % 100 < 10 ? "0" : "")\(value % 100)"
    }

    private func json(_ event: BuildEvent) -> JSON {
        switch event {
        case .started(let step, let reasons):
            ["event": "started", "step": .text(step), "reasons": .list(reasons.map { .text($0) })]
        case .unchanged(let step): ["event": "unchanged", "step": .text(step)]
        case .finished(let step, let note, let seconds):
            [
                "event": "finished", "step": .text(step), "note": .text(note),
                "milliseconds": .integer(Int(seconds * 1000)),
            ]
        case .downloading(let bytes, let total, let files, let ofFiles):
            [
                "event": "downloading", "bytes": .integer(bytes), "total": .integer(total), "files": .integer(files),
                "of": .integer(ofFiles),
            ]
        case .remark(let text): ["event": "remark", "text": .text(text)]
        }
    }
}
