import Digests
import Files
import Glibc
import Processes

/// The programs that write the image, from the image's own suite. They are unpacked in the cache
/// and run by their own dynamic loader, so that every host makes the same image.
public struct Tools: Sendable {
    /// Identifies exactly these packages.
    let key: String
    private let root: String
    private let packages: [UnpackedPackage]

    /// Changes with the layout of the folder.
    private static let version = 2
    /// The mount point of the folder of a third party's plugin in a sandbox.
    static let pluginsFolder = "usr/lib/vcpe/plugins"
    /// The mount point of the executable of the project's own plugins in a sandbox.
    static let boxProgram = "usr/lib/vcpe/vcpe-box"

    /// Unpacks the packages, or verifies what an earlier build has unpacked.
    ///
    /// - Throws: ``BuildFailure`` for a package whose paths lead through a link of another entry.
    init(_ packages: [UnpackedPackage], cache: Cache) throws {
        self.packages = packages
        key =
            SHA256.hash(
                Array((packages.map(\.package.digest.hex).sorted().joined() + "\(Self.version)").utf8)
            ).hex
        let folder = try cache.folder("tools")
        root = "\(folder)/\(key)"
        let tree = UnpackedTree(packages)
        if FileSystem.exists(root) {
            if try tree.matches(root) { return }
            // Damaged, or changed by another program. These files are run, so they are unpacked
            // again.
            try FileSystem.remove(root)
        }
        let temporary = try FileSystem.makeTemporaryDirectory(
            in: folder, prefix: FileSystem.temporaryPrefix + "tools")
        do {
            try tree.write(in: temporary)
            // A concurrent build may have finished first; its folder has the same contents.
            if rename(temporary, root) != 0 {
                guard errno == ENOTEMPTY || errno == EEXIST else { throw SystemError("rename", root) }
                try FileSystem.remove(temporary)
            }
        } catch {
            try? FileSystem.remove(temporary)
            throw error
        }
    }

    /// A command that runs one of the tools, such as `usr/bin/zstd`.
    func command(_ program: String, _ arguments: [String]) -> Command {
        var command = Command(
            "\(root)/usr/lib64/ld-linux-x86-64.so.2",
            ["--library-path", "\(root)/usr/lib/x86_64-linux-gnu", "\(root)/\(program)"] + arguments,
            environment: [
                "SOURCE_DATE_EPOCH": String(BuildTime.epoch), "MTOOLSRC": "/dev/null", "MTOOLS_SKIP_CHECK": "1",
                "MTOOLS_NO_VFAT": "0", "HOME": "/nonexistent",
            ])
        command.name = FileSystem.name(of: program)
        return command
    }

    /// A sandbox for a program that is not from these packages, but needs their libraries or
    /// interpreters.
    func sandbox(_ folders: [Sandbox.Folder]) -> Sandbox { Sandbox(tree: root, folders: folders) }

    /// The contents of a file of a tool's package.
    func file(_ path: String) throws -> [UInt8] {
        for package in packages {
            for item in package.entries where item.path == path {
                if case .file(let content) = item.entry.kind { return try content.read() }
            }
        }
        throw BuildFailure("no package of the lock's tools has /\(path)", hint: "vcpe lock NAME")
    }
}

/// The only time stamp that is written to an image.
enum BuildTime {
    /// Seconds since 1970: 2000-01-01. With the build's time, every block with a time stamp would
    /// change in every release, even if the contents do not. FAT has no time before 1980.
    static let epoch: Int64 = 946_684_800
}
