import PluginKit

extension Statement.Masquerade: WalkedStatement {
    var decides: Bool { true }
    func meet(_ walk: inout PacketWalk) -> PacketWalk.Outcome {
        .translated(.init(statement: "masquerade", isMasquerade: true))
    }
}
