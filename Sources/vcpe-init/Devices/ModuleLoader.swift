import CSystem
import Glibc

/// Loads kernel modules by what the builder wrote into modules.dep, modules.alias and modules.softdep.
struct ModuleLoader {
    private let folder: String
    private var paths: [String: (path: String, needs: [String])] = [:]
    private var aliases: [(pattern: [UInt8], module: String)] = []
    private var soft: [String: [String]] = [:]
    private var tried: Set<String> = []

    init(root: String) {
        var system = utsname()
        uname(&system)
        let release = withUnsafeBytes(of: system.release) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        folder = "\(root)/usr/lib/modules/\(release)"
        for line in Text.lines("\(folder)/modules.dep") {
            guard let colon = line.firstIndex(of: ":") else { continue }
            let path = String(line[..<colon])
            paths[Self.name(path)] = (path, line[line.index(after: colon)...].split(separator: " ").map(String.init))
        }
        for line in Text.lines("\(folder)/modules.alias") {
            let words = line.split(separator: " ")
            if words.count == 3 { aliases.append((Array(words[1].utf8), String(words[2]))) }
        }
        for line in Text.lines("\(folder)/modules.softdep") {
            let words = line.split(separator: " ").map(String.init)
            if words.count > 3 { soft[words[1]] = Array(words[3...]) }
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
        for path in module.needs.reversed() { insert(path, "") }
        return insert(module.path, parameters)
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
        let text = Array(alias.utf8)
        var found = false
        for (pattern, module) in aliases where Wildcard.matches(text, pattern) {
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

/// Shell patterns as device aliases have them: `*`, `?` and `[…]`.
enum Wildcard {
    static func matches(_ text: [UInt8], _ pattern: [UInt8]) -> Bool {
        var (t, p) = (0, 0)
        var star: (t: Int, p: Int)?
        while t < text.count {
            if p < pattern.count, pattern[p] == UInt8(ascii: "*") {
                star = (t, p)
                p += 1
                continue
            }
            if p < pattern.count, let next = step(text[t], pattern, p) {
                (t, p) = (t + 1, next)
                continue
            }
            guard let last = star else { return false }
            star = (last.t + 1, last.p)
            (t, p) = (last.t + 1, last.p + 1)
        }
        while p < pattern.count, pattern[p] == UInt8(ascii: "*") { p += 1 }
        return p == pattern.count
    }

    /// Where the pattern goes on after taking one byte at `p`; nil when the byte doesn't fit.
    private static func step(_ byte: UInt8, _ pattern: [UInt8], _ p: Int) -> Int? {
        switch pattern[p] {
        case UInt8(ascii: "?"): return p + 1
        case UInt8(ascii: "["):
            var i = p + 1
            var fits = false
            while i < pattern.count, pattern[i] != UInt8(ascii: "]") {
                if i + 2 < pattern.count, pattern[i + 1] == UInt8(ascii: "-"), pattern[i + 2] != UInt8(ascii: "]") {
                    fits = fits || (pattern[i] <= byte && byte <= pattern[i + 2])
                    i += 3
                } else {
                    fits = fits || pattern[i] == byte
                    i += 1
                }
            }
            return fits && i < pattern.count ? i + 1 : nil
        default: return pattern[p] == byte ? p + 1 : nil
        }
    }
}
