import CSystem
import Glibc

/// Loads kernel modules by what the builder wrote into modules.dep, modules.alias and modules.softdep.
struct ModuleLoader {
    private let folder: String
    private var paths: [String: (path: String, needs: [String])] = [:]
    /// Patterns as fnmatch(3) has them; read when the first is asked for, there are thousands.
    private lazy var aliases = Self.readAliases(folder)
    private var soft: [String: [String]] = [:]
    private var tried: Set<String> = []
    /// Of modules, by their names.
    private var parameters: [String: String] = [:]

    /// - Parameter parameters: names of modules, each followed by its parameters.
    init(root: String, parameters: ArraySlice<String> = []) {
        var rest = parameters
        while let name = rest.popFirst(), let text = rest.popFirst() { self.parameters[name] = text }
        var system = utsname()
        uname(&system)
        let release = withUnsafeBytes(of: system.release) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        folder = "\(root)/usr/lib/modules/\(release)"
        for line in Text.lines("\(folder)/modules.dep") {
            guard let colon = line.firstIndex(of: ":") else { continue }
            let path = String(line[..<colon])
            paths[Self.name(path)] = (path, line[line.index(after: colon)...].split(separator: " ").map(String.init))
        }
        for line in Text.lines("\(folder)/modules.softdep") {
            let words = line.split(separator: " ").map(String.init)
            if words.count > 3 { soft[words[1]] = Array(words[3...]) }
        }
    }

    private static func readAliases(_ folder: String) -> [(pattern: String, module: String)] {
        Text.lines("\(folder)/modules.alias").compactMap { line in
            let words = line.split(separator: " ")
            return words.count == 3 ? (String(words[1]), String(words[2])) : nil
        }
    }

    /// `kernel/fs/erofs/erofs.ko` and `dm-verity` are the modules `erofs` and `dm_verity`.
    private static func name(_ path: String) -> String {
        let file = path.split(separator: "/").last ?? ""
        let stem = file.hasSuffix(".ko") ? file.dropLast(3) : file
        return String(stem.map { $0 == "-" ? "_" : $0 })
    }

    /// Loads a module and what it needs. One that is built in or loaded already is fine; one that isn't known is not.
    ///
    /// - Returns: true when the module is there now.
    @discardableResult
    mutating func load(_ wanted: String, parameters: String = "") -> Bool {
        let name = Self.name(wanted)
        guard let module = paths[name] else { return access("/sys/module/\(name)", F_OK) == 0 }
        if !tried.insert(name).inserted { return true }
        // These may be aliases: ext4 wants "crc32c", whichever module that is.
        for other in soft[name] ?? [] where other != name && !load(other) { loadMatching(other) }
        for path in module.needs.reversed() { insert(path, self.parameters[Self.name(path)] ?? "") }
        return insert(module.path, parameters.isEmpty ? self.parameters[name] ?? "" : parameters)
    }

    @discardableResult
    private func insert(_ path: String, _ parameters: String) -> Bool {
        let file = open("\(folder)/\(path)", O_RDONLY | O_CLOEXEC)
        guard file >= 0 else {
            Console.say("\(Failure("open", path))")
            return false
        }
        defer { close(file) }
        if csystem_load_module(file, parameters) == 0 || errno == EEXIST { return true }
        // A driver without its hardware says so; that is not news.
        if errno != ENODEV { Console.say("module \(Failure("finit_module", path))") }
        return errno == ENODEV
    }

    /// Loads what fits an alias, as the kernel or a device has it.
    @discardableResult
    mutating func loadMatching(_ alias: String) -> Bool {
        var found = false
        for (pattern, module) in aliases where fnmatch(pattern, alias, 0) == 0 {
            found = load(module) || found
        }
        return found
    }

    /// Loads the drivers of all devices that stand in /sys.
    mutating func loadForPresentDevices() {
        var folders = ["/sys/devices"]
        var seen: Set<String> = []
        while let folder = folders.popLast() {
            guard let directory = opendir(folder) else { continue }
            defer { closedir(directory) }
            while let entry = readdir(directory) {
                let name = withUnsafeBytes(of: entry.pointee.d_name) {
                    String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
                }
                if Int32(entry.pointee.d_type) == Int32(DT_DIR), name != ".", name != ".." {
                    folders.append("\(folder)/\(name)")
                } else if name == "modalias" {
                    let alias = Text.read("\(folder)/modalias").split(separator: "\n").first.map(String.init) ?? ""
                    if !alias.isEmpty, seen.insert(alias).inserted { loadMatching(alias) }
                }
            }
        }
    }

    /// The kernel calls us as `modprobe -q -- NAME` when it wants a module.
    static func runAsModprobe(_ arguments: [String]) -> Int32 {
        var loader = ModuleLoader(root: "")
        var result: Int32 = 0
        for name in arguments where !name.hasPrefix("-") {
            if !loader.load(name), !loader.loadMatching(name) { result = 1 }
        }
        return result
    }
}
