import Files
import Glibc
import PluginKit
import Processes

/// Kernel modules and sysctls.
struct KernelDriver {
    let places: Places

    /// Loads a module; one that is built in or there already is fine.
    func load(_ module: String) throws {
        if FileSystem.exists("/sys/module/\(module)") { return }
        let result = try Command(places.modprobe, ["-q", "--", module]).run()
        // A built-in module without parameters has no folder in /sys, and modprobe says so by its exit code alone.
        if result.status != 0, !FileSystem.exists("/sys/module/\(module)") {
            Log.say("kernel module \(module): not loaded (\(places.modprobe) ended with \(result.status))")
        }
    }

    private func path(_ key: String) throws -> String {
        guard !key.split(separator: "/").contains(".."), !key.hasPrefix("/") else {
            throw EngineError("sysctl \(key): no key")
        }
        return "/proc/sys/\(key)"
    }

    /// What a sysctl is now; nil when there is none of that name, as before its link has its name.
    func value(of key: String) -> String? {
        guard let path = try? path(key), let bytes = try? File(path, O_RDONLY).read(256, at: 0) else { return nil }
        return String(decoding: bytes, as: UTF8.self).split(whereSeparator: \.isWhitespace).joined(separator: " ")
    }

    /// Sets a sysctl whose value is another.
    func set(_ key: String, _ value: String) throws {
        if self.value(of: key) == value.split(whereSeparator: \.isWhitespace).joined(separator: " ") { return }
        try File(try path(key), O_WRONLY).write(Array(value.utf8), at: 0)
    }

    /// Gives a sysctl back the value that it had before we set it, if it is still there.
    func putBack(_ key: String, _ value: String) throws {
        if self.value(of: key) != nil { try set(key, value) }
    }
}
