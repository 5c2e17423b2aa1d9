/// An address of a link.
public struct AddressResource: ResourceType {
    public static let kind = "address"

    public var link: String
    public var prefix: IPPrefix

    public init(link: String, _ prefix: IPPrefix) { (self.link, self.prefix) = (link, prefix) }

    public init(_ line: ResourceLine) throws(InvalidResource) {
        self.init(link: try line.required("link"), try line.value("address") { IPPrefix($0) })
    }

    public var identity: String { "\(link) \(prefix)" }
    public var fields: [String: JSON] { ["link": .text(link), "address": .text(prefix.description)] }
}
