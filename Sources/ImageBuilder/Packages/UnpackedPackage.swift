import Archives
import Digests
import Files
import Glibc

/// A package's files as the cache keeps them: one file with all contents one after the other, one line an entry beside
/// it. Unpacked once, whatever images want of it: what is left out is decided when an image is composed.
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

    /// The version of the cached form: raised when it changes, so that old forms are not read.
    private static let version = 1

    /// Returns the package from the cache, unpacking its .deb first when that was never done.
    ///
    /// - Throws: ``BuildFailure`` for a .deb that is not what its name says or holds what no image may.
    public static func read(_ package: LockedPackage, cache: Cache) throws -> UnpackedPackage {
        let folder = try cache.folder("packages")
        let stem = "\(folder)/\(package.digest.hex)-\(version)"
        if !FileSystem.exists(stem + ".index") { try unpack(package, deb: cache.package(package.digest), stem: stem) }
        return try load(package, stem: stem)
    }

    /// Reads packages, as many at a time as there are processors; sorted by name.
    static func readAll(_ packages: [LockedPackage], cache: Cache) async throws -> [UnpackedPackage] {
        try await withThrowingTaskGroup(of: UnpackedPackage.self) { group in
            // The large ones first, or the last one keeps one processor waiting.
            for package in packages.sorted(by: { $0.size > $1.size }) {
                group.addTask { try read(package, cache: cache) }
            }
            var all: [UnpackedPackage] = []
            for try await package in group { all.append(package) }
            return all.sorted { $0.package.name < $1.package.name }
        }
    }

    private static func unpack(_ package: LockedPackage, deb: String, stem: String) throws {
        guard SHA256.hash(try FileSystem.read(deb)) == package.digest else {
            try FileSystem.remove(deb)
            throw BuildFailure(
                "\(deb) was not what its name says and is removed: \(package.name)", hint: "again: it is fetched anew")
        }
        var lines: [String] = []
        var position = 0
        try FileSystem.replace(stem + ".data") { (file: File) throws(any Error) in
            func store(_ feed: ((UnsafeRawBufferPointer) throws -> Void) throws -> Void) throws -> String {
                let start = position
                var hash = SHA256()
                try feed { bytes in
                    try file.write(bytes, at: position)
                    hash.update(bytes)
                    position += bytes.count
                }
                return "\(start)\t\(position - start)\t\(hash.finish())"
            }
            try DebianPackage.read(deb) { name, bytes in
                lines.append(
                    "c\t0\t0\t0\t\(try store { body in try bytes.withUnsafeBytes { try body($0) } })\t\(name)\t\t")
            } data: { entry, content in
                let head = "\(entry.mode)\t\(entry.uid)\t\(entry.gid)"
                guard !entry.path.contains(where: { $0 == "\n" || $0 == "\t" }) else {
                    throw BuildFailure("\(package.name): a path holds a tab or a line's end: \(entry.path)")
                }
                let attributes = entry.attributes.sorted { $0.key < $1.key }.map { "\($0.key)=\(hex($0.value))" }
                let tail = attributes.joined(separator: ",")
                switch entry.kind {
                case .directory: lines.append("d\t\(head)\t0\t0\t\t\(entry.path)\t\t\(tail)")
                case .file: lines.append("f\t\(head)\t\(try store(content))\t\(entry.path)\t\t\(tail)")
                case .symbolicLink(let target): lines.append("l\t\(head)\t0\t0\t\t\(entry.path)\t\(target)\t")
                case .hardLink(let path): lines.append("h\t\(head)\t0\t0\t\t\(entry.path)\t\(path)\t")
                case .characterDevice, .blockDevice, .fifo:
                    throw BuildFailure("\(package.name): /\(entry.path) is a device or a pipe; an image holds neither")
                }
            }
        }
        try FileSystem.replace(stem + ".index", with: lines.joined(separator: "\n"))
    }

    private static func load(_ package: LockedPackage, stem: String) throws -> UnpackedPackage {
        let data = stem + ".data"
        var result = UnpackedPackage(package: package, fields: [:], control: [:], entries: [])
        let index = try FileSystem.read(stem + ".index")
        for line in index.split(separator: UInt8(ascii: "\n")) {
            let columns = line.split(separator: UInt8(ascii: "\t"), omittingEmptySubsequences: false)
            guard columns.count == 10 else { throw BuildFailure("\(stem).index is damaged", hint: "remove it") }
            func text(_ i: Int) -> String { String(decoding: columns[i], as: UTF8.self) }
            func number(_ i: Int) -> Int { columns[i].reduce(0) { $0 * 10 + Int($1) - 48 } }
            func content() -> Content {
                Content(
                    path: data, offset: number(4), count: number(5),
                    digest: Digest(hex: text(6)) ?? SHA256.hash([]))
            }
            let path = text(7)
            let kind: TreeEntry.Kind
            switch columns[0].first {
            case UInt8(ascii: "c"):
                result.control[path] = content()
                continue
            case UInt8(ascii: "d"): kind = .directory
            case UInt8(ascii: "f"): kind = .file(content())
            case UInt8(ascii: "l"): kind = .symbolicLink(target: text(8))
            default: kind = .hardLink(path: text(8))
            }
            var attributes: [String: [UInt8]] = [:]
            if !columns[9].isEmpty {
                for item in text(9).split(separator: ",") {
                    let pair = item.split(separator: "=", maxSplits: 1)
                    if pair.count == 2 { attributes[String(pair[0])] = unhex(pair[1]) }
                }
            }
            result.entries.append(
                Entry(
                    path: path,
                    entry: TreeEntry(
                        kind, mode: UInt32(number(1)), uid: UInt32(number(2)), gid: UInt32(number(3)),
                        attributes: attributes, origin: package.name)))
        }
        result.fields = try controlFields(result.control["control"]?.read() ?? [])
        guard result.fields["Package"] == package.name else {
            throw BuildFailure(
                "\(package.path) holds the package \(result.fields["Package"] ?? "(none)"), not \(package.name)")
        }
        return result
    }

    /// Fields of a control file (deb-control(5)); lines that go on are joined.
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

    /// Names of packages in a relation field, without versions and alternatives' bars.
    func names(in field: String) -> [String] {
        (fields[field] ?? "").split(whereSeparator: { $0 == "," || $0 == "|" }).map { relation in
            String(relation.drop { $0 == " " }.prefix { $0 != " " && $0 != "(" && $0 != ":" })
        }
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
