import Documents
import Files

/// What the programs of a tree need to run: interpreters of scripts, libraries of ELF files.
struct Closure {
    /// A file that needs what is not there.
    struct Gap: Sendable, Hashable {
        /// Without a leading slash.
        var path: String
        /// An interpreter's absolute path, or a library's name.
        var missing: String
        var isLibrary: Bool
    }

    /// ELF's number of the architecture (elf(5), `e_machine`).
    static let machine: UInt16 = 62

    /// Where ld.so(8) looks on Debian's amd64, beside a file's own run path.
    static let libraryFolders = [
        "usr/lib/x86_64-linux-gnu", "usr/lib", "usr/local/lib/x86_64-linux-gnu", "usr/local/lib",
    ]

    private let tree: Tree
    private(set) var gaps: [Gap] = []
    /// Paths of libraries in ``libraryFolders`` that some file needs or names.
    private(set) var usedLibraries: Set<String> = []
    /// ELF files that are shared libraries in ``libraryFolders``, by path.
    private var libraries: Set<String> = []
    private var elves: [String: ElfFile] = [:]
    private var unchecked: Set<String> = []
    private var names: [String: Set<String>] = [:]
    private let folders: [String]

    /// - Parameters:
    ///   - unchecked: paths that are passed over.
    ///   - findsNames: whether names of libraries within files count as uses, for pruning.
    init(_ tree: Tree, unchecked: [PathPattern], findsNames: Bool = false) throws {
        self.tree = tree
        folders = Self.libraryFolders + Self.configuredFolders(tree)
        for path in tree.sortedPaths {
            guard let entry = tree[path], let content = tree.file(path), content.count > 4 else { continue }
            let isExecutable = entry.mode & 0o111 != 0
            let mayBeLibrary = path.contains(".so")
            guard isExecutable || mayBeLibrary else { continue }
            let isUnchecked = unchecked.contains { $0.matches(path) }
            let bytes = try content.read()
            if bytes.starts(with: ElfFile.magic) {
                guard let elf = ElfFile(bytes, machine: Self.machine) else { continue }
                elves[path] = elf
                if isUnchecked { self.unchecked.insert(path) }
                if let folder = FileSystem.parent(of: path), folders.contains(folder), elf.interpreter == nil {
                    libraries.insert(path)
                }
                if findsNames { names[path] = ElfFile.libraryNames(in: bytes) }
            } else if isExecutable, !isUnchecked, bytes.starts(with: [0x23, 0x21]) {
                checkScript(path, bytes)
            }
        }
        for (path, elf) in elves.sorted(by: { $0.key < $1.key }) where !self.unchecked.contains(path) {
            check(path, elf)
        }
    }

    /// Directories that ld.so.conf(5) adds.
    private static func configuredFolders(_ tree: Tree) -> [String] {
        tree.paths(below: "etc/ld.so.conf.d/", suffix: ".conf").flatMap { path in
            let bytes = (try? tree.file(path)?.read()) ?? []
            return String(decoding: bytes, as: UTF8.self).split(separator: "\n").filter { $0.hasPrefix("/") }
                .map { PackageTree.canonical($0.dropFirst().split(separator: "/").joined(separator: "/")) }
        }
    }

    // MARK: - Scripts

    private mutating func checkScript(_ path: String, _ bytes: [UInt8]) {
        let line = String(decoding: bytes.dropFirst(2).prefix(256).prefix { $0 != 0x0A }, as: UTF8.self)
        let words = line.split(whereSeparator: { $0 == " " || $0 == "\t" }).map(String.init)
        guard let program = words.first, program.hasPrefix("/") else { return }
        guard exists(program) else {
            gaps.append(Gap(path: path, missing: program, isLibrary: false))
            return
        }
        guard FileSystem.name(of: program) == "env" else { return }
        // env(1): options and assignments come before the program.
        let named = words.dropFirst().first { !$0.hasPrefix("-") && !$0.contains("=") }
        if let named, !named.hasPrefix("/"),
            !["usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin"].contains(where: { exists("/\($0)/\(named)") })
        {
            gaps.append(Gap(path: path, missing: named, isLibrary: false))
        }
    }

    private func exists(_ path: String) -> Bool { tree.resolving(String(path.dropFirst())) != nil }

    // MARK: - ELF

    private mutating func check(_ path: String, _ elf: ElfFile) {
        if let interpreter = elf.interpreter {
            if let found = tree.resolving(String(interpreter.dropFirst())) {
                usedLibraries.insert(found)
            } else {
                gaps.append(Gap(path: path, missing: interpreter, isLibrary: false))
            }
        }
        for name in elf.needed where find(name, elf, path) == nil {
            gaps.append(Gap(path: path, missing: name, isLibrary: true))
        }
    }

    private func find(_ name: String, _ elf: ElfFile, _ path: String) -> String? {
        if name.contains("/") { return tree.resolving(String(name.drop { $0 == "/" })) }
        let origin = FileSystem.parent(of: path) ?? ""
        let own = elf.runPath.map { folder -> String in
            let expanded = folder.replacing("${ORIGIN}", with: "/" + origin).replacing("$ORIGIN", with: "/" + origin)
            return PackageTree.canonical(NamePattern.joined("", expanded))
        }
        for folder in own + folders {
            if let found = tree.resolving("\(folder)/\(name)") { return found }
        }
        // A program may load its plugins' libraries itself before the plugin: one beside the file
        // is found so.
        return tree.resolving("\(origin)/\(name)")
    }

    /// What ldconfig(8) would list: libraries and links to them by their names, in the order of the
    /// directories.
    var cacheEntries: [LibraryCache.Entry] {
        var byFolder: [String: [String]] = [:]
        for path in tree.entries.keys {
            if let folder = FileSystem.parent(of: path), folders.contains(folder) {
                byFolder[folder, default: []].append(path)
            }
        }
        // ld.so.conf(5) comes before the loader's own directories.
        let configured = folders.dropFirst(Self.libraryFolders.count)
        return (configured + Self.libraryFolders).flatMap { folder in
            (byFolder[folder] ?? []).sorted().filter { path in
                let name = FileSystem.name(of: path)
                guard name.hasPrefix("lib") || name.hasPrefix("ld-"), name.contains(".so") else { return false }
                return tree.resolving(path).map { elves[$0] != nil } ?? false
            }.map { LibraryCache.Entry(name: FileSystem.name(of: $0), path: "/" + $0) }
        }
    }

    /// Libraries that nothing in the tree needs: their files and their links.
    ///
    /// - Parameter keep: paths that remain, with all that they need.
    mutating func unused(keep: [PathPattern]) -> [String] {
        var queue: [String] = []
        var seen: Set<String> = []
        func use(_ path: String) { if seen.insert(path).inserted { queue.append(path) } }
        let byName = Dictionary(
            grouping: tree.entries.keys.filter { path in
                FileSystem.parent(of: path).map(folders.contains) ?? false
            }
        ) { FileSystem.name(of: $0) }
        for path in elves.keys where !libraries.contains(path) || keep.contains(where: { $0.matches(path) }) {
            use(path)
        }
        for path in usedLibraries { use(path) }
        for name in nameServices() {
            for path in byName["libnss_\(name).so.2"] ?? [] { tree.resolving(path).map(use) }
        }
        while let path = queue.popLast() {
            guard let elf = elves[path] else { continue }
            for name in elf.needed { find(name, elf, path).map(use) }
            for name in names[path] ?? [] where name != elf.soname {
                for candidate in byName[name] ?? [] { tree.resolving(candidate).map(use) }
            }
        }
        let unused = libraries.subtracting(seen)
        let links = tree.entries.compactMap { path, entry -> String? in
            guard case .symbolicLink = entry.kind, let target = tree.resolving(path), unused.contains(target) else {
                return nil
            }
            return path
        }
        return (Array(unused) + links).filter { path in !keep.contains { $0.matches(path) } }.sorted()
    }

    /// Services of nsswitch.conf(5): the C library loads `libnss_NAME.so.2` for each.
    private func nameServices() -> Set<String> {
        let bytes = (try? tree.file("etc/nsswitch.conf")?.read()) ?? []
        var names: Set<String> = ["files", "dns", "compat"]
        for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") where !line.hasPrefix("#") {
            guard let colon = line.firstIndex(of: ":") else { continue }
            names.formUnion(
                line[line.index(after: colon)...].split(whereSeparator: { " \t[]".contains($0) }).map(String.init))
        }
        return names
    }
}

extension Tree {
    /// The path that a path leads to through links; nil where it leads nowhere.
    func resolving(_ path: String) -> String? {
        var parts = path.split(separator: "/").map(String.init)
        var index = 0
        var followed = 0
        while index < parts.count {
            let above = parts[...index].joined(separator: "/")
            guard let entry = self[above] else { return nil }
            if case .symbolicLink(let target) = entry.kind {
                followed += 1
                guard followed < 40 else { return nil }
                let folder = FileSystem.parent(of: above) ?? ""
                parts =
                    NamePattern.joined(folder, target).split(separator: "/").map(String.init) + parts[(index + 1)...]
                index = 0
                continue
            }
            index += 1
        }
        return parts.isEmpty ? nil : parts.joined(separator: "/")
    }
}

extension Composer {
    /// Removes what the definition's `prune:` names.
    mutating func prune() throws {
        let keep = definition.keep.map(\.value)
        if definition.prune.contains(.scriptsWithoutInterpreter) {
            let closure = try Closure(result.tree, unchecked: definition.unchecked)
            for gap in closure.gaps where !gap.isLibrary && !keep.contains(where: { $0.matches(gap.path) }) {
                guard let entry = result.tree[gap.path], !isElf(gap.path) else { continue }
                leaveOut(gap.path, entry, "no \(gap.missing)")
            }
        }
        if definition.prune.contains(.unusedLibraries) {
            var closure = try Closure(result.tree, unchecked: [], findsNames: true)
            let unused = closure.unused(keep: keep)
            for path in unused {
                if let entry = result.tree[path] { leaveOut(path, entry, "no program needs it") }
            }
            removeEmptied(above: Set(unused))
        }
    }

    private func isElf(_ path: String) -> Bool {
        ((try? result.tree.file(path)?.read().starts(with: ElfFile.magic)) ?? nil) ?? false
    }

    /// A program that can't start on the box is an error here, with the package that would bring
    /// what it lacks. What lacks it on Debian itself is no error: the effects have a list of those.
    mutating func checkClosure() throws {
        let known = Set(effects.unresolved)
        let closure = try Closure(result.tree, unchecked: definition.unchecked)
        addLibraryCache(closure)
        let gaps = closure.gaps.filter {
            !known.contains(Effects.Unresolved(path: $0.path, missing: $0.missing))
        }
        if gaps.isEmpty { return }
        let byMissing = Dictionary(grouping: gaps) { $0.missing }
        let lines = byMissing.sorted { ($0.value.count, $1.key) > ($1.value.count, $0.key) }.map { missing, gaps in
            let files = gaps.prefix(3).map { "/\($0.path) (\(result.tree[$0.path]?.origin ?? ""))" }
            let more = gaps.count > 3 ? " and \(gaps.count - 3) more" : ""
            return "  \(missing) is not in the image; needed by \(files.joined(separator: ", "))\(more)"
                + (provider(missing).map { "; \($0)" } ?? "")
        }
        let shown = lines.prefix(20).joined(separator: "\n")
        throw BuildFailure(
            "programs of the image can't start:\n\(shown)"
                + (lines.count > 20 ? "\n  and \(lines.count - 20) more" : ""),
            hint: """
                add the packages to packages: (or essential: true), leave the programs out by drop:, remove all such scripts by
                prune: [scripts-without-interpreter], or name files under unchecked: that load what they need in another way
                """)
    }

    /// What would bring a missing file.
    private func provider(_ missing: String) -> String? {
        func brings(_ package: UnpackedPackage) -> Bool {
            package.entries.contains { item in
                let path = PackageTree.canonical(item.path)
                return missing.hasPrefix("/")
                    ? "/" + path == missing || path == PackageTree.canonical(String(missing.dropFirst()))
                    : FileSystem.name(of: path) == missing
            }
        }
        if let package = packages.first(where: brings) {
            return "drop: or files: took it out of \(package.package.name)"
        }
        if let package = further.first(where: brings) { return "the package \(package.package.name) brings it" }
        let usual = [
            "/bin/sh": "dash", "/usr/bin/sh": "dash", "/bin/bash": "bash", "/usr/bin/bash": "bash",
            "/usr/bin/perl": "perl-base", "/usr/bin/python3": "python3-minimal", "python3": "python3-minimal",
            "/usr/bin/env": "coreutils", "/usr/bin/awk": "mawk",
        ]
        return usual[missing].map { "the package \($0) brings it" }
    }
}
