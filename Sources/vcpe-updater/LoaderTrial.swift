import Digests
import Documents
import Files
import Glibc
import Slots

/// The boot loader that a release brings in its root, and so verified. It is started once as a spare copy; only one by which the box came up takes the place of the other.
///
/// A loader that hangs is ended by the firmware's own watchdog, after five minutes (UEFI 2.10, 3.1.2); the start after that comes by the old one.
enum LoaderTrial {
    /// Nothing there in an image that was built without upgrades.
    private static let own = "/usr/lib/vcpe/loader.efi"
    private static let noted = "\(Box.state)/loader"
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

    /// What `status` says of it; nil for nothing.
    static func status(_ partition: BootPartition) -> String? {
        guard let bytes = try? FileSystem.read(own), let there = try? partition.loader(), there != bytes else {
            return nil
        }
        let names = "\(name(bytes) ?? "another") in place of \(name(there) ?? "the one that is there")"
        return note == nil
            ? "this release brings another boot loader, \(names): vcpectl upgrade loader"
            : "a boot loader is tried with the next restart of the box, \(names): vcpectl reboot"
    }

    /// Has the firmware try this release's loader at the next start.
    static func begin(_ box: Box) throws -> Answer {
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
        let there = try partition.loader()
        if there == bytes {
            return Answer(
                lines: ["the boot loader is this release's already: \(name)"],
                json: ["loader": .text(name), "tried": false])
        }
        let variables = try FirmwareVariables()
        if variables.isCurrent(BootPartition.sparePath), note == nil {
            throw SlotFailure(
                "the firmware was set up to start \(BootPartition.sparePath), by which another loader would be tried")
        }
        try partition.setSpareLoader(bytes)
        let number = try variables.tryOnce(BootPartition.sparePath, on: try box.disk.device("esp"))
        do {
            try FileSystem.replace(
                noted,
                with: JSON.object([
                    "entry": .integer(number), "name": .text(name), "sha256": .text(SHA256.hash(bytes).hex),
                ]).line)
        } catch {
            variables.remove(number)
            throw error
        }
        return Answer(
            lines: ["\(name) is tried when the box restarts: vcpectl reboot"],
            json: ["loader": .text(name), "tried": true])
    }

    /// What came of it: asked at each start whose release is good.
    static func settle(_ box: Box) throws {
        guard let note, let number = note["entry"]?.integer, let name = note["name"]?.text else { return }
        let lock = try BoxDisk.lock()
        defer { withExtendedLifetime(lock) {} }
        let variables = try FirmwareVariables()
        // The box has not restarted since.
        if variables.next == number { return }
        var partition = try BootPartition(box.boot)
        func digest(_ bytes: [UInt8]) -> String { SHA256.hash(bytes).hex }
        // Power may have failed behind it.
        var isThere = try digest(partition.loader()) == note["sha256"]?.text
        if !isThere, variables.current == number, try digest(partition.spareLoader()) == note["sha256"]?.text {
            try partition.adoptSpareLoader()
            isThere = true
        }
        if !isThere { try partition.setSpareLoader(try partition.loader()) }
        variables.remove(number)
        try Upgrade.note(
            name, isThere ? "good" : "fell back", more: isThere ? [:] : ["reason": "the firmware did not come up by it"]
        )
        try FileSystem.remove(noted)
    }
}
