import PluginKit

extension Statement.SynProxy: WalkedStatement {
    var decides: Bool { true }
    func meet(_ walk: inout PacketWalk) -> PacketWalk.Outcome { .verdict(.accept) }
}
