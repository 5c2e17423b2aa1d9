import PluginKit

extension Statement.Trace: WalkedStatement {
    func meet(_ walk: inout PacketWalk) -> PacketWalk.Outcome { .next() }
}
