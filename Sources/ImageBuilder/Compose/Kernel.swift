import Archives
import Digests
import Disks
import Documents
import Files
import Glibc

/// The kernel of an image and the modules that its profile chooses, with all that they depend on.
public struct Kernel: Sendable {
    /// As in `/usr/lib/modules/RELEASE`.
    public var release = ""
    /// The compressed kernel image.
    public var image = Content("")
    /// For the initramfs: paths below the root, among them modules.dep and the like.
    public var bootTree = Tree()
    /// Processors' microcode, as the kernel looks for it in front of the initramfs.
    /// Firmware files that chosen modules ask for and none of the profile's packages has.
    var missingFirmware: [String] = []
    public var microcode = Tree()
    /// Modules taken, of all that the package has.
    public var moduleCount = 0
    public var availableCount = 0

    init() {}

    /// Adds modules and firmware to `tree` and gathers what the initramfs needs.
    init(profile: HardwareProfile, packages: [UnpackedPackage], cache: Cache, tree: inout Tree) async throws {
        guard
            let package = packages.first(where: { $0.entries.contains { $0.path.hasPrefix("boot/vmlinuz-") } }),
            let entry = package.entries.first(where: { $0.path.hasPrefix("boot/vmlinuz-") }),
            case .file(let image) = entry.entry.kind
        else {
            throw InvalidDocument([
                profile.kernel.problem("\(profile.kernel.value) and what it needs bring no /boot/vmlinuz")
            ])
        }
        self.image = image
        release = String(entry.path.dropFirst("boot/vmlinuz-".count))
        var modules = try ModuleSet(package: package, release: release, cache: cache)
        availableCount = modules.count

        let always = try modules.choose(profile.bootModules)
        let storage = try modules.choose(profile.storageModules)
        let boot = try await modules.closure(of: always.union(storage))
        let root = try await modules.closure(of: modules.choose(profile.modules).union(always).union(storage))
        moduleCount = root.count
        modules.add(root, to: &tree, origin: package.package.name)
        modules.add(boot, to: &bootTree, origin: package.package.name)
        // In the order given: the first that finds its hardware names the first disk.
        let ordered = profile.bootModules.flatMap { pattern in modules.matching(pattern.value).sorted() }
        bootTree["etc/vcpe-modules"] = TreeEntry(
            .file(Content(ordered.joined(separator: "\n") + "\n")), mode: 0o644, origin: Composer.origin)
        try addMicrocode(profile, packages)
        try addFirmware(profile, packages, modules.firmware(of: root), to: &tree)
    }

    /// All files of a maker, one after the other (kernel: `Documentation/arch/x86/microcode.rst`).
    private mutating func addMicrocode(_ profile: HardwareProfile, _ packages: [UnpackedPackage]) throws {
        let makers = ["firmware/intel-ucode/": "GenuineIntel.bin", "firmware/amd-ucode/": "AuthenticAMD.bin"]
        for (folder, name) in makers.sorted(by: { $0.key < $1.key }) {
            var bytes: [UInt8] = []
            for package in packages where profile.microcode.contains(where: { $0.value == package.package.name }) {
                for entry in package.entries.sorted(by: { $0.path < $1.path }) where entry.path.contains(folder) {
                    let isMicrocode = folder.contains("intel") || entry.path.hasSuffix(".bin")
                    if isMicrocode, case .file(let content) = entry.entry.kind { bytes += try content.read() }
                }
            }
            let path = "kernel/x86/microcode/\(name)"
            if bytes.isEmpty { continue }
            microcode.addParents(of: path, origin: Composer.origin)
            microcode[path] = TreeEntry(.file(Content(bytes)), mode: 0o644, origin: Composer.origin)
        }
    }

    private mutating func addFirmware(
        _ profile: HardwareProfile, _ packages: [UnpackedPackage], _ wanted: Set<String>, to tree: inout Tree
    ) throws {
        let prefix = "usr/lib/firmware/"
        var all: [String: TreeEntry] = [:]
        for package in packages where profile.firmware.contains(where: { $0.value == package.package.name }) {
            for entry in package.entries {
                let path = entry.path.hasPrefix("lib/") ? "usr/" + entry.path : entry.path
                if path.hasPrefix(prefix) { all[path] = entry.entry }
            }
        }
        var queue = all.keys.filter { path in
            let name = String(path.dropFirst(prefix.count))
            return wanted.contains { NamePattern.matches(name, $0) }
                || profile.firmwareFiles.contains { NamePattern.matches(name, $0) }
        }
        queue.sort()
        let names = all.keys.map { String($0.dropFirst(prefix.count)) }
        missingFirmware =
            profile.firmware.isEmpty
            ? [] : wanted.filter { pattern in !names.contains { NamePattern.matches($0, pattern) } }.sorted()
        while let path = queue.popLast() {
            guard tree[path] == nil, let entry = all[path], entry.kind != .directory else { continue }
            tree.addParents(of: path, origin: entry.origin)
            tree[path] = entry
            if case .symbolicLink(let target) = entry.kind, let parent = FileSystem.parent(of: path) {
                queue.append(NamePattern.joined(parent, target))
            }
        }
    }
}

/// All modules of a kernel package, read as far as they are asked for.
struct ModuleSet {
    private struct Module {
        var path: String
        var packed: Content
        /// Decompressed; nil until somebody wants it.
        var content: Content?
        var information = ModuleInformation()
    }

    private var modules: [String: Module] = [:]
    private let folder: String
    private let cache: Cache
    private var builtIn: Set<String> = []
    private var builtInFile: TreeEntry?

    /// Modules in all.
    var count: Int { modules.count }

    init(package: UnpackedPackage, release: String, cache: Cache) throws {
        folder = "usr/lib/modules/\(release)/"
        self.cache = cache
        for item in package.entries {
            let path = item.path.hasPrefix("lib/") ? "usr/" + item.path : item.path
            guard path.hasPrefix(folder), case .file(let content) = item.entry.kind else { continue }
            let relative = String(path.dropFirst(folder.count))
            let file = FileSystem.name(of: path)
            if let name = Self.name(file) {
                modules[name] = Module(path: relative, packed: content)
            } else if relative == "modules.builtin" {
                builtInFile = item.entry
                let text = String(decoding: try content.read(), as: UTF8.self)
                builtIn = Set(text.split(separator: "\n").compactMap { Self.name(FileSystem.name(of: String($0))) })
            }
        }
    }

    /// A module's name from its file's: `dm-verity.ko.xz` is `dm_verity`.
    private static func name(_ file: String) -> String? {
        guard let range = file.firstRange(of: ".ko") else { return nil }
        return String(file[..<range.lowerBound].map { $0 == "-" ? "_" : $0 })
    }

    /// The modules that a pattern of a profile means; none for one that is built in.
    func matching(_ pattern: String) -> [String] {
        if pattern.hasSuffix("/") { return modules.filter { $0.value.path.hasPrefix(pattern) }.map(\.key) }
        let name = String(pattern.map { $0 == "-" ? "_" : $0 })
        if modules[name] != nil { return [name] }
        return pattern.contains(where: { "*?".contains($0) })
            ? modules.keys.filter { NamePattern.matches($0, name) } : []
    }

    func choose(_ patterns: [Located<String>]) throws -> Set<String> {
        var chosen: Set<String> = []
        var problems: [Problem] = []
        for pattern in patterns {
            let found = matching(pattern.value)
            let name = String(pattern.value.map { $0 == "-" ? "_" : $0 })
            if found.isEmpty, !builtIn.contains(where: { NamePattern.matches($0, name) }) {
                let meant = didYouMean(name, among: Array(modules.keys)).map { "did you mean \($0)?" }
                problems.append(pattern.problem("the kernel has no module \(pattern.value)", hint: meant))
            }
            chosen.formUnion(found)
        }
        if !problems.isEmpty { throw InvalidDocument(problems) }
        return chosen
    }

    /// `names` and all that they depend on, softly or not.
    mutating func closure(of names: Set<String>) async throws -> Set<String> {
        var done: Set<String> = []
        var next = names
        while !next.isEmpty {
            try await load(next)
            done.formUnion(next)
            next = Set(
                next.flatMap { (modules[$0]?.information.dependencies ?? []) + (modules[$0]?.information.soft ?? []) }
            ).filter { modules[$0] != nil && !done.contains($0) }
        }
        return done
    }

    /// Decompresses modules, in parallel and once for all builds, and reads what they say of themselves.
    private mutating func load(_ names: Set<String>) async throws {
        let folder = try cache.folder("modules")
        let wanted = names.compactMap { name in
            modules[name].flatMap { $0.content == nil ? (name, $0.packed, $0.path) : nil }
        }
        let loaded = try await withThrowingTaskGroup(of: [(String, Content, ModuleInformation)].self) { group in
            let share = max(1, wanted.count / 16)
            for start in stride(from: 0, to: wanted.count, by: share) {
                let part = wanted[start..<min(start + share, wanted.count)]
                group.addTask {
                    try part.map { name, packed, path in
                        let kept = "\(folder)/\(packed.digest.hex).ko"
                        let bytes: [UInt8]
                        if FileSystem.exists(kept) {
                            bytes = try FileSystem.read(kept)
                        } else {
                            bytes = try Decompression.decompress(try packed.read(), name: path)
                            try FileSystem.replace(kept) { (file: File) throws(SystemError) in
                                try file.write(bytes, at: 0)
                            }
                        }
                        let content = Content(path: kept, offset: 0, count: bytes.count, digest: SHA256.hash(bytes))
                        return (name, content, ModuleInformation(bytes))
                    }
                }
            }
            var all: [(String, Content, ModuleInformation)] = []
            for try await part in group { all += part }
            return all
        }
        for (name, content, information) in loaded {
            modules[name]?.content = content
            modules[name]?.information = information
        }
    }

    /// Firmware files that modules ask for, some with patterns.
    func firmware(of names: Set<String>) -> Set<String> {
        Set(names.flatMap { modules[$0]?.information.firmware ?? [] })
    }

    /// Adds modules, and the files by which they are found: modules.dep, modules.alias, modules.softdep.
    func add(_ names: Set<String>, to tree: inout Tree, origin: String) {
        func path(_ name: String) -> String {
            (modules[name]?.path ?? "").replacingSuffix([".xz", ".zst", ".gz"])
        }
        var dependencies: [String] = []
        var aliases: [String] = []
        var soft: [String] = []
        for name in names.sorted() {
            guard let module = modules[name], let content = module.content else { continue }
            tree.addParents(of: folder + path(name), origin: origin)
            tree[folder + path(name)] = TreeEntry(.file(content), mode: 0o644, origin: origin)
            dependencies.append("\(path(name)):" + order(of: name).map { " " + path($0) }.joined())
            aliases += module.information.aliases.map { "alias \($0) \(name)" }
            if !module.information.soft.isEmpty {
                soft.append("softdep \(name) pre: \(module.information.soft.joined(separator: " "))")
            }
        }
        let files = ["modules.dep": dependencies, "modules.alias": aliases, "modules.softdep": soft]
        for (name, lines) in files {
            tree[folder + name] = TreeEntry(
                .file(Content(lines.map { $0 + "\n" }.joined())), mode: 0o644, origin: Composer.origin)
        }
        tree[folder + "modules.builtin"] = builtInFile
    }

    /// What must be loaded before a module, the nearest first, as modules.dep(5) has it.
    private func order(of name: String) -> [String] {
        var result: [String] = []
        func visit(_ name: String) {
            for dependency in modules[name]?.information.dependencies ?? [] where modules[dependency] != nil {
                visit(dependency)
                if !result.contains(dependency) { result.append(dependency) }
            }
        }
        visit(name)
        return result.reversed()
    }
}

/// What a kernel module says of itself: its `.modinfo` section, `key=value` strings that end in NUL.
struct ModuleInformation: Sendable {
    var dependencies: [String] = []
    var soft: [String] = []
    var aliases: [String] = []
    var firmware: [String] = []

    init() {}

    init(_ elf: [UInt8]) {
        for item in ELF.section(".modinfo", of: elf).split(separator: 0) {
            let text = String(decoding: item, as: UTF8.self)
            guard let equals = text.firstIndex(of: "=") else { continue }
            let value = String(text[text.index(after: equals)...])
            func names() -> [String] {
                value.split(whereSeparator: { $0 == "," || $0 == " " }).map { String($0.map { $0 == "-" ? "_" : $0 }) }
            }
            switch text[..<equals] {
            case "depends": dependencies += names()
            case "softdep": soft += names().filter { !$0.hasSuffix(":") }
            case "alias": aliases.append(value)
            case "firmware": firmware.append(value)
            default: break
            }
        }
    }
}

/// The little of ELF (64 bits, little-endian) that the builder reads.
enum ELF {
    /// The bytes of a section; empty when there is none.
    static func section(_ name: String, of file: [UInt8]) -> ArraySlice<UInt8> {
        guard let table = file.integer(at: 0x28, UInt64.self).flatMap(Int.init(exactly:)),
            let size = file.integer(at: 0x3A, UInt16.self).map(Int.init),
            let count = file.integer(at: 0x3C, UInt16.self).map(Int.init),
            let namesIndex = file.integer(at: 0x3E, UInt16.self).map(Int.init),
            let names = range(of: table + namesIndex * size, in: file)
        else { return [] }
        for i in 0..<count {
            let header = table + i * size
            guard let offset = file.integer(at: header, UInt32.self).map(Int.init),
                let range = range(of: header, in: file), names.lowerBound + offset < names.upperBound
            else { continue }
            let found = file[(names.lowerBound + offset)..<names.upperBound].prefix { $0 != 0 }
            if found.elementsEqual(name.utf8) { return file[range] }
        }
        return []
    }

    private static func range(of header: Int, in file: [UInt8]) -> Range<Int>? {
        guard let offset = file.integer(at: header + 0x18, UInt64.self).flatMap(Int.init(exactly:)),
            let size = file.integer(at: header + 0x20, UInt64.self).flatMap(Int.init(exactly:)),
            offset <= file.count, size <= file.count - offset
        else { return nil }
        return offset..<offset + size
    }
}

/// Shell-like patterns over names and paths.
enum NamePattern {
    /// True when `pattern` fits all of `text` (fnmatch(3); a star takes slashes too).
    static func matches(_ text: String, _ pattern: String) -> Bool { fnmatch(pattern, text, 0) == 0 }

    /// `target`, as a link in `folder` has it, from the root.
    static func joined(_ folder: String, _ target: String) -> String {
        var parts = target.hasPrefix("/") ? [] : folder.split(separator: "/").map(String.init)
        for part in target.split(separator: "/") where part != "." {
            if part == ".." { _ = parts.popLast() } else { parts.append(String(part)) }
        }
        return parts.joined(separator: "/")
    }
}

extension String {
    /// Without the first of `suffixes` that it ends in.
    func replacingSuffix(_ suffixes: [String]) -> String {
        suffixes.first { hasSuffix($0) }.map { String(dropLast($0.count)) } ?? self
    }
}
