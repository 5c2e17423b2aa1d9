import Disks
import Files
import Glibc
import Slots

/// The firmware's boot entries (UEFI 2.10, chapter 3), as the kernel shows its variables.
struct FirmwareVariables: ~Copyable {
    private static let folder = "/sys/firmware/efi/efivars"
    private static let (firmware, loader) = (
        "8be4df61-93ca-11d2-aa0d-00e098032b8c", "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
    )
    /// Kept without power, seen by the firmware and by us.
    private static let attributes: [UInt8] = [7, 0, 0, 0]
    private let isMounted: Bool

    /// The kernel was started by a firmware that has some.
    static var areThere: Bool { FileSystem.exists(folder) }

    /// - Throws: ``SlotFailure`` where there are none.
    init() throws(SlotFailure) {
        isMounted = mount("efivarfs", Self.folder, "efivarfs", UInt(MS_NOSUID | MS_NODEV | MS_NOEXEC), nil) == 0
        guard FileSystem.exists("\(Self.folder)/BootCurrent-\(Self.firmware)") else {
            throw SlotFailure(
                "the firmware shows no boot entries, so no loader can be tried: the one that is there stays")
        }
    }

    deinit { if isMounted { umount2(Self.folder, 0) } }

    private func path(_ name: String) -> String { "\(Self.folder)/\(name)-\(Self.firmware)" }

    private func read(_ path: String) -> [UInt8]? {
        guard let file = try? File(path), let bytes = try? file.read(65_536, at: 0), bytes.count > 4 else { return nil }
        return Array(bytes.dropFirst(4))
    }

    private func write(_ bytes: [UInt8], to name: String) throws(SlotFailure) {
        do {
            // It must come in one write.
            try File(path(name), O_WRONLY | O_CREAT).write(Self.attributes + bytes, at: 0)
        } catch {
            throw SlotFailure("the firmware takes no \(name), so no loader can be tried: \(error)")
        }
    }

    private func number(_ name: String) -> Int? {
        read(path(name)).flatMap { $0.count == 2 ? Int($0[0]) | Int($0[1]) << 8 : nil }
    }

    /// The entry that this start came by.
    var current: Int? { number("BootCurrent") }
    /// The one that the next start comes by, once; nil where nobody asks for that.
    var next: Int? { number("BootNext") }

    private static func name(_ number: Int) -> String {
        let digits = String(number, radix: 16, uppercase: true)
        return "Boot" + String(repeating: "0", count: max(0, 4 - digits.count)) + digits
    }

    private static func text(_ text: String) -> [UInt8] {
        (Array(text.utf16) + [0]).flatMap { [UInt8(truncatingIfNeeded: $0), UInt8($0 >> 8)] }
    }

    /// Whether an entry other than ours names a file, and so may start it unasked.
    func names(_ file: String) -> Bool {
        let wanted = Self.text(file.lowercased())
        let entries = ((try? FileSystem.list(Self.folder)) ?? []).filter {
            $0.hasPrefix("Boot") && $0.hasSuffix("-\(Self.firmware)") && $0.count == 9 + Self.firmware.count
        }
        return entries.contains { name in
            guard let entry = read("\(Self.folder)/\(name)"), !Self.isOurs(entry) else { return false }
            // Letters of ASCII, in two bytes each.
            let bytes = entry.map { (65...90).contains($0) ? $0 + 32 : $0 }
            return bytes.indices.contains { bytes[$0...].starts(with: wanted) }
        }
    }

    private static func isOurs(_ entry: [UInt8]) -> Bool { entry.dropFirst(6).starts(with: text(description)) }

    private static let description = "vcpe: a loader on trial"

    /// A number for ``tryOnce(_:on:as:)`` that no entry has but ours.
    func freeNumber() throws(SlotFailure) -> Int {
        let free = (0x5600...0x560F).first { number in read(path(Self.name(number))).map(Self.isOurs) ?? true }
        guard let free else { throw SlotFailure("the firmware has no room for another boot entry") }
        return free
    }

    /// Has the next start, and only that, come by a file of the partition that this one came by. Nothing is changed of what the firmware starts else.
    ///
    /// - Parameters:
    ///   - device: that partition's, such as `/dev/vda1`.
    ///   - number: of the entry, which ``remove(_:)`` takes away again.
    func tryOnce(_ file: String, on device: String, as number: Int) throws(SlotFailure) {
        let name = FileSystem.name(of: device)
        func value(_ key: String) -> Int? {
            let text = (try? FileSystem.read("/sys/class/block/\(name)/\(key)")).map {
                String(decoding: $0, as: UTF8.self)
            }
            return text.flatMap { Int($0.prefix { $0.isNumber }) }
        }
        let units = (read("\(Self.folder)/LoaderDevicePartUUID-\(Self.loader)") ?? []).filter { $0 != 0 }
        guard let partition = value("partition"), let start = value("start"), let size = value("size"),
            let guid = GUID(String(decoding: units, as: UTF8.self).lowercased())
        else {
            throw SlotFailure("the loader does not say which partition it was started from, so no other can be tried")
        }
        func bytes(_ value: Int, _ count: Int) -> [UInt8] {
            (0..<count).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
        }
        // A partition of a GPT, and a file on it.
        let path = Self.text(file)
        var places: [UInt8] = [4, 1]
        places += bytes(42, 2) + bytes(partition, 4) + bytes(start, 8) + bytes(size, 8)
        places += guid.bytes
        places += [2, 2, 4, 4]
        places += bytes(4 + path.count, 2)
        places += path
        places += [0x7F, 0xFF, 4, 0]
        var entry = bytes(1, 4) + bytes(places.count, 2)
        entry += Self.text(Self.description)
        entry += places
        do {
            try write(entry, to: Self.name(number))
            try write(bytes(number, 2), to: "BootNext")
        } catch {
            remove(number)
            throw error
        }
    }

    /// Forgets an entry, and that it is wanted next.
    func remove(_ number: Int) {
        if next == number { unlink(path("BootNext")) }
        unlink(path(Self.name(number)))
    }
}
