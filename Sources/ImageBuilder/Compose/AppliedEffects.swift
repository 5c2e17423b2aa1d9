import Digests
import Files

/// A tree of packages with what their maintainer scripts did.
struct AppliedEffects {
    private(set) var tree: Tree
    /// As the packages have it: sources of generated files are read here.
    private let packaged: Tree
    private let users: Users

    /// - Parameters:
    ///   - tree: the files of the image's packages.
    ///   - packages: those in the image; the effects of others are left out.
    /// - Throws: ``BuildFailure`` for an effect that the packages of the lock no longer allow.
    init(_ tree: Tree, _ effects: Effects, packages: Set<String>, users: Users) throws {
        self.tree = tree
        packaged = tree
        self.users = users
        for (package, list) in effects.packages.sorted(by: { $0.key < $1.key }) where packages.contains(package) {
            for effect in list { try apply(effect, of: package) }
        }
    }

    private mutating func apply(_ effect: PackageEffect, of package: String) throws {
        switch effect {
        case .user, .group, .member: break
        case .directory(let path, let attributes):
            tree.addParents(of: path, origin: package)
            try put(path, .directory, attributes, package)
        case .link(let path, let target):
            // An alternative's link, or the like, into a package that the image hasn't.
            tree.addParents(of: path, origin: package)
            tree[path] = TreeEntry(.symbolicLink(target: target), mode: 0o777, origin: package)
        case .removed(let path): tree.remove(path)
        case .attributes(let path, let attributes):
            // The file may be of a package that the image hasn't.
            guard let entry = tree[path] else { return }
            tree.detach(path)
            try put(path, tree[path]?.kind ?? entry.kind, attributes, entry.origin)
        case .file(let path, let attributes, let source, let digest):
            let content = try content(source, digest, path, package)
            tree.detach(path)
            tree.addParents(of: path, origin: package)
            try put(path, .file(content), attributes, package)
        }
    }

    private mutating func put(
        _ path: String, _ kind: TreeEntry.Kind, _ attributes: PackageEffect.Attributes, _ origin: String
    ) throws {
        guard let uid = users.uid(attributes.owner), let gid = users.gid(attributes.group) else {
            throw BuildFailure(
                "effects of \(origin): /\(path) belongs to \(attributes.owner):\(attributes.group), whom the image hasn't",
                hint: "add the package that makes the user to packages:, or leave the path out by drop:")
        }
        var entry = TreeEntry(kind, mode: attributes.mode, uid: uid, gid: gid, origin: origin)
        if let text = attributes.capabilities, let value = FileCapabilities.encode(text) {
            entry.attributes[FileCapabilities.attribute] = value
        }
        tree[path] = entry
    }

    private func content(_ source: PackageEffect.Source, _ digest: Digest, _ path: String, _ package: String) throws
        -> Content
    {
        let content: Content
        switch source {
        case .bytes(let bytes): content = Content(bytes)
        case .copy(let original): content = try file(original, for: path, package)
        case .parts(let parts):
            var bytes: [UInt8] = []
            for part in parts { bytes += try file(part, for: path, package).read() }
            content = Content(bytes)
        }
        guard content.digest == digest else {
            throw BuildFailure(
                "effects of \(package): /\(path) has SHA-256 \(content.digest), recorded is \(digest)",
                hint: "vcpe lock records the effects anew")
        }
        return content
    }

    private func file(_ path: String, for made: String, _ package: String) throws -> Content {
        guard let content = packaged.file(path) else {
            throw BuildFailure(
                "effects of \(package): /\(made) is made of /\(path), which no package of the image has",
                hint: "vcpe lock records the effects anew")
        }
        return content
    }
}

extension Tree {
    /// The contents at a path, through a hard link.
    func file(_ path: String) -> Content? {
        switch self[path]?.kind {
        case .file(let content)?: return content
        case .hardLink(let target)?:
            if case .file(let content)? = self[target]?.kind { return content }
            return nil
        default: return nil
        }
    }

    /// Removes a path; where other names are hard links to it, the first of them becomes the file.
    mutating func remove(_ path: String) {
        promote(path)
        self[path] = nil
    }

    /// Makes a path's file independent of its hard links, so that a change reaches this name alone.
    mutating func detach(_ path: String) {
        if case .hardLink(let target)? = self[path]?.kind, let original = self[target] {
            self[path] = original
        } else {
            promote(path)
        }
    }

    private mutating func promote(_ path: String) {
        guard case .file? = self[path]?.kind else { return }
        let twins = hardLinks(to: path)
        guard let first = twins.first, let file = self[path] else { return }
        self[first] = file
        for other in twins.dropFirst() { self[other]?.kind = .hardLink(path: first) }
    }
}
