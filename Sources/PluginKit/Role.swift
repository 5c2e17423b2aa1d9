/// What somebody may ask of a box: told by the group that he belongs to.
public enum Role: String, Sendable, CaseIterable {
    /// Looks at everything but secrets.
    case readOnly = "read-only"
    /// And gives operators' commands, restarts services, traces packets.
    case `operator`
    /// And changes the configuration.
    case administrator

    /// The group of the image that stands for it. The numbers are the same on all boxes: site documents' users belong to
    /// these groups, and a plugin that writes them knows no image.
    public var group: (name: String, number: Int) {
        switch self {
        case .readOnly: ("vcpe-read-only", 990)
        case .operator: ("vcpe-operator", 991)
        case .administrator: ("vcpe-administrator", 992)
        }
    }
}

extension Role: Comparable {
    public static func < (one: Role, other: Role) -> Bool { one.group.number < other.group.number }
}
