import Files
import PluginKit
import Processes

extension KernelModuleResource: DrivenResource { typealias ItsDriver = KernelModuleDriver }

/// Loads kernel modules, and never unloads them.
struct KernelModuleDriver: Driver {
    static let watch = DriftWatch.none

    private let modprobe: String

    init(_ context: DriverContext) { modprobe = context.places.modprobe }

    func steps(_ change: KindChange<KernelModuleResource>) -> [Step] {
        [Step(.modules) { for module in change.added { try load(module.name) } }]
    }

    /// Seconds for one call of modprobe.
    private static let deadline = 30.0

    /// Loads a module that is neither built in nor loaded.
    private func load(_ module: String) throws {
        if FileSystem.exists("/sys/module/\(module)") { return }
        let result = try Command(modprobe, ["-q", "--", module]).begin().finish(deadline: Self.deadline, limit: 4096)
        // A built-in module without parameters has no folder in /sys; modprobe accepts it.
        if result.status != 0, !FileSystem.exists("/sys/module/\(module)") {
            Log.say("kernel module \(module): not loaded (\(modprobe) exited with \(result.status))")
        }
    }
}
