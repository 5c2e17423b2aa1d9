/// A setting of the engine itself, which one plugin may plan.
public enum SettingResource: ResourceType {
    public static let kind = "setting"

    public enum Drift: String, Sendable, CaseIterable {
        /// The engine reverses changes that others make to what it owns.
        case repair
        /// The engine reports them; the next commit reverses them.
        case adopt
    }

    case drift(Drift)
    /// What every console of the box shows.
    case notice(String)

    public init(_ line: ResourceLine) throws(InvalidResource) {
        switch try line.required("id") {
        case "drift": self = .drift(try line.value("value") { Drift(rawValue: $0) })
        case "notice": self = .notice(try line.required("value"))
        default: throw line.invalid("settings are drift and notice")
        }
    }

    public var identity: String {
        switch self {
        case .drift: "drift"
        case .notice: "notice"
        }
    }

    public var fields: [String: JSON] {
        switch self {
        case .drift(let drift): ["value": .text(drift.rawValue)]
        case .notice(let text): ["value": .text(text)]
        }
    }
}
