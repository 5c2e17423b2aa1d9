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
    /// As the plugin wrote them.
    let texts: [String]

    /// A line of an answer, with the question for errors.
    struct Line {
        let text: String
        let source: String

        /// - Throws: ``PluginFailure`` for a line that is no JSON.
        func json() throws(PluginFailure) -> JSON { try PluginRunner.parse(text, of: source) }
    }

    /// A question to a plugin, which is at work on it where the answer is not known.
    struct Question {
        /// Names the answer among a plan's.
        let key: String
        private let source: String
        private let input: Digest
        private let now: Int
        private let known: PluginAnswer?
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
            let known = answers[key]
            if let known, known.input == self.input, known.valid.contains(now) {
                (self.known, running) = (known, nil)
            } else {
                self.known = nil
                // Values to publish must not depend on the time: a plugin is asked for them only for another input.
                let end = verb == "publish" ? "}" : ",\"now\":\(now)}"
                running = try member.runner.begin(verb, input + Array(end.utf8))
            }
        }

        /// Waits for the answer.
        func answer() throws -> (lines: [Line], kept: PluginAnswer) {
            if let known { return (known.texts.map { Line(text: $0, source: source) }, known) }
            let texts = try running?.lines() ?? []
            let kept = PluginAnswer(input: input, valid: now..<Int.max, texts: texts)
            return (texts.map { Line(text: $0, source: source) }, kept)
        }
    }

    /// The same, of which the plugin says from when on it would answer something else.
    func ending(at time: Int) -> PluginAnswer {
        let end = min(valid.upperBound, max(valid.lowerBound, time))
        return PluginAnswer(input: input, valid: valid.lowerBound..<end, texts: texts)
    }
}
