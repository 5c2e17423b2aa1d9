import CSystem
import Glibc

/// A root file system that dm-verity checks, block by block, against the hash on the kernel's command line.
struct VerifiedRoot {
    /// Blocks of 4096 bytes.
    let dataBlocks: UInt64
    let salt: String
    let hash: String

    /// Reads `vcpe.verity=BLOCKS,SALT,HASH`.
    init() throws(Failure) {
        let parts = (CommandLineOption.value("vcpe.verity") ?? "").split(separator: ",").map(String.init)
        guard parts.count == 3, let blocks = UInt64(parts[0]), blocks > 0, blocks < 1 << 40,
            parts[1...].allSatisfy({ $0.count == 64 && $0.allSatisfy(\.isHexDigit) })
        else { throw Failure("the kernel's command line has no vcpe.verity=BLOCKS,SALT,HASH: no root can be trusted") }
        (dataBlocks, salt, hash) = (blocks, parts[1], parts[2])
    }

    /// A partition says that it holds this root: the superblock of its tree is named by the first half of the hash. It proves nothing, but the
    /// kernel complains of corruption where a tree is another release's.
    func isNamed(on device: String) -> Bool {
        let file = Glibc.open(device, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return false }
        defer { close(file) }
        let name = Bytes.read(file, 16, at: Int(dataBlocks) * 4096 + 16)
        return name.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined() == hash.prefix(32)
    }

    /// Opens the root on a partition.
    ///
    /// First without restart, reading the first blocks: a partition that holds another release, or nothing, must not
    /// restart the box. Then again so that a corrupt block found later restarts it: what was read is never run on.
    ///
    /// - Returns: the device's path.
    func open(on device: String) throws(Failure) -> String {
        let probe = try map(device, restart: false)
        let file = Glibc.open(probe, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { throw Failure("open", probe) }
        let whole = Bytes.read(file, 8192, at: 0).count == 8192
        let code = errno
        close(file)
        let removed = csystem_unmap_device("root")
        guard whole else { throw Failure("read", "\(device) does not verify", code: code) }
        guard removed == 0 else { throw Failure("DM_DEV_REMOVE", device, code: -removed) }
        return try map(device, restart: true)
    }

    private func map(_ device: String, restart: Bool) throws(Failure) -> String {
        let parameters =
            "1 \(device) \(device) 4096 4096 \(dataBlocks) \(dataBlocks + 1) sha256 \(hash) \(salt)"
            + (restart ? " 1 restart_on_corruption" : "")
        let minor = csystem_map_device("root", "verity", parameters, dataBlocks * 8)
        guard minor >= 0 else { throw Failure("device-mapper", device, code: -minor) }
        return "/dev/dm-\(minor)"
    }

    /// Reads every block of the root that runs. One that is not what was signed restarts the box then and there.
    static func readAll() -> Bool {
        guard let root = try? VerifiedRoot() else { return false }
        // What the box is for goes before.
        _ = nice(10)
        let file = Glibc.open("/dev/dm-0", O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return false }
        defer { close(file) }
        let (size, piece) = (Int(root.dataBlocks) * 4096, 1 << 20)
        for offset in stride(from: 0, to: size, by: piece) {
            let count = min(piece, size - offset)
            guard Bytes.read(file, count, at: offset).count == count else { return false }
            // What nobody needs again must not push out what somebody does.
            posix_fadvise(file, off_t(offset), off_t(count), POSIX_FADV_DONTNEED)
        }
        return true
    }
}
