import Files

/// The parts of dpkg's database that say what scripts asked for.
enum DpkgDatabase {
    /// Three lines a diversion: the path, where it is moved, whose file keeps it (dpkg-divert(1);
    /// `:` for none).
    static func diversions() -> [PackageTree.Diversion] {
        let lines = text("/var/lib/dpkg/diversions").split(separator: "\n").map(String.init)
        return stride(from: 0, to: lines.count - 2, by: 3).compactMap { i in
            // Debian's guards of the merged /usr: they name the links' side of a path, which no
            // package writes any more.
            if lines[i + 1].hasSuffix(".usr-is-merged") { return nil }
            return PackageTree.Diversion(
                package: lines[i + 2] == ":" ? nil : lines[i + 2],
                path: PackageTree.canonical(String(lines[i].dropFirst())),
                to: PackageTree.canonical(String(lines[i + 1].dropFirst())))
        }.sorted { $0.path < $1.path }
    }

    /// A file an alternative: status, link, slaves and their links, an empty line, then each
    /// candidate (update-alternatives(1), "QUERY FORMAT" and the source's `alternative_load`).
    static func alternatives() -> [Effects.Alternative] {
        let folder = "/var/lib/dpkg/alternatives"
        return ((try? FileSystem.list(folder)) ?? []).compactMap { name in
            var lines = text("\(folder)/\(name)").split(separator: "\n", omittingEmptySubsequences: false)
                .map(String.init)[...]
            guard lines.count > 2 else { return nil }
            _ = lines.removeFirst()
            var alternative = Effects.Alternative(
                name: name, link: lines.removeFirst(), slaves: [:], candidates: [])
            var slaves: [String] = []
            while let slave = lines.popFirst(), !slave.isEmpty {
                slaves.append(slave)
                alternative.slaves[slave] = lines.popFirst() ?? ""
            }
            while let path = lines.popFirst(), !path.isEmpty {
                var candidate = Effects.Alternative.Candidate(
                    path: path, priority: lines.popFirst().flatMap { Int($0) } ?? 0, slaves: [:])
                for slave in slaves {
                    if let path = lines.popFirst(), !path.isEmpty { candidate.slaves[slave] = path }
                }
                alternative.candidates.append(candidate)
            }
            // An image has no manual pages.
            func isDropped(_ link: String) -> Bool {
                DefaultDrop.patterns.contains { $0.matches(String(link.dropFirst())) }
            }
            let manuals = alternative.slaves.filter { isDropped($0.value) }.map(\.key)
            for slave in manuals {
                alternative.slaves[slave] = nil
                for i in alternative.candidates.indices { alternative.candidates[i].slaves[slave] = nil }
            }
            return isDropped(alternative.link) ? nil : alternative
        }.sorted { $0.name < $1.name }
    }

    private static func text(_ path: String) -> String {
        String(decoding: (try? FileSystem.read(path)) ?? [], as: UTF8.self)
    }
}
