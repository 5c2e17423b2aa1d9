/// A place in the packet path where chains of plugins are called (`docs/packet-path.md`).
public enum Stage: String, Sendable, CaseIterable {
    /// At ingress, before anything else: drops only.
    case earlyDrop = "early-drop"
    case defend
    case noTrack = "no-track"
    case classify, steer, dnat
    /// Packets to the box that no later chain may accept: drops only.
    case inputGuard = "input-guard"
    /// The site's own rules about packets to the box.
    case input
    /// Allowed ports of services, and behind them what happens to the rest: no rule decided.
    case openings
    /// Forwarded packets, established ones too: drops only.
    case forwardGuard = "forward-guard"
    case noOffload = "no-offload"
    case forward, inspect
    /// The box's own packets, before the kernel looks up the route of their mark.
    case steerOutput = "steer-output"
    case output, shape, snat
    /// Packets that leave, after their translation.
    case translated
}
