import Digests
import Documents
import PluginKit

/// A plugin's answer to one input. A plugin is a pure function, so the same input needs no second
/// question: a fact that changes plans only the plugins that read it, and those that read what those
/// publish.
struct PluginAnswer: Sendable {
    /// Of the whole input but the time.
    let input: Digest
    /// The times at which the answer holds, in seconds since 1970: from when it was given to its
    /// `replan-at`.
    let valid: Range<Int>
    /// In the plugin's order.
    let lines: [Line]

    /// A line of an answer.
    struct Line: Sendable {
        /// As the plugin wrote it.
        let text: String
        /// What it was read as in the plan that the answer was given for; nil where that is not
        /// known, and for lines that are no resources.
        var planned: PlannedResource?
    }

    /// A question to a plugin, which is at work on it where the answer is not known.
    struct Question {
        /// Names the answer among a plan's.
        let key: String
        let source: String
        private let input: Digest
        private let now: Int
        /// The answer to the last question of the same name, to this input or to another.
        private let last: PluginAnswer?
        /// Nil where the last answer holds.
        private let running: PluginRunner.Asked?

        static func key(_ verb: String, of member: Planner.Member) -> String { "\(verb) \(member.runner.name)" }

        /// - Parameter input: JSON without its end and the time.
        init(
            _ verb: String, of member: Planner.Member, _ input: [UInt8], now: Int,
            knowing answers: [String: PluginAnswer]
        ) throws {
            let name = member.runner.name
            (key, source, self.now) = (Self.key(verb, of: member), "plugin \(name) \(verb)", now)
            self.input = SHA256.hash(input)
            last = answers[key]
            if let last, last.input == self.input, last.valid.contains(now) {
                running = nil
            } else {
                // Values to publish must not depend on the time: a plugin is asked for them only for another input.
                let end = verb == "publish" ? "}" : ",\"now\":\(now)}"
                running = try member.runner.begin(verb, input + Array(end.utf8))
            }
        }

        /// Waits for the answer.
        func answer() throws -> PluginAnswer {
            guard let running else { return last ?? PluginAnswer(input: input, valid: now..<Int.max, lines: []) }
            let lines = try running.lines(knowing: last?.lines ?? [])
            return PluginAnswer(input: input, valid: now..<Int.max, lines: lines)
        }

        /// - Throws: ``PluginFailure`` for a line that is no JSON.
        func json(_ line: Line) throws(PluginFailure) -> JSON { try PluginRunner.parse(line.text, of: source) }
    }

    /// The same, of which the plugin says from when on it would answer something else.
    ///
    /// - Parameter lines: the same with what they were read as.
    func ending(at time: Int?, _ lines: [Line]) -> PluginAnswer {
        let end = time.map { min(valid.upperBound, max(valid.lowerBound, $0)) } ?? valid.upperBound
        return PluginAnswer(input: input, valid: valid.lowerBound..<end, lines: lines)
    }
}
