import PluginKit

extension Statement.NoTrack: WalkedStatement {
    func meet(_ walk: inout PacketWalk) -> PacketWalk.Outcome { .next() }
}
