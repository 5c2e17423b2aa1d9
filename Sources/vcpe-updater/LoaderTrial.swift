import CSystem
import Digests
import Documents
import Files
import Glibc
import Slots

/// The boot loader that a release brings in its root, and so verified. It is started once as a spare copy; only one by which the box came up takes the place of the other.
///
/// One that falls may halt the firmware until somebody switches the box off and on (OVMF does): it is never tried unasked. The start after that comes by the old one.
enum LoaderTrial {
    /// Nothing there in an image that was built without upgrades.
    private static let own = "/usr/lib/vcpe/loader.efi"
    private static let noted = "\(UpgradableBox.state)/loader"
    private static let magic = "#### LoaderInfo: "

    private static var note: JSON? { try? JSON.parse(FileSystem.read(noted)) }

    /// Its name and version, as systemd-boot has them within.
    private static func name(_ bytes: [UInt8]) -> String? {
        let magic = Array(magic.utf8)
        let start = bytes.indices.dropLast(magic.count).first { place in
            bytes[place] == magic[0] && bytes[place..<place + magic.count].elementsEqual(magic)
        }
        return start.map {
            String(decoding: bytes[($0 + magic.count)...].prefix(60).prefix { $0 != 35 && $0 != 0 }, as: UTF8.self)
        }
        .map { $0.last == " " ? String($0.dropLast()) : $0 }
    }

    /// Names this start of the box.
    private static var boot: String {
        let bytes = (try? File("/proc/sys/kernel/random/boot_id").read(36, at: 0)) ?? []
        return String(decoding: bytes, as: UTF8.self)
    }

    /// What `status` says of it; nil for nothing.
    static func status(_ partition: BootPartition) -> String? {
        if let note {
            let name = note["name"]?.text ?? ""
            return note["boot"]?.text == boot
                ? "\(name) is tried with the next restart of the box: vcpectl reboot"
                : "\(name) was to be tried: whether this start came by it is looked at once the release is good"
        }
        guard let bytes = try? FileSystem.read(own), let there = try? partition.loader(), there != bytes,
            FirmwareVariables.areThere
        else { return nil }
        return
            "this release brings the boot loader \(name(bytes) ?? ""), and \(name(there) ?? "another one") is there: "
            + "vcpectl upgrade loader has it tried"
    }

    /// Has the firmware try this release's loader at the next start.
    static func begin(_ box: UpgradableBox) throws -> UpgradeAnswer {
        guard let bytes = try? FileSystem.read(own) else {
            throw SlotFailure("the image brings no boot loader", hint: "build it with the plugin upgrade")
        }
        guard bytes.starts(with: Array("MZ".utf8)), let name = name(bytes) else {
            throw SlotFailure("\(own) is no boot loader that this box knows: it stays what it was")
        }
        var partition = try BootPartition(box.boot)
        guard partition.entry(box.entry.number)?.isGood == true,
            partition.entries.allSatisfy({ $0.number <= box.entry.number || $0.isBad })
        else {
            throw SlotFailure(
                "a release is on trial, or waits for its first start: one thing after the other",
                hint: "vcpectl upgrade status")
        }
        if try partition.loader() == bytes {
            return UpgradeAnswer(
                lines: ["the boot loader is this release's already: \(name)"],
                json: ["loader": .text(name), "tried": false])
        }
        let variables = try FirmwareVariables()
        if variables.names(BootPartition.sparePath) {
            throw SlotFailure(
                "the firmware was set up to start \(BootPartition.sparePath), by which another loader would be tried")
        }
        let number = try variables.freeNumber()
        if let next = variables.next, next != number {
            throw SlotFailure("the firmware's next start is somebody else's already (BootNext)")
        }
        let device = try box.disk.device("esp")
        let storage = try box.boot
        try partition.setSpareLoader(bytes) { csystem_forget_buffers(storage.descriptor) }
        try FileSystem.replace(
            noted,
            with: JSON.object([
                "entry": .integer(number), "name": .text(name), "sha256": .text(SHA256.hash(bytes).hex),
                "boot": .text(boot),
            ]).line)
        do { try variables.tryOnce(BootPartition.sparePath, on: device, as: number) } catch {
            try FileSystem.remove(noted)
            throw error
        }
        return UpgradeAnswer(
            lines: [
                "\(name) is tried when the box restarts: vcpectl reboot",
                "should it fall, somebody may have to switch the box off and on; then the old one starts",
            ],
            json: ["loader": .text(name), "tried": true])
    }

    /// Takes a trial back that has not begun.
    ///
    /// - Returns: what was to be tried; nil for nothing.
    static func forget() throws -> String? {
        guard let note else { return nil }
        if let number = note["entry"]?.integer, let variables = try? FirmwareVariables() { variables.remove(number) }
        try FileSystem.remove(noted)
        return note["name"]?.text ?? ""
    }

    /// What came of it: asked at each start, once its release is good.
    static func settle(_ box: UpgradableBox) throws {
        guard let note, let number = note["entry"]?.integer, let name = note["name"]?.text,
            // The box has not restarted since.
            note["boot"]?.text != boot
        else { return }
        let lock = try BoxDisk.lock()
        defer { withExtendedLifetime(lock) {} }
        let variables = try FirmwareVariables()
        let storage = try box.boot
        var partition = try BootPartition(storage)
        let forgetBuffers: () -> Void = { csystem_forget_buffers(storage.descriptor) }
        func isIt(_ bytes: [UInt8]) -> Bool { SHA256.hash(bytes).hex == note["sha256"]?.text }
        // Power may have failed behind it.
        var isThere = isIt(try partition.loader())
        if !isThere, variables.current == number, isIt(try partition.spareLoader()) {
            try partition.adoptSpareLoader(forgetBuffers: forgetBuffers)
            isThere = true
        }
        if !isThere { try partition.setSpareLoader(try partition.loader(), forgetBuffers: forgetBuffers) }
        variables.remove(number)
        try Upgrader.note(
            name, isThere ? "good" : "fell back",
            more: isThere ? [:] : ["reason": "the firmware did not come up by it"])
        try FileSystem.remove(noted)
    }
}
