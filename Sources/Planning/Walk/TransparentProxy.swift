import PluginKit

extension Statement.TransparentProxy: WalkedStatement {
    var decides: Bool { true }

    /// The packet is taken as one for which the proxy has a socket.
    func meet(_ walk: inout PacketWalk) -> PacketWalk.Outcome {
        let host = address.map { $0.contains(":") ? "[\($0)]" : $0 } ?? ""
        return .next("tproxy to \(host)" + (port.map { ":\($0)" } ?? ""))
    }
}
