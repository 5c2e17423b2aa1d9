import Archives
import Digests
import Disks
import Files
import Glibc

/// A package's files in the cache, as one file: all contents one after the other, then an index. A
/// package is unpacked once, with all of its files; the composer leaves files out.
public struct UnpackedPackage: Sendable {
    public struct Entry: Sendable {
        public var path: String
        public var entry: TreeEntry
    }

    public var package: LockedPackage
    /// Fields of the control file, by name.
    public var fields: [String: String]
    /// `preinst`, `postinst`, `prerm`, `postrm`, `triggers`, … by name.
    public var control: [String: Content]
    public var entries: [Entry]

    /// The end of a cached file's name. The number changes with the format, so that old files are
    /// not read.
    static let suffix = "-2.package"

    /// Returns the package from the cache. It is unpacked first when the cache doesn't have it, or
    /// has a file that no build of this user has marked.
    ///
    /// - Throws: ``BuildFailure`` for a .deb whose digest is wrong, or that contains a device or a
    ///   pipe.
    public static func read(_ package: LockedPackage, cache: Cache) throws -> UnpackedPackage {
        let path = "\(try cache.folder("packages"))/\(package.digest.hex)\(suffix)"
        if let index = readIndex(path, package, cache.seal), let known = try? load(package, index, data: path) {
            return known
        }
        try unpack(package, deb: cache.package(package.digest), path: path, seal: cache.seal)
        guard let index = readIndex(path, package, cache.seal) else {
            throw BuildFailure("\(path): the index read back differs from the one written", hint: "check the disk")
        }
        return try load(package, index, data: path)
    }

    /// Reads packages in parallel; sorted by name.
    static func readAll(_ packages: [LockedPackage], cache: Cache) async throws -> [UnpackedPackage] {
        try await withThrowingTaskGroup(of: UnpackedPackage.self) { group in
            // Large packages first, so that no long task remains at the end.
            for package in packages.sorted(by: { $0.size > $1.size }) {
                group.addTask { try read(package, cache: cache) }
            }
            var all: [UnpackedPackage] = []
            for try await package in group { all.append(package) }
            return all.sorted { $0.package.name < $1.package.name }
        }
    }

    // MARK: - The cached file

    /// Bytes of the file's footer: offset and size of the index, and the mark of index and package.
    private static let footerSize = 48

    private static func mark(_ package: LockedPackage, _ index: [UInt8], _ seal: CacheSeal) -> [UInt8] {
        seal.mark("packages/\(package.digest.hex)\(suffix)", SHA256.hash(index)).bytes
    }

    /// The index; nil for a file that is missing, damaged or not marked.
    private static func readIndex(_ path: String, _ package: LockedPackage, _ seal: CacheSeal) -> [UInt8]? {
        guard let file = try? File(path), let size = try? file.size(), size >= footerSize,
            let footer = try? file.read(footerSize, at: size - footerSize), footer.count == footerSize,
            let start = footer.integer(at: 0, UInt64.self).flatMap({ Int(exactly: $0) }),
            let count = footer.integer(at: 8, UInt64.self).flatMap({ Int(exactly: $0) }),
            start <= size - footerSize, count == size - footerSize - start,
            let index = try? file.read(count, at: start), index.count == count,
            Array(footer[16...]) == mark(package, index, seal)
        else { return nil }
        return index
    }

    private static func unpack(_ package: LockedPackage, deb: String, path: String, seal: CacheSeal) throws {
        guard SHA256.hash(try FileSystem.read(deb)) == package.digest else {
            try FileSystem.remove(deb)
            throw BuildFailure(
                "\(deb) had the wrong SHA-256 and was removed: \(package.name)", hint: "try again: it is fetched again")
        }
        try FileSystem.replace(path) { (file: File) throws(any Error) in
            var index = LittleEndian()
            var position = 0
            func store(_ feed: ((UnsafeRawBufferPointer) throws -> Void) throws -> Void) throws -> Content {
                let start = position
                var hash = SHA256()
                try feed { bytes in
                    try file.write(bytes, at: position)
                    hash.update(bytes)
                    position += bytes.count
                }
                return Content(path: path, offset: start, count: position - start, digest: hash.finish())
            }
            try DebianPackage.read(deb) { name, bytes in
                let content = try store { body in try bytes.withUnsafeBytes { try body($0) } }
                index.put(Record(kind: .control, path: name, content: content))
            } data: { entry, content in
                var record = Record(kind: .directory, path: entry.path, mode: entry.mode)
                (record.uid, record.gid, record.attributes) = (entry.uid, entry.gid, entry.attributes)
                switch entry.kind {
                case .directory: break
                case .file: (record.kind, record.content) = (.file, try store(content))
                case .symbolicLink(let target): (record.kind, record.target) = (.symbolicLink, target)
                case .hardLink(let other): (record.kind, record.target) = (.hardLink, other)
                case .characterDevice, .blockDevice, .fifo:
                    throw BuildFailure(
                        "\(package.name): /\(entry.path) is a device or a pipe; an image must contain neither")
                }
                index.put(record)
            }
            var footer = LittleEndian()
            footer.put(UInt64(position))
            footer.put(UInt64(index.bytes.count))
            footer.put(mark(package, index.bytes, seal))
            try file.write(index.bytes + footer.bytes, at: position)
        }
    }

    private static func load(_ package: LockedPackage, _ index: [UInt8], data: String) throws -> UnpackedPackage {
        var result = UnpackedPackage(package: package, fields: [:], control: [:], entries: [])
        var reader = RecordReader(index, data: data)
        while let record = try reader.next() {
            let kind: TreeEntry.Kind
            switch record.kind {
            case .control:
                result.control[record.path] = record.content
                continue
            case .directory: kind = .directory
            case .file: kind = .file(record.content)
            case .symbolicLink: kind = .symbolicLink(target: record.target)
            case .hardLink: kind = .hardLink(path: record.target)
            }
            result.entries.append(
                Entry(
                    path: record.path,
                    entry: TreeEntry(
                        kind, mode: record.mode, uid: record.uid, gid: record.gid, attributes: record.attributes,
                        origin: package.name)))
        }
        result.fields = try controlFields(result.control["control"]?.read() ?? [])
        guard result.fields["Package"] == package.name else {
            throw BuildFailure(
                "\(package.path) contains the package \(result.fields["Package"] ?? "(none)"), not \(package.name)",
                hint: "vcpe lock NAME, to lock what the archive has")
        }
        return result
    }

    // MARK: - Control fields

    /// Fields of a control file (deb-control(5)); continuation lines are joined.
    static func controlFields(_ bytes: [UInt8]) -> [String: String] {
        var fields: [String: String] = [:]
        var last = ""
        for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") {
            if line.hasPrefix(" ") {
                fields[last, default: ""] += line
            } else if let colon = line.firstIndex(of: ":") {
                last = String(line[..<colon])
                fields[last] = String(line[line.index(after: colon)...].drop { $0 == " " })
            }
        }
        return fields
    }

    /// The package names in a relation field, alternatives included, without versions.
    func names(in field: String) -> [String] {
        (fields[field] ?? "").split(whereSeparator: { $0 == "," || $0 == "|" }).map { relation in
            String(relation.drop { $0 == " " }.prefix { $0 != " " && $0 != "(" && $0 != ":" })
        }
    }
}

/// One entry of a cached package's index. The length precedes each text, so that a package's file
/// names can't forge a record.
private struct Record {
    enum Kind: UInt8 { case control, directory, file, symbolicLink, hardLink }

    var kind: Kind
    var path: String
    var mode: UInt32 = 0
    var uid: UInt32 = 0
    var gid: UInt32 = 0
    var content = Content([UInt8]())
    var target = ""
    var attributes: [String: [UInt8]] = [:]
}

extension LittleEndian {
    fileprivate mutating func put(counted bytes: some Collection<UInt8>) {
        put(UInt32(bytes.count))
        put(bytes)
    }

    fileprivate mutating func put(_ record: Record) {
        put(record.kind.rawValue)
        put(record.mode)
        put(record.uid)
        put(record.gid)
        if case .range(_, let offset) = record.content.source { put(UInt64(offset)) } else { put(UInt64(0)) }
        put(UInt64(record.content.count))
        put(record.content.digest.bytes)
        put(counted: record.path.utf8)
        put(counted: record.target.utf8)
        put(UInt32(record.attributes.count))
        for (name, value) in record.attributes.sorted(by: { $0.key < $1.key }) {
            put(counted: name.utf8)
            put(counted: value)
        }
    }
}

/// Reads the records of an index.
private struct RecordReader {
    private let bytes: [UInt8]
    private let data: String
    private var position = 0

    init(_ bytes: [UInt8], data: String) { (self.bytes, self.data) = (bytes, data) }

    private var damaged: BuildFailure {
        BuildFailure("\(data): its index is damaged at byte \(position)", hint: "remove that folder and build again")
    }

    private mutating func number<Value: FixedWidthInteger>(_: Value.Type) throws -> Value {
        guard let value = bytes.integer(at: position, Value.self) else { throw damaged }
        position += MemoryLayout<Value>.size
        return value
    }

    private mutating func take(_ count: Int) throws -> ArraySlice<UInt8> {
        guard count >= 0, count <= bytes.count - position else { throw damaged }
        defer { position += count }
        return bytes[position..<position + count]
    }

    private mutating func counted() throws -> ArraySlice<UInt8> { try take(Int(number(UInt32.self))) }

    private mutating func text() throws -> String { String(decoding: try counted(), as: UTF8.self) }

    mutating func next() throws -> Record? {
        if position == bytes.count { return nil }
        guard let kind = Record.Kind(rawValue: try number(UInt8.self)) else { throw damaged }
        var record = Record(kind: kind, path: "")
        record.mode = try number(UInt32.self)
        record.uid = try number(UInt32.self)
        record.gid = try number(UInt32.self)
        guard let offset = Int(exactly: try number(UInt64.self)), let count = Int(exactly: try number(UInt64.self))
        else { throw damaged }
        let digest = Digest(bytes: Array(try take(Digest.size)))
        record.content = Content(path: data, offset: offset, count: count, digest: digest)
        record.path = try text()
        record.target = try text()
        for _ in 0..<(try number(UInt32.self)) {
            let name = try text()
            record.attributes[name] = Array(try counted())
        }
        return record
    }
}

/// Lower-case hexadecimal digits.
func hex(_ bytes: some Sequence<UInt8>) -> String {
    bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
}

func unhex(_ text: some StringProtocol) -> [UInt8] {
    let digits = Array(text.utf8)
    return stride(from: 0, to: digits.count - 1, by: 2).compactMap { i in
        UInt8(String(decoding: digits[i...i + 1], as: UTF8.self), radix: 16)
    }
}
