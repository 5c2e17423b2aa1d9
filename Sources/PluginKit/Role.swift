/// What a user may ask of a box: told by the group that he belongs to. The least first.
public enum Role: String, Sendable, CaseIterable {
    /// Looks at everything but secrets.
    case readOnly = "read-only"
    /// And gives operators' commands, restarts services, traces packets.
    case `operator`
    /// And changes the customer's document.
    case customer
    /// And changes the whole configuration, and the box.
    case administrator

    /// The group of the image that stands for it. The numbers are the same on all boxes: site documents' users belong to
    /// these groups, and a plugin that writes them knows no image.
    public var group: (name: String, number: Int) {
        switch self {
        case .readOnly: ("vcpe-read-only", 990)
        case .operator: ("vcpe-operator", 991)
        case .administrator: ("vcpe-administrator", 992)
        case .customer: ("vcpe-customer", 993)
        }
    }

    /// The document that a user of the role works on unless he names another one.
    public var document: SiteDocument { self == .customer ? .customer : .provider }

    /// The documents that he may change.
    public var documents: Set<SiteDocument> {
        switch self {
        case .readOnly, .operator: []
        case .customer: [.customer]
        case .administrator: Set(SiteDocument.allCases)
        }
    }

    private var rank: Int { Self.allCases.firstIndex(of: self) ?? 0 }
}

extension Role: Comparable {
    public static func < (one: Role, other: Role) -> Bool { one.rank < other.rank }
}

/// A document of a box's configuration, by its owner. The upper one first: its values have
/// precedence.
public enum SiteDocument: String, Sendable, CaseIterable {
    case provider, customer
}
