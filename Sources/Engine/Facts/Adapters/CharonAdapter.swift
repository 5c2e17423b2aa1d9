import Addresses
import PluginKit

/// Reads what strongSwan's charon gives its updown script in the environment (strongSwan's documentation,
/// "updown plugin").
public enum CharonAdapter {
    public static func reports(_ environment: [String: String]) -> [FactReport] {
        func network(_ name: String) -> IPPrefix? {
            environment[name].flatMap { IPPrefix($0) }.map(\.network)
        }
        guard let verb = environment["PLUTO_VERB"], let connection = environment["PLUTO_CONNECTION"],
            let remote = network("PLUTO_PEER_CLIENT")
        else { return [] }
        let name = "\(connection) \(remote)"
        if verb.hasPrefix("down-") { return [FactReport(Facts.Tunnel.collection, name, nil)] }
        guard verb.hasPrefix("up-"), let local = network("PLUTO_MY_CLIENT"),
            let peer = environment["PLUTO_PEER"].flatMap({ IPAddress($0) })
        else { return [] }
        return [FactReport(name, Facts.Tunnel(connection: connection, peer: peer, local: local, remote: remote))]
    }
}
