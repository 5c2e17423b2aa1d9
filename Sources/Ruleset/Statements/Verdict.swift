import Documents

/// What a packet meets at a rule's end.
public enum Verdict: Sendable, Hashable {
    case accept, drop, `return`, `continue`
    case jump(String), goto(String)

    /// The chain that it leads to.
    public var target: String? {
        switch self {
        case .jump(let chain), .goto(let chain): chain
        default: nil
        }
    }

    init?(_ json: JSON) {
        guard let (name, body) = json.single else { return nil }
        switch (name, body["target"]?.text) {
        case ("accept", _): self = .accept
        case ("drop", _): self = .drop
        case ("return", _): self = .return
        case ("continue", _): self = .continue
        case ("jump", let chain?): self = .jump(chain)
        case ("goto", let chain?): self = .goto(chain)
        default: return nil
        }
    }

    public var json: JSON {
        switch self {
        case .accept: ["accept": .null]
        case .drop: ["drop": .null]
        case .return: ["return": .null]
        case .continue: ["continue": .null]
        case .jump(let chain): ["jump": ["target": .text(chain)]]
        case .goto(let chain): ["goto": ["target": .text(chain)]]
        }
    }
}
