import PluginKit

extension Statement.CounterMap: WalkedStatement {
    func meet(_ walk: inout PacketWalk) -> PacketWalk.Outcome {
        guard walk.isKnown(key, in: map) else { return .unknown }
        guard case .counter(let counter)? = walk.element(key, map)?.value else { return .leave }
        walk.counted.append(counter)
        return .next()
    }
}
