/// What a plugin has to say of a configuration.
public struct Diagnostic: Sendable, Hashable, CustomStringConvertible {
    public enum Severity: String, Sendable, CaseIterable {
        /// The configuration can't be applied.
        case error
        /// Something is named that isn't there now and may come: an operator's change is refused, a box that starts goes
        /// on without it.
        case absent
        /// Worth a look.
        case warning
        /// What became of it, for whoever asks.
        case note
    }

    public var severity: Severity
    /// Of the node in the plugin's configuration, such as `rules[2].to`.
    public var path: String
    public var message: String
    public var hint: String?
    /// Of another node that it is about as well.
    public var other: String?

    public init(
        _ severity: Severity, path: String, _ message: String, hint: String? = nil, other: String? = nil
    ) {
        self.other = other
        self.severity = severity
        self.path = path
        self.message = message
        self.hint = hint
    }

    public init(_ problem: Problem) { self.init(.error, path: problem.path, problem.message, hint: problem.hint) }

    public var json: JSON {
        .object([
            "diagnostic": .text(severity.rawValue), "path": .text(path), "message": .text(message),
            "hint": hint.map { .text($0) }, "other": other.map { .text($0) },
        ])
    }

    /// Reads a line of a plugin's output; nil for a line that is something else.
    public init?(_ json: JSON) {
        guard let severity = (json["diagnostic"]?.text).flatMap(Severity.init), let message = json["message"]?.text
        else {
            return nil
        }
        self.init(
            severity, path: json["path"]?.text ?? "", message, hint: json["hint"]?.text,
            other: json["other"]?.text)
    }

    public var description: String {
        "\(severity.rawValue): \(path.isEmpty ? "" : path + ": ")\(message)" + (hint.map { "; \($0)" } ?? "")
    }
}
