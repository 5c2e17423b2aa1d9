import Digests
import Files
import Glibc
import Processes

/// The programs that shape bytes, from the image's own suite: unpacked in the cache and run by their own loader, so that
/// every host makes the same image.
public struct Tools: Sendable {
    /// Names these packages and no others.
    let key: String
    private let root: String
    private let packages: [UnpackedPackage]

    private static let version = 1

    init(_ packages: [UnpackedPackage], cache: Cache) throws {
        self.packages = packages
        key =
            SHA256.hash(
                Array((packages.map(\.package.digest.hex).sorted().joined() + "\(Self.version)").utf8)
            ).hex
        root = "\(try cache.folder("tools"))/\(key)"
        if FileSystem.exists(root) { return }
        let temporary = try FileSystem.makeTemporaryDirectory(
            in: try cache.folder("tools"), prefix: FileSystem.temporaryPrefix + "tools")
        do {
            for name in ["bin", "sbin", "lib", "lib64"] {
                try FileSystem.makeDirectory("\(temporary)/usr/\(name)")
                guard symlink("usr/\(name)", "\(temporary)/\(name)") == 0 else {
                    throw SystemError("symlink", "\(temporary)/\(name)")
                }
            }
            for package in packages { for item in package.entries { try Self.place(item, in: temporary) } }
            // Another build may have been faster: its folder is as good as ours.
            if rename(temporary, root) != 0 {
                guard errno == ENOTEMPTY || errno == EEXIST else { throw SystemError("rename", root) }
                try FileSystem.remove(temporary)
            }
        } catch {
            try? FileSystem.remove(temporary)
            throw error
        }
    }

    private static func place(_ item: UnpackedPackage.Entry, in root: String) throws {
        let wanted = [
            "usr/bin/", "usr/sbin/", "usr/lib/", "usr/lib64/", "bin/", "sbin/", "lib/", "lib64/", "etc/mtools",
        ]
        let unwanted = ["usr/lib/modules/", "usr/lib/firmware/"]
        guard wanted.contains(where: { item.path.hasPrefix($0) }),
            !unwanted.contains(where: { item.path.hasPrefix($0) })
        else { return }
        let path = "\(root)/\(item.path)"
        if let parent = FileSystem.parent(of: path) { try FileSystem.makeDirectory(parent) }
        switch item.entry.kind {
        case .directory: try FileSystem.makeDirectory(path)
        case .file(let content):
            let file = try File(path, O_WRONLY | O_CREAT | O_TRUNC, mode: mode_t(item.entry.mode & 0o777))
            try file.write(try content.read(), at: 0)
        case .symbolicLink(let target):
            guard symlink(target, path) == 0 || errno == EEXIST else { throw SystemError("symlink", path) }
        case .hardLink(let target):
            guard link("\(root)/\(target)", path) == 0 || errno == EEXIST else { throw SystemError("link", path) }
        }
    }

    /// A command that runs one of the tools, such as `usr/bin/zstd`.
    func command(_ program: String, _ arguments: [String]) -> Command {
        Command(
            "\(root)/usr/lib64/ld-linux-x86-64.so.2",
            ["--library-path", "\(root)/usr/lib/x86_64-linux-gnu", "\(root)/\(program)"] + arguments,
            environment: [
                "SOURCE_DATE_EPOCH": String(BuildTime.epoch), "MTOOLSRC": "/dev/null", "MTOOLS_SKIP_CHECK": "1",
                "MTOOLS_NO_VFAT": "0", "HOME": "/nonexistent",
            ])
    }

    /// What runs a program that is none of these packages' by their loader and libraries, under another name.
    func launcher(_ program: String, as name: String) -> [String] {
        [
            "\(root)/usr/lib64/ld-linux-x86-64.so.2", "--library-path", "\(root)/usr/lib/x86_64-linux-gnu", "--argv0",
            name,
            program,
        ]
    }

    /// What runs a program that lies in a folder of the host as it will run in an image: with the packages' tree as its root.
    ///
    /// - Parameter folder: stands at `place` of that root.
    func launcher(_ program: String, in folder: String, at place: String) throws -> [String] {
        for name in [place, "dev", "tmp"] { try FileSystem.makeDirectory("\(root)/\(name)") }
        // Without privilege a user namespace is needed too; in some containers only the other way is open.
        let isRoot = geteuid() == 0
        let script = """
            mount --bind "$1" "$0/$2" && mount --rbind /dev "$0/dev" && exec chroot "$0" "/$2/$3" "$4"
            """
        return ["unshare"] + (isRoot ? [] : ["--map-root-user"]) + [
            "--mount", "--net", "--ipc", "--", "sh", "-c", script,
        ]
            + [root, folder, place, program]
    }

    /// The contents of a file that a tool's package brings.
    func file(_ path: String) throws -> [UInt8] {
        for package in packages {
            for item in package.entries where item.path == path {
                if case .file(let content) = item.entry.kind { return try content.read() }
            }
        }
        throw BuildFailure("no package of the lock's tools brings /\(path)", hint: "vcpe lock NAME")
    }
}

/// The one time that is written anywhere in an image.
enum BuildTime {
    /// Seconds since 1970: 2000-01-01. What changes in an image shall be its contents alone, or every block that holds a
    /// time would change from release to release; FAT knows nothing before 1980.
    static let epoch: Int64 = 946_684_800
}
