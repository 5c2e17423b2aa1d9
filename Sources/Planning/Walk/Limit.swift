import PluginKit

extension Statement.Limit: WalkedStatement {
    /// A lone packet is below every rate.
    func meet(_ walk: inout PacketWalk) -> PacketWalk.Outcome { isOver ? .leave : .next() }
}
