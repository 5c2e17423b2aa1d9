import PluginKit

extension Statement.Duplicate: WalkedStatement {
    /// The packet itself goes on.
    func meet(_ walk: inout PacketWalk) -> PacketWalk.Outcome { .next() }
}
