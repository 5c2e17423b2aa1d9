import Documents

/// Options of TCP's header, by nft's names.
public enum TCPOption: String, Sendable, CaseIterable {
    case maximumSegmentSize = "maxseg"
    case windowScale = "window"
    case selectiveAcknowledgementsPermitted = "sack-perm"

    /// TCPOPT_*: the option's kind (RFC 9293, 7323 and 2018).
    public var kind: UInt8 {
        switch self {
        case .maximumSegmentSize: 2
        case .windowScale: 3
        case .selectiveAcknowledgementsPermitted: 4
        }
    }

    /// The name of its value; nil for an option without one.
    var valueName: String? {
        switch self {
        case .maximumSegmentSize: "size"
        case .windowScale: "count"
        case .selectiveAcknowledgementsPermitted: nil
        }
    }

    /// Bytes of its value, which stands behind kind and length.
    public var length: Int { self == .maximumSegmentSize ? 2 : 1 }

    func json(_ field: TCPOptionField) -> JSON {
        [
            "tcp option": .object([
                "name": .text(rawValue), "field": field == .value ? valueName.map { .text($0) } : nil,
            ])
        ]
    }
}

/// What is read of an option.
public enum TCPOptionField: Sendable, Hashable {
    /// Whether it is there.
    case presence
    case value
}

extension Selector {
    static func tcpOption(_ body: JSON, of json: JSON) throws(UnsupportedRuleset) -> Selector {
        guard let option = body["name"]?.text.flatMap(TCPOption.init) else {
            throw UnsupportedRuleset(json, "this option of tcp", allowed: TCPOption.allCases.map(\.rawValue))
        }
        guard let field = body["field"] else { return .tcpOption(option, .presence) }
        guard let name = option.valueName, field.text == name else {
            throw UnsupportedRuleset(
                json, "this field of the option \(option.rawValue)",
                allowed: [option.valueName, "none at all"].compactMap { $0 })
        }
        return .tcpOption(option, .value)
    }
}
