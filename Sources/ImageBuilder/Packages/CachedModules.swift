import Archives
import Digests
import Files

/// Verifies the cache's decompressed kernel modules.
///
/// No lock has the digest of a decompressed module: packages contain compressed ones. A module
/// without a mark of this user's builds is decompressed again from its package and compared, once.
struct CachedModules {
    private let packed: [String: Content]
    private let cache: Cache

    init(packages: [UnpackedPackage], cache: Cache) {
        var packed: [String: Content] = [:]
        for package in packages {
            for item in package.entries where item.path.contains("/modules/") {
                if case .file(let content) = item.entry.kind { packed[content.digest.hex] = content }
            }
        }
        (self.packed, self.cache) = (packed, cache)
    }

    /// - Throws: ``DamagedContent`` for the first module whose cached file differs from its
    ///   package.
    func verify(_ trees: [Tree]) throws {
        let folder = "\(cache.root)/modules/"
        var checked: Set<String> = []
        for tree in trees {
            for entry in tree.entries.values {
                guard case .file(let content) = entry.kind, case .range(let path, _) = content.source,
                    path.hasPrefix(folder), checked.insert(path).inserted
                else { continue }
                try verify(content, path: path, name: String(path.dropFirst(folder.count)))
            }
        }
    }

    private func verify(_ content: Content, path: String, name: String) throws {
        if cache.isMarked("modules", name, content.digest) { return }
        guard let source = packed[String(name.prefix(64))] else {
            throw BuildFailure("\(path) belongs to no package of this image", hint: "remove it")
        }
        let expected = SHA256.hash(try Decompression.decompress(try source.read(), name: path))
        guard content.digest == expected else {
            throw DamagedContent(
                path: path, offset: 0, count: content.count, expected: expected, found: content.digest)
        }
        try cache.mark("modules", name, content.digest)
    }
}
