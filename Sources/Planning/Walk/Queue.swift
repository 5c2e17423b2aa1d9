import PluginKit

extension Statement.Queue: WalkedStatement {
    var decides: Bool { true }

    /// The program at the queue decides; the packet is taken as one that it accepts.
    func meet(_ walk: inout PacketWalk) -> PacketWalk.Outcome {
        let words =
            switch number {
            case .number(let number): "queue to \(number)"
            case .range(.number(let first), .number(let last)): "queue to \(first)-\(last)"
            default: "queue"
            }
        walk.cannotTell(words)
        return .verdict(.accept, words)
    }
}
