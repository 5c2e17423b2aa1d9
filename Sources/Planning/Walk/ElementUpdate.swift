import PluginKit

extension Statement.ElementUpdate: WalkedStatement {
    /// A lone packet is beyond no limit of its source.
    func meet(_ walk: inout PacketWalk) -> PacketWalk.Outcome { each == nil ? .next() : .leave }
}
