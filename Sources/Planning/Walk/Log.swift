import PluginKit

extension Statement.Log: WalkedStatement {
    func meet(_ walk: inout PacketWalk) -> PacketWalk.Outcome { .next() }
}
