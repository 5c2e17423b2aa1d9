import Glibc

/// USB devices, of which the image may admit some classes only: a keyboard in a stick's housing is
/// none.
struct USBDevices {
    private static let folder = "/sys/bus/usb/devices"
    private let admitted: Set<UInt8>
    /// Where the box's own disk is in /sys: what lies on its way stays.
    private let ownDisk: String

    /// - Parameters:
    ///   - classes: numbers of classes of interfaces, as the builder wrote them; nil when the image
    ///     admits all devices.
    ///   - disk: the box's own, such as `/dev/sda`.
    init?(_ classes: String?, disk: String?) {
        guard let classes else { return nil }
        let name = disk?.split(separator: "/").last.map(String.init) ?? ""
        ownDisk = name.isEmpty ? "" : Self.real("/sys/class/block/\(name)")
        admitted = Set(classes.split(separator: " ").compactMap { UInt8($0) })
    }

    /// How the kernel's `usbcore` must be loaded: no device works before it is looked at.
    static let parameters = "authorized_default=0"

    /// Has the kernel wait for a decision about each device, and decides about those that are
    /// there: the initramfs may have needed one.
    func begin() {
        // For hubs of drivers that come later.
        Text.write("0", to: "/sys/module/usbcore/parameters/authorized_default")
        for name in Text.list(Self.folder) {
            if !name.contains(":") { decide("\(Self.folder)/\(name)") }
        }
    }

    /// Decides about a device that was plugged in.
    ///
    /// - Parameter folder: the device's in /sys.
    func decide(_ folder: String) {
        if folder.split(separator: "/").last?.hasPrefix("usb") == true {
            Text.write("0", to: "\(folder)/authorized_default")
            return
        }
        if !ownDisk.isEmpty, ownDisk.hasPrefix(Self.real(folder) + "/") { return }
        // What has no descriptors that can be read is of no class that could be admitted.
        let classes = Self.classes(Text.bytes("\(folder)/descriptors", limit: 1 << 16))
        let foreign = classes.map { $0.subtracting(admitted).sorted() } ?? [0]
        let isAdmitted = Text.read("\(folder)/authorized").first == "1"
        if foreign.isEmpty != isAdmitted { Text.write(foreign.isEmpty ? "1" : "0", to: "\(folder)/authorized") }
        if !foreign.isEmpty {
            let names = foreign.map { "0x" + String($0, radix: 16) }.joined(separator: ", ")
            Console.say("USB device \(folder.split(separator: "/").last ?? ""): not admitted, class \(names)")
        }
    }

    private static func real(_ path: String) -> String {
        guard let real = realpath(path, nil) else { return path }
        defer { free(real) }
        return String(cString: real)
    }

    /// The classes of a device and of its interfaces; nil for what is not whole, or has no
    /// interface: a device may say anything of itself.
    ///
    /// - Parameter descriptors: as the device has them, those of each configuration behind its own
    ///   (USB 2.0, section 9.6).
    static func classes(_ descriptors: [UInt8]) -> Set<UInt8>? {
        // The device's own descriptor has 18 bytes, whatever it says (the kernel gives so many).
        guard descriptors.count > 18, descriptors[1] == 1 else { return nil }
        // Class 0 of a device says that its interfaces have classes; 0xEF that several belong
        // together.
        var classes = Set([descriptors[4]].filter { ![0, 0xEF].contains($0) })
        var (place, hasInterface) = (18, false)
        while place < descriptors.count {
            guard place + 2 <= descriptors.count else { return nil }
            let (length, type) = (Int(descriptors[place]), descriptors[place + 1])
            guard length >= 2, place + length <= descriptors.count else { return nil }
            if type == 4 {
                guard length >= 9 else { return nil }
                classes.insert(descriptors[place + 5])
                hasInterface = true
            }
            place += length
        }
        guard hasInterface else { return nil }
        return classes
    }
}
