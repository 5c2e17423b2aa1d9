/// The parts of an ELF file (elf(5)) that say which libraries it needs.
struct ElfFile {
    /// `DT_NEEDED`, in order.
    private(set) var needed: [String] = []
    /// `DT_SONAME`.
    private(set) var soname: String?
    /// `DT_RUNPATH`, or `DT_RPATH` where there is none.
    private(set) var runPath: [String] = []
    /// `PT_INTERP`.
    private(set) var interpreter: String?

    static let magic: [UInt8] = [0x7F, 0x45, 0x4C, 0x46]

    /// - Returns: nil for a file of another kind or machine, such as a BPF object, and for a damaged one.
    /// - Parameter machine: `e_machine`, such as 62 for x86-64.
    init?(_ bytes: [UInt8], machine: UInt16) {
        // 64 bits, little-endian; an executable or a shared object.
        guard bytes.count >= 64, bytes.starts(with: Self.magic), bytes[4] == 2, bytes[5] == 1 else { return nil }
        let reader = Reader(bytes: bytes)
        guard let type = reader.number(16, 2), type == 2 || type == 3, reader.number(18, 2) == UInt64(machine),
            let table = reader.number(32, 8), let entrySize = reader.number(54, 2), let count = reader.number(56, 2),
            entrySize >= 56
        else { return nil }
        var loads: [(address: UInt64, offset: UInt64, size: UInt64)] = []
        var dynamic: (offset: UInt64, size: UInt64)?
        for i in 0..<count {
            let (start, overflow) = table.addingReportingOverflow(i * entrySize)
            guard !overflow, let kind = reader.number(start, 4), let offset = reader.number(start &+ 8, 8),
                let address = reader.number(start &+ 16, 8), let size = reader.number(start &+ 32, 8)
            else { return nil }
            switch kind {
            case 1: loads.append((address, offset, size))
            case 2: dynamic = (offset, size)
            case 3: interpreter = reader.text(offset)
            default: break
            }
        }
        guard let dynamic else { return }
        var entries: [(tag: UInt64, value: UInt64)] = []
        var position = dynamic.offset
        while position &- dynamic.offset < dynamic.size, let tag = reader.number(position, 8),
            let value = reader.number(position &+ 8, 8), tag != 0
        {
            entries.append((tag, value))
            position &+= 16
        }
        guard let strings = entries.first(where: { $0.tag == 5 })?.value,
            let load = loads.first(where: { strings >= $0.address && strings - $0.address < $0.size })
        else { return }
        let base = strings - load.address &+ load.offset
        func text(_ offset: UInt64) -> String { reader.text(base &+ offset) ?? "" }
        needed = entries.filter { $0.tag == 1 }.map { text($0.value) }
        soname = entries.first { $0.tag == 14 }.map { text($0.value) }
        let path = entries.first { $0.tag == 29 } ?? entries.first { $0.tag == 15 }
        runPath = path.map { text($0.value).split(separator: ":").map(String.init) } ?? []
    }

    private struct Reader {
        let bytes: [UInt8]

        func number(_ offset: UInt64, _ size: Int) -> UInt64? {
            guard offset <= UInt64(bytes.count), bytes.count - Int(offset) >= size else { return nil }
            return (0..<size).reduce(0) { $0 | UInt64(bytes[Int(offset) + $1]) << UInt64(8 * $1) }
        }

        func text(_ offset: UInt64) -> String? {
            guard offset < UInt64(bytes.count) else { return nil }
            return String(decoding: bytes[Int(offset)...].prefix { $0 != 0 }, as: UTF8.self)
        }
    }

    /// Names like a library's (`libNAME.so…`) that the bytes hold anywhere: dlopen(3) gets them so.
    static func libraryNames(in bytes: [UInt8]) -> Set<String> {
        var names: Set<String> = []
        func isNameByte(_ byte: UInt8) -> Bool {
            switch byte {
            case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, 0x2B, 0x2D, 0x2E, 0x5F: true
            default: false
            }
        }
        bytes.withUnsafeBufferPointer { all in
            var i = 0
            while i + 3 <= all.count {
                // ".so"
                guard all[i] == 0x2E, all[i + 1] == 0x73, all[i + 2] == 0x6F else {
                    i += 1
                    continue
                }
                var start = i
                while start > 0, isNameByte(all[start - 1]), i - start < 128 { start -= 1 }
                var end = i + 3
                while end < all.count, isNameByte(all[end]), end - i < 32 { end += 1 }
                names.insert(String(decoding: all[start..<end], as: UTF8.self))
                i = end
            }
        }
        return names
    }
}
