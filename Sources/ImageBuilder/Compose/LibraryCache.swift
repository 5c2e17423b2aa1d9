import Disks
import Files

/// /etc/ld.so.cache in glibc's format (glibc, `sysdeps/generic/dl-cache.h`,
/// "glibc-ld.so.cache1.1").
///
/// On Debian ldconfig(8) makes it. Without it ld.so(8) finds no library in the directories of
/// ld.so.conf(5), and opens each of its own directories for each library of each program.
enum LibraryCache {
    /// A library's name and its absolute path.
    struct Entry: Hashable {
        var name: String
        var path: String
    }

    /// `FLAG_ELF_LIBC6 | FLAG_X8664_LIB64`.
    private static let kind: UInt32 = 0x0303
    private static let headerSize = 48
    private static let entrySize = 24

    /// The cache's bytes. Of two entries with one name the first counts.
    static func bytes(_ entries: [Entry]) -> [UInt8] {
        var known: Set<String> = []
        // ld.so searches by halves in this order, which is descending.
        let sorted = entries.filter { known.insert($0.name).inserted }.sorted { compare($0.name, $1.name) > 0 }
        var strings: [UInt8] = []
        var table = LittleEndian()
        let start = headerSize + entrySize * sorted.count
        for entry in sorted {
            table.put(kind)
            for text in [entry.name, entry.path] {
                table.put(UInt32(start + strings.count))
                strings += Array(text.utf8) + [0]
            }
            // No requirement on the kernel's version or the processor.
            table.put(UInt32(0))
            table.put(UInt64(0))
        }
        var file = LittleEndian()
        file.put(Array("glibc-ld.so.cache1.1".utf8))
        file.put(UInt32(sorted.count))
        file.put(UInt32(strings.count))
        // Little-endian; no extensions.
        file.put([2, 0, 0, 0] as [UInt8])
        file.pad(to: headerSize)
        return file.bytes + table.bytes + strings
    }

    /// glibc's order of names: digits by their number, and after other characters
    /// (`_dl_cache_libcmp`).
    static func compare(_ first: String, _ second: String) -> Int {
        let (a, b) = (Array(first.utf8) + [0], Array(second.utf8) + [0])
        func isDigit(_ byte: UInt8) -> Bool { (0x30...0x39).contains(byte) }
        func number(_ bytes: [UInt8], _ position: inout Int) -> Int {
            var value = 0
            while isDigit(bytes[position]) {
                // As an int of C wraps around: only the order of equal lengths matters, and is the
                // same.
                value = (value &* 10 &+ Int(bytes[position] - 0x30)) & 0x7FFF_FFFF
                position += 1
            }
            return value
        }
        var (i, j) = (0, 0)
        while a[i] != 0 {
            switch (isDigit(a[i]), isDigit(b[j])) {
            case (true, true):
                let difference = number(a, &i) - number(b, &j)
                if difference != 0 { return difference }
            case (true, false): return 1
            case (false, true): return -1
            case (false, false):
                if a[i] != b[j] { return Int(a[i]) - Int(b[j]) }
                i += 1
                j += 1
            }
        }
        return -Int(b[j])
    }
}

extension Composer {
    /// Adds the cache where the image has a dynamic loader and the definition has no file there.
    mutating func addLibraryCache(_ closure: Closure) {
        let path = "etc/ld.so.cache"
        let entries = closure.cacheEntries
        if entries.isEmpty || result.tree[path] != nil { return }
        put(path, .file(Content(LibraryCache.bytes(entries))), mode: 0o644)
    }
}
