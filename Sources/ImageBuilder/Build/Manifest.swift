import Digests
import Documents
import Files

/// A build's manifest, `NAME.manifest`: canonical text, whose digest identifies the build.
/// `docs/image-definition.md` describes its lines.
public struct Manifest: Sendable {
    /// A file of the root.
    public struct File: Sendable, Hashable {
        public enum Kind: String, Sendable, Hashable { case folder, file, link, hard }

        public var kind: Kind
        /// Permission bits with setuid, setgid and sticky.
        public var mode: UInt32
        public var uid: UInt32
        public var gid: UInt32
        /// A file's SHA-256, or the target of a link or a hard link; empty for a folder.
        public var content: String
        /// Bytes.
        public var size: Int
        /// Extended attributes by name, file capabilities among them.
        public var attributes: [String: [UInt8]]
    }

    public var image = ""
    public var version = ""
    /// The hardware profile.
    public var profile = ""
    /// The root hash of the root's dm-verity tree.
    public var rootHash = ""
    public var outputs: [BuiltOutput: OutputDigest] = [:]
    /// Versions by package name.
    public var packages: [String: String] = [:]
    /// Files by absolute path.
    public var files: [String: File] = [:]

    /// Reads the `NAME.manifest` of a build, and verifies it with the digest in its last line.
    ///
    /// - Throws: ``OutputFailure`` with the first invalid line.
    public static func read(_ path: String) throws -> Manifest {
        try Manifest(FileSystem.read(path), path: path)
    }

    init(_ bytes: [UInt8], path: String) throws {
        let text = String(decoding: bytes, as: UTF8.self)
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
        func failure(_ number: Int) -> OutputFailure {
            let line = number <= lines.count ? String(lines[number - 1].prefix(60)) : ""
            return OutputFailure(path: path, reason: .manifest(line: number, found: line))
        }
        for (index, line) in lines.enumerated() {
            let words = line.split(separator: " ", omittingEmptySubsequences: false).map { Quoting.unquoted($0) }
            if words.first == "end" {
                let above = lines[..<index].map { $0 + "\n" }.joined()
                guard words.count == 3, words[1] == "sha256", words[2] == SHA256.hash(Array(above.utf8)).hex,
                    lines.count == index + 2, lines[index + 1].isEmpty
                else { throw failure(index + 1) }
                // Every reader needs these two lines.
                guard !image.isEmpty, !rootHash.isEmpty else { throw failure(1) }
                return
            }
            guard take(words, raw: line) else { throw failure(index + 1) }
        }
        throw failure(lines.count)
    }

    /// - Returns: false for an invalid line.
    private mutating func take(_ words: [String], raw: Substring) -> Bool {
        switch words.first {
        case "image" where words.count == 4: (image, version, profile) = (words[1], words[2], words[3])
        case "root-hash" where words.count == 2: rootHash = words[1]
        case "output" where words.count == 5:
            guard let output = BuiltOutput(rawValue: words[1]), let size = Int(words[2]),
                let algorithm = OutputDigest.Algorithm(rawValue: words[3]), algorithm == output.algorithm,
                let digest = Digest(hex: words[4])
            else { return false }
            outputs[output] = OutputDigest(size: size, algorithm: algorithm, digest: digest)
        case "package" where words.count == 4: packages[words[1]] = words[2]
        default:
            guard words.count == 8, let kind = File.Kind(rawValue: words[0]), let mode = UInt32(words[1], radix: 8),
                let size = Int(words[4]),
                let attributes = Self.attributes(raw.split(separator: " ", omittingEmptySubsequences: false)[5])
            else { return false }
            let owner = words[2].split(separator: ":")
            guard owner.count == 2, let uid = UInt32(owner[0]), let gid = UInt32(owner[1]) else { return false }
            files[words[7]] = File(
                kind: kind, mode: mode, uid: uid, gid: gid, content: words[3], size: size, attributes: attributes)
        }
        return true
    }

    /// `-`, or `NAME=HEX,…`; a name's own commas and equals signs are quoted.
    private static func attributes(_ word: Substring) -> [String: [UInt8]]? {
        if word == "-" { return [:] }
        var attributes: [String: [UInt8]] = [:]
        for item in word.split(separator: ",") {
            let pair = item.split(separator: "=", omittingEmptySubsequences: false)
            guard pair.count == 2, let value = Hex.bytes(pair[1]) else { return nil }
            attributes[Quoting.unquoted(pair[0])] = value
        }
        return attributes
    }

    // MARK: - Writing

    /// A manifest's text: its head, the outputs' digests, lines of packages and files, and the
    /// digest of all of them.
    static func text(
        image: String, version: String, profile: String, rootHash: String, outputs: [BuiltOutput: OutputDigest],
        contents: String
    ) -> String {
        let names = [image, version, profile].map { Quoting.quoted($0) }.joined(separator: " ")
        var lines = ["image \(names)", "root-hash \(rootHash)"]
        for output in BuiltOutput.allCases {
            guard let digest = outputs[output] else { continue }
            lines.append("output \(output.rawValue) \(digest.size) \(digest.algorithm.rawValue) \(digest.digest.hex)")
        }
        let above = lines.map { $0 + "\n" }.joined() + contents
        return above + "end sha256 \(SHA256.hash(Array(above.utf8)).hex)\n"
    }

    /// Writes a manifest for modified outputs, such as those of a deliberately broken release in a
    /// test.
    ///
    /// - Parameters:
    ///   - manifest: the path of the build's own manifest.
    ///   - path: the path of the new manifest. The outputs are beside it, `NAME.root` and so on;
    ///     missing ones are omitted.
    public static func renew(_ manifest: String, as path: String, image: String, version: String) throws {
        let old = try read(manifest)
        let contents = String(decoding: try FileSystem.read(manifest), as: UTF8.self).split(separator: "\n").filter {
            line in !["image", "root-hash", "output", "end"].contains { line.hasPrefix("\($0) ") }
        }
        var outputs: [BuiltOutput: OutputDigest] = [:]
        let stem = path.hasSuffix(".manifest") ? String(path.dropLast(".manifest".count)) : path
        for output in BuiltOutput.allCases {
            let file = "\(stem).\(output.rawValue)"
            if FileSystem.exists(file) { outputs[output] = try OutputDigest(of: file, output.algorithm) }
        }
        let text = text(
            image: image, version: version, profile: old.profile, rootHash: old.rootHash, outputs: outputs,
            contents: contents.map { $0 + "\n" }.joined())
        try FileSystem.replace(path, with: text)
    }

    /// The line of a file.
    static func line(_ path: String, _ entry: TreeEntry) -> String {
        let (kind, content, size): (File.Kind, String, Int) =
            switch entry.kind {
            case .directory: (.folder, "-", 0)
            case .file(let content): (.file, content.digest.hex, content.count)
            case .symbolicLink(let target): (.link, target, 0)
            case .hardLink(let target): (.hard, "/\(target)", 0)
            }
        let attributes = entry.attributes.sorted { $0.key < $1.key }.map { name, value in
            "\(Quoting.quoted(name, also: ",="))=\(hex(value))"
        }
        let words = [
            kind.rawValue, String(entry.mode, radix: 8), "\(entry.uid):\(entry.gid)", Quoting.quoted(content),
            "\(size)", attributes.isEmpty ? "-" : attributes.joined(separator: ","), Quoting.quoted(entry.origin),
            Quoting.quoted("/\(path)"),
        ]
        return words.joined(separator: " ")
    }
}

/// Quotes the words of a line, so that blanks separate them.
enum Quoting {
    /// `\xHH` for each byte that would end a word or a line, for control characters, and for the
    /// backslash itself.
    static func quoted(_ text: String, also: String = "") -> String {
        var result: [UInt8] = []
        for byte in text.utf8 {
            let isPlain = byte > 0x20 && byte != 0x7F && byte != UInt8(ascii: "\\") && !also.utf8.contains(byte)
            if isPlain { result.append(byte) } else { result += Array("\\x\(hex([byte]))".utf8) }
        }
        return String(decoding: result, as: UTF8.self)
    }

    static func unquoted(_ text: some StringProtocol) -> String {
        guard text.contains("\\") else { return String(text) }
        var result: [UInt8] = []
        var rest = Array(text.utf8)[...]
        while let byte = rest.popFirst() {
            if byte == UInt8(ascii: "\\"), rest.first == UInt8(ascii: "x"), rest.count >= 3,
                let value = Hex.bytes(String(decoding: rest.dropFirst().prefix(2), as: UTF8.self))
            {
                result += value
                rest = rest.dropFirst(3)
            } else {
                result.append(byte)
            }
        }
        return String(decoding: result, as: UTF8.self)
    }
}
