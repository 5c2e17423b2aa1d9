import PluginKit

extension Statement.Forward: WalkedStatement {
    var decides: Bool { true }

    /// The packet leaves at once: no later chain sees it.
    func meet(_ walk: inout PacketWalk) -> PacketWalk.Outcome { .end(.drop, "fwd to \(link)") }
}
