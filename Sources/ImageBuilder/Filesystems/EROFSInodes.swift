import Disks
import Files

/// The inodes of an EROFS while they are laid out; the first is the root's.
struct EROFSInodes {
    struct Inode {
        var entry: TreeEntry
        var links = 1
        /// Of a regular file.
        var content: Content?
        /// Inline data after the inode: a small file, a link's target, a folder's last block.
        var inline: [UInt8] = []
        /// A folder's blocks that are not inline.
        var folderBlocks: [UInt8] = []
        /// The first block of the data, counted from the start of the file system.
        var firstBlock = 0
        /// Bytes.
        var size = 0
        /// Position in the metadata area, in units of 32 bytes: the inode's number.
        var slot = 0
        /// The encoded extended attributes, which follow the inode.
        var attributes: [UInt8] = []
        var parent = 0
        var children: [(name: [UInt8], inode: Int)] = []

        var isFolder: Bool { if case .directory = entry.kind { true } else { false } }
    }

    private static let slotSize = 32
    private var blockSize: Int { EROFS.blockSize }

    var all: [Inode]

    /// Bytes of a name, of an extended attribute's name without its prefix, and of a link's target
    /// (linux/limits.h).
    private static let (nameLimit, attributeNameLimit, targetLimit) = (255, 255, 4095)
    /// The inode is of the compact form, whose numbers have 16 bits (struct erofs_inode_compact).
    private static let numberLimit = Int(UInt16.max)

    init(_ tree: Tree) throws {
        all = [Inode(entry: TreeEntry(.directory, mode: 0o755, origin: ""), links: 2)]
        var index: [String: Int] = ["": 0]
        let paths = tree.sortedPaths
        for path in paths {
            guard let entry = tree[path] else { continue }
            func limit(_ message: String) -> EROFSError {
                EROFSError(path: "/\(path)", reason: .limit, message: message)
            }
            guard entry.uid <= UInt16.max, entry.gid <= UInt16.max else {
                throw limit("found the owner \(entry.uid):\(entry.gid), allowed are numbers up to 65535")
            }
            let name = FileSystem.name(of: path)
            guard name != "", name != ".", name != "..", !name.utf8.contains(0) else {
                throw EROFSError(path: "/\(path)", reason: .path, message: "\"\(name)\" is not a valid file name")
            }
            // With a longer name, the kernel would treat the whole folder as damaged.
            guard name.utf8.count <= Self.nameLimit else {
                throw limit("its name has \(name.utf8.count) bytes, allowed are \(Self.nameLimit)")
            }
            var inode = Inode(entry: entry)
            inode.attributes = try Self.attributes(entry.attributes, path: path)
            switch entry.kind {
            case .hardLink: continue
            case .directory: inode.links = 2
            case .file(let content):
                guard content.count <= UInt32.max else {
                    throw limit("it has \(content.count) bytes, allowed are \(UInt32.max)")
                }
                inode.content = content
                inode.size = content.count
            case .symbolicLink(let target):
                inode.inline = Array(target.utf8)
                inode.size = inode.inline.count
                let most = min(Self.targetLimit, EROFS.blockSize - Self.slotSize - inode.attributes.count)
                guard (1...most).contains(inode.size) else {
                    throw limit("its target has \(inode.size) bytes, allowed are 1 to \(most)")
                }
            }
            index[path] = all.count
            all.append(inode)
        }
        for path in paths {
            guard let entry = tree[path] else { continue }
            guard let parent = index[FileSystem.parent(of: path) ?? ""], all[parent].isFolder else {
                throw EROFSError(
                    path: "/\(path)", reason: .path,
                    message: "it is from \(entry.origin), and \(Self.obstacle(path, tree)) is not a folder")
            }
            let name = Array(FileSystem.name(of: path).utf8)
            if case .hardLink(let target) = entry.kind {
                guard let inode = index[target], !all[inode].isFolder else {
                    throw EROFSError(
                        path: "/\(path)", reason: .hardLink,
                        message: "a hard link from \(entry.origin) to /\(target), which is not a file of the image")
                }
                all[inode].links += 1
                all[parent].children.append((name, inode))
            } else if let inode = index[path] {
                all[parent].children.append((name, inode))
                all[inode].parent = parent
                if all[inode].isFolder { all[parent].links += 1 }
            }
        }
        for (path, inode) in index where all[inode].links > Self.numberLimit {
            throw EROFSError(
                path: "/\(path)", reason: .limit,
                message: "it has \(all[inode].links) hard links or subfolders, allowed are \(Self.numberLimit)")
        }
    }

    /// The nearest path above `path` that is not a folder, with its source.
    private static func obstacle(_ path: String, _ tree: Tree) -> String {
        var above = FileSystem.parent(of: path)
        while let folder = above {
            if let entry = tree[folder] {
                if entry.kind != .directory { return "/\(folder) from \(entry.origin)" }
            }
            above = FileSystem.parent(of: folder)
        }
        return "its parent"
    }

    /// True when a file of this many bytes can be stored inline: it must be in one block with its
    /// inode.
    func fitsInline(_ index: Int, _ count: Int) -> Bool {
        Self.slotSize + all[index].attributes.count + count <= blockSize
    }

    /// Assigns a slot to every inode and returns the metadata area: inodes, then folders' blocks.
    ///
    /// - Parameter block: the first block of the area.
    mutating func metadata(from block: Int) -> [UInt8] {
        // Sizes come first: slots depend on them, and the folders' contents on the slots.
        for i in all.indices where all[i].isFolder {
            let blocks = folder(i)
            all[i].size = blocks.dropLast().count * blockSize + (blocks.last?.count ?? 0)
        }
        var position = 0
        var folderBlock = 0
        var inlineCounts = all.map(\.inline.count)
        for i in all.indices {
            let header = Self.slotSize + all[i].attributes.count
            if all[i].isFolder {
                let tail = all[i].size % blockSize
                inlineCounts[i] = header + tail <= blockSize ? tail : 0
            }
            position = position.rounded(upTo: Self.slotSize)
            // Neither the inode nor its inline data may cross a block's end (erofs_map_blocks() of
            // fs/erofs/data.c).
            if position % blockSize + header + inlineCounts[i] > blockSize {
                position = position.rounded(upTo: blockSize)
            }
            all[i].slot = position / Self.slotSize
            position += header + inlineCounts[i]
        }
        let inodeArea = position.rounded(upTo: blockSize)
        for i in all.indices where all[i].isFolder {
            var bytes: [UInt8] = []
            for part in folder(i) {
                bytes += part
                if bytes.count % blockSize != 0, inlineCounts[i] == 0 {
                    bytes += [UInt8](repeating: 0, count: bytes.count.rounded(upTo: blockSize) - bytes.count)
                }
            }
            all[i].inline = Array(bytes.suffix(inlineCounts[i]))
            all[i].folderBlocks = Array(bytes.dropLast(inlineCounts[i]))
            all[i].firstBlock = block + inodeArea / blockSize + folderBlock
            folderBlock += all[i].folderBlocks.count / blockSize
        }
        var area = LittleEndian()
        for i in all.indices {
            area.pad(to: all[i].slot * Self.slotSize)
            put(i, inlined: inlineCounts[i] > 0, to: &area)
        }
        area.pad(to: inodeArea)
        for inode in all { area.put(inode.folderBlocks) }
        return area.bytes
    }

    /// `struct erofs_inode_compact` and the data after it.
    private func put(_ i: Int, inlined: Bool, to area: inout LittleEndian) {
        let inode = all[i]
        let type: UInt16 =
            switch inode.entry.kind {
            case .directory: 0o040000
            case .symbolicLink: 0o120000
            case .file, .hardLink: 0o100000
            }
        area.put(UInt16(inlined ? 2 << 1 : 0))  // layout: flat inline or flat plain
        area.put(UInt16(inode.attributes.isEmpty ? 0 : (inode.attributes.count - 12) / 4 + 1))
        area.put(type | UInt16(inode.entry.mode & 0o7777))
        area.put(UInt16(inode.links))
        area.put(UInt32(inode.size))
        area.put(UInt32(0))
        area.put(UInt32(inode.firstBlock))
        area.put(UInt32(i + 1))
        area.put(UInt16(inode.entry.uid))
        area.put(UInt16(inode.entry.gid))
        area.put(UInt32(0))
        area.put(inode.attributes)
        area.put(inode.inline)
    }

    /// A folder's blocks; the last one is not padded. Each block has its entries (`struct
    /// erofs_dirent`, 12 bytes) first and then their names; entries are sorted over the whole
    /// folder. A block holds at least one entry, since names are short.
    private func folder(_ i: Int) -> [[UInt8]] {
        let dots: [(name: [UInt8], inode: Int)] = [(Array(".".utf8), i), (Array("..".utf8), all[i].parent)]
        let entries = (dots + all[i].children).sorted { $0.name.lexicographicallyPrecedes($1.name) }
        var blocks: [[UInt8]] = []
        var start = 0
        while start < entries.count {
            var end = start
            var size = 0
            while end < entries.count, size + 12 + entries[end].name.count <= blockSize {
                size += 12 + entries[end].name.count
                end += 1
            }
            var block = LittleEndian()
            var nameOffset = (end - start) * 12
            for entry in entries[start..<end] {
                block.put(UInt64(all[entry.inode].slot))
                block.put(UInt16(nameOffset))
                block.put(Self.type(all[entry.inode].entry.kind))
                block.put(UInt8(0))
                nameOffset += entry.name.count
            }
            for entry in entries[start..<end] { block.put(entry.name) }
            if end < entries.count { block.pad(to: blockSize) }
            blocks.append(block.bytes)
            start = end
        }
        return blocks
    }

    private static func type(_ kind: TreeEntry.Kind) -> UInt8 {
        switch kind {
        case .file, .hardLink: 1
        case .directory: 2
        case .symbolicLink: 7
        }
    }

    /// `struct erofs_xattr_ibody_header` and its entries; empty without attributes.
    private static func attributes(_ attributes: [String: [UInt8]], path: String) throws -> [UInt8] {
        if attributes.isEmpty { return [] }
        var area = LittleEndian()
        area.pad(to: 12)
        for (name, value) in attributes.sorted(by: { $0.key < $1.key }) {
            let prefixes: [(String, UInt8)] = [("user.", 1), ("trusted.", 4), ("security.", 6)]
            guard let (prefix, index) = prefixes.first(where: { name.hasPrefix($0.0) }) else {
                throw EROFSError(
                    path: "/\(path)", reason: .attribute,
                    message: "found the extended attribute \(name), allowed are user., trusted. and security.")
            }
            let rest = Array(name.utf8.dropFirst(prefix.utf8.count))
            guard rest.count <= attributeNameLimit else {
                throw EROFSError(
                    path: "/\(path)", reason: .limit,
                    message: "an extended attribute's name has \(rest.count) bytes, allowed are \(attributeNameLimit)")
            }
            // The total is checked below; this check protects the 16-bit field of the value's size.
            guard value.count <= EROFS.blockSize else {
                throw EROFSError(
                    path: "/\(path)", reason: .limit,
                    message: "\(name) has \(value.count) bytes, allowed are \(EROFS.blockSize - slotSize) with its name"
                )
            }
            area.put(UInt8(rest.count))
            area.put(index)
            area.put(UInt16(value.count))
            area.put(rest)
            area.put(value)
            area.pad(to: area.bytes.count.rounded(upTo: 4))
        }
        // The inode and all of its attributes share one block.
        guard slotSize + area.bytes.count <= EROFS.blockSize else {
            throw EROFSError(
                path: "/\(path)", reason: .limit,
                message: "its extended attributes have \(area.bytes.count) bytes, allowed are "
                    + "\(EROFS.blockSize - slotSize)")
        }
        return area.bytes
    }
}
