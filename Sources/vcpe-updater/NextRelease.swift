import CSystem
import Digests
import Files
import Glibc
import Processes
import Slots
import Updates

/// A release in the inactive slot, mounted as it will be: what it makes of the box's own configuration is known before the box starts it.
struct NextRelease {
    let disk: BoxDisk
    let release: AvailableRelease
    private static let (device, folder) = ("vcpe-next", "/run/vcpe/next")
    /// Seconds; each plugin has ten of its own.
    private static let deadline = 180.0

    init(disk: BoxDisk, release: AvailableRelease) { (self.disk, self.release) = (disk, release) }

    /// Has the new release migrate and plan what the box follows.
    ///
    /// - Throws: what it has against it.
    func checkSite() throws {
        let slot = try disk.device(disk.otherSlot)
        let file = try File(slot)
        let layout = try VerityLayout(name: slot, bytes: release.rootBytes) { (block: Int) throws(UpdateFailure) in
            do { return try file.read(VerityLayout.blockSize, at: block * VerityLayout.blockSize) } catch {
                throw UpdateFailure(.storage, slot, "\(error)")
            }
        }
        let salt = Hex.text(layout.salt)
        let parameters =
            "1 \(slot) \(slot) 4096 4096 \(layout.dataBlocks) \(layout.dataBlocks + 1) sha256 \(release.rootHash.hex) \(salt)"
        csystem_unmap_device(Self.device)
        let minor = csystem_map_device(Self.device, "verity", parameters, UInt64(layout.dataBlocks * 8))
        guard minor >= 0 else { throw SystemError("device-mapper", slot, code: -minor) }
        defer { csystem_unmap_device(Self.device) }
        try FileSystem.makeDirectory(Self.folder)
        guard mount("/dev/dm-\(minor)", Self.folder, "erofs", UInt(MS_RDONLY), nil) == 0 else {
            throw SystemError("mount", "/dev/dm-\(minor)")
        }
        var mounted = [Self.folder]
        defer { for path in mounted.reversed() { umount2(path, Int32(MNT_DETACH)) } }
        for name in ["proc", "sys", "dev", "run", "data"] {
            let place = "\(Self.folder)/\(name)"
            guard mount("/\(name)", place, nil, UInt(MS_BIND), nil) == 0 else { throw SystemError("mount", place) }
            mounted.append(place)
        }
        // Whoever installs holds the lock: an engine that never ends must not keep it for ever.
        let result = try Command(
            "/proc/self/exe", ["within", Self.folder, "/usr/lib/vcpe/vcpe-engine", "check"]
        ).begin().finish(deadline: Self.deadline, limit: 1 << 20)
        guard result.status == 0 else {
            throw SlotFailure(
                "\(release.version) can't go on with this box's configuration: "
                    + result.errorText.split(separator: "\n").joined(separator: "; "))
        }
    }

    /// Makes this process a program of another root.
    static func become(_ program: String, _ arguments: [String], within folder: String) -> Int32 {
        guard chroot(folder) == 0, chdir("/") == 0 else {
            say("\(SystemError("chroot", folder))\n", to: 2)
            return 1
        }
        say("\(Command.become(program, arguments))\n", to: 2)
        return 1
    }
}
