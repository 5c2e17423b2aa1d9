import Disks
import Files

/// Writes a ``Tree`` as a cpio archive in the format that the kernel unpacks at boot ("newc",
/// kernel: `Documentation/driver-api/early-userspace/buffer-format.rst`).
public enum Initramfs {
    /// The archive, uncompressed; empty for an empty tree: every entry owned by root, all times
    /// `time` (seconds since 1970).
    public static func archive(_ tree: Tree, time: Int64) throws -> [UInt8] {
        if tree.entries.isEmpty { return [] }
        var archive: [UInt8] = []
        for (number, path) in tree.sortedPaths.enumerated() {
            guard let entry = tree[path] else { continue }
            let type: UInt32
            let content: [UInt8]
            switch entry.kind {
            case .directory: (type, content) = (0o040000, [])
            case .symbolicLink(let target): (type, content) = (0o120000, Array(target.utf8))
            case .file(let file): (type, content) = (0o100000, try file.read())
            case .hardLink(let target):
                guard case .file(let file)? = tree[target]?.kind else { continue }
                (type, content) = (0o100000, try file.read())
            }
            put(path, inode: UInt32(number + 1), mode: type | entry.mode, time: time, content, into: &archive)
        }
        put("TRAILER!!!", inode: 0, mode: 0, time: 0, [], into: &archive)
        return archive
    }

    private static func put(
        _ path: String, inode: UInt32, mode: UInt32, time: Int64, _ content: [UInt8], into archive: inout [UInt8]
    ) {
        let name = Array(path.utf8) + [0]
        let fields: [UInt32] = [
            inode, mode, 0, 0, 1, UInt32(clamping: time), UInt32(content.count), 0, 0, 0, 0, UInt32(name.count), 0,
        ]
        archive += Array("070701".utf8)
        for field in fields {
            let hex = String(field, radix: 16, uppercase: true)
            archive += Array((String(repeating: "0", count: 8 - hex.count) + hex).utf8)
        }
        for part in [name, content] {
            archive += part
            archive += [UInt8](repeating: 0, count: archive.count.rounded(upTo: 4) - archive.count)
        }
    }
}
