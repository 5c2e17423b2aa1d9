/// The order in which dpkg installs the packages of a reference root: dependencies first, those without scripts together.
struct InstallationOrder: Sendable, Hashable {
    /// Packages that one run of dpkg installs.
    struct Step: Sendable, Hashable {
        var packages: [String]
        /// Whether a script of one of them runs; what such a step changes is the effect of its packages.
        var isScripted: Bool
    }

    /// The Essential packages and what they depend on, in the order in which they are configured. Their scripts need each
    /// other's files, so all of them are unpacked first.
    var bootstrap: [String]
    var steps: [Step]

    /// - Parameter isScripted: whether a package has a preinst or postinst script.
    init(_ graph: PackageGraph, packages: Set<String>, isScripted: (String) -> Bool) {
        let essentials = packages.filter { graph.stanzas[$0]?.isEssential == true }.sorted()
        let first = ["base-passwd", "base-files"].filter(packages.contains)
        let base = graph.closure(of: essentials + ["dpkg"].filter(packages.contains)).intersection(packages)
        let bootstrapGroups = Self.components(of: first + base.sorted(), in: base, graph)
        bootstrap = bootstrapGroups.joined().map { $0 }

        // Each group depends on itself, the bootstrap and earlier groups only.
        var waiting = Self.components(of: packages.subtracting(base).sorted(), in: packages.subtracting(base), graph)
        var installed = base
        steps = []
        func isReady(_ group: [String]) -> Bool {
            group.allSatisfy { name in
                graph.dependencies(of: name).allSatisfy {
                    installed.contains($0) || group.contains($0) || !packages.contains($0)
                }
            }
        }
        while !waiting.isEmpty {
            var plain: [String] = []
            var progressed = true
            while progressed {
                progressed = false
                for group in waiting where !group.contains(where: isScripted) && isReady(group) {
                    plain += group
                    installed.formUnion(group)
                    waiting.removeAll { $0 == group }
                    progressed = true
                }
            }
            if !plain.isEmpty { steps.append(Step(packages: plain, isScripted: false)) }
            let ready = waiting.filter { $0.contains(where: isScripted) && isReady($0) }
            // Groups are in topological order: the first one is always ready.
            for group in ready.isEmpty ? Array(waiting.prefix(1)) : ready {
                steps.append(Step(packages: group, isScripted: true))
                installed.formUnion(group)
                waiting.removeAll { $0 == group }
            }
        }
    }

    /// Strongly connected components, dependencies first (Tarjan's algorithm).
    private static func components(of roots: [String], in packages: Set<String>, _ graph: PackageGraph) -> [[String]] {
        var index: [String: Int] = [:]
        var low: [String: Int] = [:]
        var stack: [String] = []
        var onStack: Set<String> = []
        var groups: [[String]] = []
        func visit(_ name: String) {
            index[name] = index.count
            low[name] = index[name]
            stack.append(name)
            onStack.insert(name)
            for next in graph.dependencies(of: name) where packages.contains(next) {
                if index[next] == nil {
                    visit(next)
                    low[name] = min(low[name] ?? 0, low[next] ?? 0)
                } else if onStack.contains(next) {
                    low[name] = min(low[name] ?? 0, index[next] ?? 0)
                }
            }
            guard low[name] == index[name] else { return }
            var group: [String] = []
            while let last = stack.popLast() {
                onStack.remove(last)
                group.append(last)
                if last == name { break }
            }
            groups.append(group.reversed())
        }
        for root in roots where index[root] == nil { visit(root) }
        return groups
    }
}
