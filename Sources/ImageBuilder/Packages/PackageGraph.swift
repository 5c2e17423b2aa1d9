/// Packages that are installed together, and their dependencies.
struct PackageGraph {
    /// The relation fields of one package (deb-control(5)).
    struct Stanza {
        var name: String
        var version: String
        var fields: [String: String]

        var isEssential: Bool { fields["Essential"] == "yes" }

        /// Groups of alternatives; a group is satisfied by one of its names.
        func groups(_ field: String) -> [[String]] {
            (fields[field] ?? "").split(separator: ",").map { group in
                group.split(separator: "|").map { relation in
                    String(relation.drop { $0 == " " || $0 == "\n" }.prefix { !" (:[<\n".contains($0) })
                }.filter { !$0.isEmpty }
            }.filter { !$0.isEmpty }
        }

        /// The packages that must be installed before dpkg configures this one.
        var dependencies: [[String]] { groups("Pre-Depends") + groups("Depends") }
    }

    private(set) var stanzas: [String: Stanza] = [:]
    /// Packages that provide a virtual name, sorted.
    private var providers: [String: [String]] = [:]

    init(_ stanzas: [Stanza]) {
        for stanza in stanzas { self.stanzas[stanza.name] = stanza }
        for stanza in stanzas.sorted(by: { $0.name < $1.name }) {
            for name in stanza.groups("Provides").joined() { providers[name, default: []].append(stanza.name) }
        }
    }

    /// The package of the graph that satisfies a group: the first alternative in the graph wins.
    func satisfying(_ group: [String]) -> String? {
        for name in group where stanzas[name] != nil { return name }
        for name in group {
            if let provider = providers[name]?.first { return provider }
        }
        return nil
    }

    /// The packages of the graph that one package depends on.
    func dependencies(of name: String) -> [String] {
        (stanzas[name]?.dependencies ?? []).compactMap(satisfying)
    }

    /// `names` and all of their dependencies.
    ///
    /// - Parameter excluding: packages that are neither included nor followed, unless they are in
    ///   `names`.
    func closure(of names: [String], excluding: Set<String> = []) -> Set<String> {
        var found: Set<String> = []
        var queue = names.compactMap { satisfying([$0]) }
        while let name = queue.popLast() {
            guard found.insert(name).inserted else { continue }
            queue += dependencies(of: name).filter { !excluding.contains($0) }
        }
        return found
    }

    /// The reason for a package: a chain of dependencies from one of `names` to the package.
    func chain(to wanted: String, from names: [String], excluding: Set<String> = []) -> [String]? {
        var before: [String: String] = [:]
        var queue = names.compactMap { satisfying([$0]) }
        var seen = Set(queue)
        while !queue.isEmpty {
            let name = queue.removeFirst()
            if name == wanted {
                var chain = [name]
                while let previous = before[chain[0]] { chain.insert(previous, at: 0) }
                return chain
            }
            for next in dependencies(of: name) where !excluding.contains(next) && seen.insert(next).inserted {
                before[next] = name
                queue.append(next)
            }
        }
        return nil
    }

    /// Reads the stanzas of `apt-cache show` and of Packages files.
    static func stanzas(_ text: String) -> [Stanza] {
        var stanzas: [Stanza] = []
        var fields: [String: String] = [:]
        var last = ""
        func end() {
            if let name = fields["Package"], let version = fields["Version"] {
                stanzas.append(Stanza(name: name, version: version, fields: fields))
            }
            fields = [:]
        }
        for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
            if line.isEmpty {
                end()
            } else if line.hasPrefix(" ") {
                fields[last, default: ""] += line
            } else if let colon = line.firstIndex(of: ":") {
                last = String(line[..<colon])
                fields[last] = String(line[line.index(after: colon)...].drop { $0 == " " })
            }
        }
        end()
        return stanzas
    }
}
