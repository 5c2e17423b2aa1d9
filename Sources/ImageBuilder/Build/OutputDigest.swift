import Digests
import Files

/// An output file of a build; the manifest beside it has its digest.
public enum BuiltOutput: String, Sendable, Hashable, CaseIterable {
    /// The root file system with its hash tree.
    case root
    /// The unified kernel image.
    case uki = "efi"
    case initramfs
    /// The disk image.
    case raw

    /// How its digest is computed.
    var algorithm: OutputDigest.Algorithm { self == .raw ? .sparse : .sha256 }
}

/// Size and digest of an output.
public struct OutputDigest: Sendable, Hashable {
    public enum Algorithm: String, Sendable, Hashable {
        /// SHA-256 of all bytes, as sha256sum(1) prints it.
        case sha256
        /// ``Sparse/digest(of:)``: a disk image is mostly holes.
        case sparse = "sparse-sha256"
    }

    /// Bytes.
    public var size: Int
    public var algorithm: Algorithm
    public var digest: Digest

    public init(size: Int, algorithm: Algorithm, digest: Digest) {
        self.size = size
        self.algorithm = algorithm
        self.digest = digest
    }

    /// Reads a file.
    public init(of path: String, _ algorithm: Algorithm) throws {
        let file = try File(path)
        self.algorithm = algorithm
        size = try file.size()
        switch algorithm {
        case .sparse: digest = try Sparse.digest(of: file)
        case .sha256:
            var hash = SHA256()
            try file.readPieces { hash.update($0) }
            digest = hash.finish()
        }
    }
}

/// An output that is missing, or differs from its build's manifest.
public struct OutputFailure: Error, Sendable, Hashable, CustomStringConvertible {
    public enum Reason: Sendable, Hashable {
        case missing
        /// Bytes.
        case size(found: Int, expected: Int)
        case digest(found: Digest, expected: Digest)
        /// The manifest is damaged, or was edited.
        case manifest(line: Int, found: String)
    }

    public var path: String
    public var reason: Reason

    public init(path: String, reason: Reason) { (self.path, self.reason) = (path, reason) }

    public var description: String {
        switch reason {
        case .missing: "\(path) is missing, but its build's manifest lists it\n  try: vcpe build"
        case .size(let found, let expected):
            "\(path): found \(found) bytes, its build's manifest has \(expected)\n  \(again)"
        case .digest(let found, let expected):
            "\(path): found SHA-256 \(found), its build's manifest has \(expected)\n  \(again)"
        case .manifest(let line, let found):
            "\(path):\(line): found \"\(found)\", allowed is a manifest of this version of vcpe\n  \(again)"
        }
    }

    private var again: String { "try: remove it, then vcpe build" }
}
