import CSystem
import Clocks
import Glibc

/// Devices that appear, and their drivers. Where the image has no hotplug, the kernel takes no
/// module any more once the drivers of the present devices are loaded.
struct Hotplug {
    /// A socket with the kernel's device events (netlink(7), NETLINK_KOBJECT_UEVENT); -1 without
    /// one.
    let events = csystem_device_events()
    /// The process that loads the drivers of all present devices; 0 for none.
    private(set) var coldplug: pid_t = 0
    private let usb: USBDevices?
    private var mustCloseModules: Bool
    private var areModulesClosed = false
    /// Since when no device has appeared, in milliseconds of the kernel's time; nil before the
    /// drivers of the present devices are loaded.
    private var quietSince: Int?
    /// USB devices appear some seconds after their controller's driver.
    private static let quiet = 10_000
    private static let program = "/usr/lib/vcpe/vcpe-init"

    /// - Parameters:
    ///   - image: the words of the image.
    ///   - disk: the box's own.
    init(image: [String: String], disk: String?) {
        mustCloseModules = image["hotplug"] == "no"
        usb = USBDevices(image["usb-classes"], disk: disk)
    }

    /// Has the drivers of all present devices loaded.
    mutating func start() {
        usb?.begin()
        let parameters = usb == nil ? [] : ["usbcore", USBDevices.parameters]
        coldplug = (try? Child.start(Self.program, parameters, name: "coldplug")) ?? 0
    }

    /// Notes that ``coldplug`` has ended.
    mutating func ended(_ status: Int32) {
        coldplug = 0
        if status == 0 { quietSince = Uptime.milliseconds }
    }

    /// Reads device events, and has drivers loaded for what was added.
    ///
    /// - Returns: true when an input device was added.
    mutating func readEvents() -> Bool {
        var buffer = [UInt8](repeating: 0, count: 1 << 14)
        var (aliases, hasInput) = ([String](), false)
        while case let count = read(events, &buffer, buffer.count), count > 0 {
            let fields = buffer[..<count].split(separator: 0).map { String(decoding: $0, as: UTF8.self) }
            guard fields.first?.hasPrefix("add@") == true else { continue }
            func value(_ key: String) -> Substring? {
                fields.first { $0.hasPrefix("\(key)=") }?.dropFirst(key.count + 1)
            }
            if let alias = value("MODALIAS") { aliases.append(String(alias)) }
            if value("SUBSYSTEM") == "input" { hasInput = true }
            if value("DEVTYPE") == "usb_device", let path = value("DEVPATH") { usb?.decide("/sys\(path)") }
        }
        // Some events were lost: all devices are inspected once more.
        if errno == ENOBUFS, coldplug == 0 { start() }
        if aliases.isEmpty { return hasInput }
        if quietSince != nil { quietSince = Uptime.milliseconds }
        if !areModulesClosed { _ = try? Child.start(Self.program, ["-q", "--"] + aliases, name: "modprobe") }
        return hasInput
    }

    /// When modules are to be closed, if the box is in order by then; nil for never.
    var due: Int? { mustCloseModules ? quietSince.map { $0 + Self.quiet } : nil }

    /// Closes the kernel to modules when that is due.
    mutating func step() {
        guard let due, Uptime.milliseconds >= due else { return }
        mustCloseModules = false
        areModulesClosed = Text.write("1", to: "/proc/sys/kernel/modules_disabled")
        Console.say(areModulesClosed ? "kernel modules are closed" : "\(Failure("write", "modules_disabled"))")
    }
}
