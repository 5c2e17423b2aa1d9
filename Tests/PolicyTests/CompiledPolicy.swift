import Documents
import Planning
import PluginKit
import Plugins

/// A policy as the plugin compiles it.
struct CompiledPolicy {
    let table: TablePlan
    let diagnostics: [Diagnostic]
    let lines: [String]

    /// - Parameter explains: whether it is to say more about rules that no packet meets.
    init(_ policy: RandomPolicy, explains: Bool = false) throws {
        lines = PluginProgram.answer(
            Firewall.self, isPlan: true,
            [
                "configuration": policy.configuration, "published": RandomPolicy.published, "now": 1,
                "explain": .boolean(explains),
            ])
        var (resources, diagnostics): ([Resource], [Diagnostic]) = ([], [])
        for line in lines {
            let json = try JSON.parse(line)
            if let diagnostic = Diagnostic(json) {
                diagnostics.append(diagnostic)
            } else {
                resources.append(try Resource(json))
            }
        }
        (table, self.diagnostics) = (TablePlan(resources.of(NftablesResource.self)), diagnostics)
    }

    /// The places of rules that no packet meets, by what it has said.
    var unreached: Set<String> {
        Set(
            diagnostics.filter { $0.message.hasPrefix("no packet ever meets this rule") }.map {
                String($0.path.drop { $0 != "[" }.dropFirst().dropLast())
            })
    }

    /// The counter that a packet counts with, and what becomes of it.
    func decide(_ packet: TestPacket, _ indexes: SetIndexes) -> (counter: String, action: String) {
        let names = [1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6", 132: "sctp"]
        var supposed = SupposedPacket(
            input: RandomPolicy.interfaces[packet.input], source: packet.source, destination: packet.destination,
            transport: names[packet.transport] ?? "\(packet.transport)",
            port: [6, 17, 132].contains(packet.transport) ? packet.port : nil)
        supposed.output = RandomPolicy.interfaces[packet.output]
        let kernel = PacketWalk.Kernel(members: { _ in [] }, isLocal: { _ in false }, leads: { _, _ in true })
        var walk = PacketWalk(supposed, through: table, kernel, indexes: indexes)
        let end = walk.pass(.forward)
        return (walk.counted.joined(separator: "+"), end.rawValue)
    }
}
