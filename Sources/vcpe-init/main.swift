import CSystem
import Glibc

// One static executable with four names: the initramfs's /init, the box's /sbin/init, the kernel's module loader, and
// the commands that ask PID 1 to stop.

let arguments = CommandLine.arguments
let calledAs = arguments.first.map { $0.split(separator: "/").last.map(String.init) ?? $0 } ?? "init"

switch calledAs {
case "modprobe": exit(ModuleLoader.runAsModprobe(Array(arguments.dropFirst())))
case "preload":
    var loader = ModuleLoader(root: "")
    for module in Text.lines("/usr/lib/vcpe/modules-load") { loader.load(String(module)) }
    exit(0)
case "verify": exit(VerifiedRoot.readAll() ? 0 : 1)
case "coldplug":
    var loader = ModuleLoader(root: "", parameters: arguments.dropFirst())
    loader.loadForPresentDevices()
    exit(0)
case "poweroff", "reboot": exit(StopRequest.send(powerOff: calledAs == "poweroff"))
default:
    guard getpid() == 1 else {
        Console.say("vcpe-init is PID 1's program; called as modprobe, poweroff or reboot it does that")
        exit(64)
    }
    if access("/etc/vcpe-modules", F_OK) == 0 {
        var start = InitramfsBoot()
        start.run()
    } else {
        var system = Supervisor()
        system.run()
    }
}
