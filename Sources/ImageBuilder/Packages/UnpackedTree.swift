import Digests
import Files
import Glibc

/// The programs and libraries of packages as a folder on the host. A package's paths and links
/// can't cause writes outside of that folder.
struct UnpackedTree {
    private enum Item {
        case directory
        case file(Content, mode: mode_t)
        case link(target: String)
        case hardLink(path: String)
    }

    private struct Planned {
        var path: String
        var item: Item
        var package: String
    }

    private var items: [Planned] = []

    init(_ packages: [UnpackedPackage]) {
        // Part of every tree, since a sandbox mounts over existing folders.
        for path in ["usr/bin", "usr/sbin", "usr/lib", "usr/lib64", Tools.pluginsFolder] {
            items.append(Planned(path: path, item: .directory, package: "vcpe"))
        }
        items.append(Planned(path: Tools.boxProgram, item: .file(Content([UInt8]()), mode: 0o644), package: "vcpe"))
        for package in packages {
            for entry in package.entries {
                guard let path = Self.treePath(entry.path) else { continue }
                let item: Item
                switch entry.entry.kind {
                case .directory: item = .directory
                // No setuid bit, and no write permission for others.
                case .file(let content): item = .file(content, mode: mode_t(entry.entry.mode & 0o755))
                case .symbolicLink(let target): item = .link(target: target)
                case .hardLink(let other):
                    guard let target = Self.treePath(other) else { continue }
                    item = .hardLink(path: target)
                }
                items.append(Planned(path: path, item: item, package: package.package.name))
            }
        }
        for name in ["bin", "sbin", "lib", "lib64"] {
            items.append(Planned(path: name, item: .link(target: "usr/\(name)"), package: "vcpe"))
        }
    }

    /// The path of a package's entry in the tree, with /bin and similar merged into /usr; nil for
    /// an entry that no program needs.
    private static func treePath(_ path: String) -> String? {
        var path = path
        for name in ["bin/", "sbin/", "lib/", "lib64/"] where path.hasPrefix(name) { path = "usr/" + path }
        let wanted = ["usr/bin/", "usr/sbin/", "usr/lib/", "usr/lib64/", "etc/mtools"]
        let unwanted = ["usr/lib/modules/", "usr/lib/firmware/"]
        guard wanted.contains(where: { path.hasPrefix($0) }), !unwanted.contains(where: { path.hasPrefix($0) })
        else { return nil }
        return path
    }

    /// Writes the tree into an empty folder.
    func write(in root: String) throws {
        let folder = try Folder(root)
        for item in items {
            do {
                if case .directory = item.item {
                    try folder.makeDirectory(item.path)
                    continue
                }
                if let parent = FileSystem.parent(of: item.path) { try folder.makeDirectory(parent) }
                // An earlier entry's file or link is never written through.
                try folder.unlink(item.path)
                switch item.item {
                case .directory: break
                case .file(let content, let mode):
                    try folder.create(item.path, mode: mode).write(try content.read(), at: 0)
                case .link(let target): try folder.link(item.path, to: target)
                case .hardLink(let path): try folder.hardLink(item.path, to: path)
                }
            } catch let error as SystemError where [ELOOP, ENOTDIR, EXDEV].contains(error.code) {
                throw BuildFailure(
                    "\(item.package): /\(item.path) passes through a link or a file of another entry",
                    hint: "leave the package out: it can't be unpacked safely")
            } catch let error as SystemError where [EISDIR, EPERM, EINVAL, ENOENT].contains(error.code) {
                throw BuildFailure(
                    "\(item.package): /\(item.path) can't be unpacked (\(error))",
                    hint: "leave the package out: its entries contradict each other")
            }
        }
    }

    /// True when a folder contains exactly this tree.
    func matches(_ root: String) throws -> Bool {
        var expected: [String: Item] = [:]
        for item in items {
            var parent = FileSystem.parent(of: item.path)
            while let folder = parent {
                if expected[folder] == nil { expected[folder] = .directory }
                parent = FileSystem.parent(of: folder)
            }
            if case .directory = item.item, expected[item.path] != nil { continue }
            expected[item.path] = item.item
        }
        var seen = 0
        return try matches(root, "", expected, &seen) && seen == expected.count
    }

    private func matches(_ root: String, _ folder: String, _ expected: [String: Item], _ seen: inout Int) throws -> Bool
    {
        for name in try FileSystem.list(folder.isEmpty ? root : "\(root)/\(folder)") {
            let path = folder.isEmpty ? name : "\(folder)/\(name)"
            var status = stat()
            guard let item = expected[path], lstat("\(root)/\(path)", &status) == 0 else { return false }
            seen += 1
            let type = status.st_mode & S_IFMT
            switch item {
            case .directory:
                guard type == S_IFDIR, try matches(root, path, expected, &seen) else { return false }
            case .link(let target):
                guard type == S_IFLNK, Self.target(of: "\(root)/\(path)") == target else { return false }
            case .file(let content, let mode):
                guard status.st_mode & 0o7777 & ~mode == 0, try Self.hasContent(content, "\(root)/\(path)", status)
                else {
                    return false
                }
            case .hardLink(var target):
                // Follows hard links to hard links up to the file; the limit ends a cycle.
                for _ in 0..<expected.count {
                    guard case .hardLink(let next)? = expected[target] else { break }
                    target = next
                }
                guard case .file(let content, _)? = expected[target],
                    try Self.hasContent(content, "\(root)/\(path)", status)
                else { return false }
            }
        }
        return true
    }

    private static func target(of path: String) -> String? {
        var buffer = [CChar](repeating: 0, count: 4097)
        let count = readlink(path, &buffer, buffer.count - 1)
        return count < 0 ? nil : String(decoding: buffer[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    private static func hasContent(_ content: Content, _ path: String, _ status: stat) throws -> Bool {
        guard status.st_mode & S_IFMT == S_IFREG, Int(status.st_size) == content.count else { return false }
        return SHA256.hash(try File(path, O_RDONLY | O_NOFOLLOW).readAll()) == content.digest
    }
}
