import Files
import PluginKit
import Processes

/// Kernel modules: loaded when they are wanted, and never taken out again.
struct KernelModuleDriver {
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
}
