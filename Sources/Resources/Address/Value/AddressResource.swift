/// An address of a link.
public struct AddressResource: ResourceType {
    public static let kind = "address"

    public var link: String
    public var prefix: IPPrefix
    /// The other end of a point-to-point link; the prefix's length then is the peer's.
    public var peer: IPAddress?
    /// Makes no route to its network (IFA_F_NOPREFIXROUTE).
    public var hasNoPrefixRoute: Bool
    /// Runs duplicate address detection (RFC 4862 §5.4). Without it a service can bind at once.
    public var detectsDuplicates: Bool
    /// In seconds since 1970: no new connections use it from then on (RFC 4862 §5.5.4); nil for never.
    public var preferredUntil: Int?
    /// In seconds since 1970: the kernel removes it then; nil for never.
    public var validUntil: Int?

    public init(
        link: String, _ prefix: IPPrefix, peer: IPAddress? = nil, hasNoPrefixRoute: Bool = false,
        detectsDuplicates: Bool = false, preferredUntil: Int? = nil, validUntil: Int? = nil
    ) {
        self.link = link
        self.prefix = prefix
        self.peer = peer
        self.hasNoPrefixRoute = hasNoPrefixRoute
        self.detectsDuplicates = detectsDuplicates
        self.preferredUntil = preferredUntil
        self.validUntil = validUntil
    }

    public init(_ line: ResourceLine) throws(InvalidResource) {
        // To the end of the year 9999.
        let times = 0...253_402_300_799
        self.init(
            link: try line.required("link"), try line.value("address") { IPPrefix($0) },
            peer: try line.optional("peer") { IPAddress($0) }, hasNoPrefixRoute: try line.flag("no-prefix-route"),
            detectsDuplicates: try line.flag("detect-duplicates"),
            preferredUntil: try line.number("preferred-until", times), validUntil: try line.number("valid-until", times)
        )
        if let peer, peer.family != prefix.family { throw line.invalid("the peer must be of the address's family") }
    }

    public var identity: String { "\(link) \(prefix)" }

    public var fields: [String: JSON] {
        Self.fields([
            "link": .text(link), "address": .text(prefix.description), "peer": peer.map { .text($0.description) },
            "no-prefix-route": hasNoPrefixRoute ? .boolean(true) : nil,
            "detect-duplicates": detectsDuplicates ? .boolean(true) : nil,
            "preferred-until": preferredUntil.map { .integer($0) }, "valid-until": validUntil.map { .integer($0) },
        ])
    }
}
