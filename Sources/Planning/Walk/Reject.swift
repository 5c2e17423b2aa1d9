import PluginKit

extension Statement.Rejection: WalkedStatement {
    var decides: Bool { true }
    func meet(_ walk: inout PacketWalk) -> PacketWalk.Outcome { .end(.reject, "reject") }
}
