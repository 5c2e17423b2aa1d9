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

    /// Sets a sysctl whose value is another.
    func set(_ key: String, _ value: String) throws {
        guard !key.split(separator: "/").contains(".."), !key.hasPrefix("/") else {
            throw EngineError("sysctl \(key): no key")
        }
        let path = "/proc/sys/\(key)"
        let file = try File(path, O_RDWR)
        let present = String(decoding: try file.read(256, at: 0), as: UTF8.self)
        if present.split(whereSeparator: \.isWhitespace) == value.split(whereSeparator: \.isWhitespace) { return }
        try file.write(Array(value.utf8), at: 0)
    }
}
