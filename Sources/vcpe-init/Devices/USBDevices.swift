import Glibc

/// USB devices, of which the image may admit some classes only: a keyboard in a stick's housing is none.
struct USBDevices {
    private static let folder = "/sys/bus/usb/devices"
    /// Classes of interfaces (USB-IF: defined class codes) as an image's definition names them.
    private static let numbers: [String: Set<UInt8>] = [
        "audio": [0x01], "communication": [0x02, 0x0A], "hid": [0x03], "printer": [0x07], "storage": [0x08],
        "video": [0x0E], "wireless": [0xE0], "vendor": [0xFF],
    ]
    private static let hub: UInt8 = 0x09

    private let admitted: Set<UInt8>

    /// - Parameter classes: the words of the image; nil when it admits all devices.
    init?(_ classes: String?) {
        guard let classes else { return nil }
        admitted = classes.split(separator: " ").reduce([Self.hub]) { $0.union(Self.numbers[String($1)] ?? []) }
    }

    /// How the kernel's `usbcore` must be loaded: no device works before it is looked at.
    static let parameters = "authorized_default=0"

    /// Has the kernel wait for a decision about each device, and decides about those that are there:
    /// the initramfs may have needed one.
    func begin() {
        for name in Text.list(Self.folder) {
            if name.hasPrefix("usb") { Text.write("0", to: "\(Self.folder)/\(name)/authorized_default") }
            if !name.contains(":") { decide("\(Self.folder)/\(name)") }
        }
    }

    /// Decides about a device that was plugged in.
    ///
    /// - Parameter folder: the device's in /sys.
    func decide(_ folder: String) {
        guard let classes = Self.classes(Text.bytes("\(folder)/descriptors", limit: 1 << 16)) else { return }
        let foreign = classes.subtracting(admitted).sorted()
        let isAdmitted = Text.read("\(folder)/authorized").first == "1"
        if foreign.isEmpty != isAdmitted { Text.write(foreign.isEmpty ? "1" : "0", to: "\(folder)/authorized") }
        if !foreign.isEmpty {
            let names = foreign.map { "0x" + String($0, radix: 16) }.joined(separator: ", ")
            Console.say("USB device \(folder.split(separator: "/").last ?? ""): not admitted, class \(names)")
        }
    }

    /// The classes of a device and of its interfaces; nil for no device.
    ///
    /// - Parameter descriptors: as the device has them, those of each configuration behind its own (USB
    ///   2.0, section 9.6).
    static func classes(_ descriptors: [UInt8]) -> Set<UInt8>? {
        guard descriptors.count >= 18, descriptors[1] == 1 else { return nil }
        var classes: Set<UInt8> = []
        var place = 0
        while place + 2 <= descriptors.count, descriptors[place] >= 2 {
            let (length, type) = (Int(descriptors[place]), descriptors[place + 1])
            guard place + length <= descriptors.count else { break }
            // Class 0 of a device says that its interfaces have classes; 0xEF that several belong together.
            if type == 1, length >= 18, ![0, 0xEF].contains(descriptors[place + 4]) { classes.insert(descriptors[place + 4]) }
            if type == 4, length >= 9 { classes.insert(descriptors[place + 5]) }
            place += length
        }
        return classes
    }
}
