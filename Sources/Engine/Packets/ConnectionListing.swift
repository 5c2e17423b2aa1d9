import Documents
import Netlink
import PluginKit

/// The connections that a plugin's command gets.
struct ConnectionListing {
    /// How many at most: reading ends there, however many more the kernel has.
    static let most = 20_000

    /// The kernel's connections as input of plugins' commands; of one address or network, where it
    /// is given.
    ///
    /// - Throws: `EngineError` for a text that is neither, `NetlinkError` when the kernel refuses.
    static func json(of text: String?) throws -> JSON {
        var wanted: IPRange?
        if let text {
            guard let range = IPRange(text) else {
                throw EngineError("\"\(text)\" is no address and no network; 192.168.1.20 and 192.168.1.0/24 are")
            }
            wanted = range
        }
        return .list(try Self(of: wanted).read().map(\.json))
    }

    private let wanted: IPRange?
    private let dump: ConnectionDump

    /// - Parameter wanted: addresses of which a connection has one; nil for all connections.
    init(of wanted: IPRange?) throws(NetlinkError) {
        self.wanted = wanted
        dump = try ConnectionDump(of: wanted?.family)
    }

    /// Reads up to ``most`` of the wanted connections.
    func read() throws -> [TrackedConnection] {
        var found: [TrackedConnection] = []
        while found.count < Self.most, let connection = try dump.next() {
            if isWanted(connection) { found.append(connection) }
        }
        guard dump.isWhole || found.count == Self.most else {
            throw EngineError("the list of connections changed while it was read; try again")
        }
        return found
    }

    private func isWanted(_ connection: TrackedConnection) -> Bool {
        guard let wanted else { return true }
        func isIn(_ address: IPAddress) -> Bool {
            address.family == wanted.family && wanted.values.contains(address.value)
        }
        let (original, reply) = (connection.original, connection.reply)
        return isIn(original.source) || isIn(original.destination) || isIn(reply.source) || isIn(reply.destination)
    }
}

extension TrackedConnection {
    fileprivate var json: JSON {
        .object([
            "original": original.json, "reply": reply.json, "protocol": .integer(transport), "state": .text(state),
            "seconds": .integer(timeout), "mark": .integer(Int(mark)), "zone": zone.map { .integer($0) },
        ])
    }
}

extension TrackedConnection.Tuple {
    fileprivate var json: JSON {
        .object([
            "source": .text(source.description), "destination": .text(destination.description),
            "source-port": sourcePort.map { .integer($0) }, "port": port.map { .integer($0) },
        ])
    }
}
