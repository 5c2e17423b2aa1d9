import PluginKit

extension Statement.HelperAssignment: WalkedStatement {
    func meet(_ walk: inout PacketWalk) -> PacketWalk.Outcome { .next() }
}
