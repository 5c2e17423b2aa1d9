extension Facts {
    /// An IPsec tunnel that is up, for one pair of networks (RFC 4301). An object's name is the
    /// connection and the other side's networks, such as `office 10.2.0.0/16`.
    public struct Tunnel: FactType {
        public static let collection = "tunnels"

        /// As its daemon names it.
        public var connection: String
        public var peer: IPAddress
        /// The networks behind the box, and those behind the other side.
        public var local: IPPrefix
        public var remote: IPPrefix

        public init(connection: String, peer: IPAddress, local: IPPrefix, remote: IPPrefix) {
            self.connection = connection
            self.peer = peer
            self.local = local
            self.remote = remote
        }

        public var json: JSON {
            [
                "connection": .text(connection), "peer": .text(peer.description), "local": .text(local.description),
                "remote": .text(remote.description),
            ]
        }

        public static var shape: Shape<Tunnel> {
            .mapping("a tunnel") { fields in
                let connection = fields.required("connection", .text)
                let peer = fields.required("peer", .ipAddress)
                let local = fields.required("local", .network)
                let remote = fields.required("remote", .network)
                guard let connection, let peer, let local, let remote else { return nil }
                return Tunnel(connection: connection, peer: peer, local: local, remote: remote)
            }
        }
    }
}

extension Facts {
    /// The tunnels by their names.
    public var tunnels: [String: Tunnel] { values(Tunnel.self) }
}
