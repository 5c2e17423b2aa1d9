import PluginKit

extension Statement.MapUpdate: WalkedStatement {
    func meet(_ walk: inout PacketWalk) -> PacketWalk.Outcome { .next() }
}
