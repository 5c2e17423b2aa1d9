import Documents
import Planning
import PluginKit

/// Rules of the packet filter, in the words of the document that they come from.
extension Engine {
    /// Every rule whose origin, chain or counter says `text`: where it stands in the packet path, and from which line.
    func explain(_ text: String) throws -> [JSON] {
        let table = TablePlan(applied.plan.all)
        let counted = try nftables.counters()
        return table.contents.chains.flatMap { chain in
            chain.rules.compactMap { rule -> JSON? in
                let counter = rule.statements.lazy.compactMap { if case .counter(let name) = $0 { name } else { nil } }
                    .first
                let words = [rule.comment, chain.name, counter].compactMap { $0 }
                guard words.contains(where: { $0.place(of: text) != nil }) else { return nil }
                return .object([
                    "chain": .text(chain.name), "origin": .text(rule.comment ?? "the engine's own"), "rule": rule.json,
                    "place": place(of: rule.comment ?? "").map { .text($0) }, "counter": counter.map { .text($0) },
                    "packets": counter.flatMap { counted[$0] }.map { .integer(Int(clamping: $0.packets)) },
                ])
            }
        }
    }

    /// Of a rule's origin, such as `firewall: rules[0] web`, the place in the document.
    func place(of origin: String) -> String? {
        guard let colon = origin.place(of: ": "),
            let plugin = planner.plugins.first(where: { $0.manifest.name == origin[..<colon.lowerBound] })
        else { return nil }
        let path = "\(plugin.manifest.key).\(origin[colon.upperBound...].prefix { $0 != " " })"
        guard let path = try? DocumentPath(path), let node = site.value(at: path) else { return nil }
        return "\(path), \(node.position)"
    }
}
