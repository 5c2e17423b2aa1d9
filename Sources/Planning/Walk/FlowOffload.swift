import PluginKit

extension Statement.FlowOffload: WalkedStatement {
    /// Later packets go by; the first one does not.
    func meet(_ walk: inout PacketWalk) -> PacketWalk.Outcome { .next() }
}
