import Digests
import Files
import Glibc
import Synchronization

/// The outputs of a build, found again by name and verified by the digests of its manifest.
public struct BuiltImage: Sendable {
    public let folder: String
    public let stem: String
    /// The manifest of the build.
    public let manifest: Manifest
    /// The SHA-256 of the manifest's text, which identifies the build.
    private let digest: Digest

    /// Finds an image's outputs and verifies them.
    ///
    /// - Parameters:
    ///   - profile: one of the image's further hardware profiles; nil for the first.
    ///   - output: the folder of all images' outputs.
    /// - Throws: ``BuildFailure`` for an image that is not built; ``OutputFailure`` for an output
    ///   that differs from the manifest.
    public init(_ name: String, profile: String? = nil, output: String = "out") throws {
        let folder = "\(output)/\(name)"
        // The first profile's outputs have no profile in their names; the manifest has its name.
        let stems = [name] + (profile.map { ["\(name)-\($0)"] } ?? [])
        let found = stems.filter { FileSystem.exists("\(folder)/\($0).manifest") }
        var candidates: [(stem: String, manifest: Manifest, digest: Digest)] = []
        for stem in found {
            let bytes = try FileSystem.read("\(folder)/\(stem).manifest")
            candidates.append(
                (stem, try Manifest(bytes, path: "\(folder)/\(stem).manifest"), SHA256.hash(bytes)))
        }
        guard let image = candidates.first(where: { profile == nil || $0.manifest.profile == profile }) else {
            let option = profile.map { " --profile \($0)" } ?? ""
            throw BuildFailure(
                "\(name)\(profile.map { " for \($0)" } ?? "") is not built in \(output)",
                hint: "vcpe build \(name)\(option)")
        }
        (self.folder, stem, manifest, digest) = (folder, image.stem, image.manifest, image.digest)
        try Self.verify(manifest, in: folder, stem: stem)
    }

    /// The hardware profile that it was built for.
    public var profile: String { manifest.profile }

    public var raw: String { path(.raw) }
    public var uki: String { path(.uki) }
    public var root: String { path(.root) }
    public var initramfs: String { path(.initramfs) }

    private func path(_ output: BuiltOutput) -> String { "\(folder)/\(stem).\(output.rawValue)" }

    // MARK: - Verification

    /// Compares all outputs with their manifest. A file that this process has verified is not read
    /// again as long as its size, times and inode stay the same.
    ///
    /// - Throws: ``OutputFailure`` for the first that differs.
    public static func verify(_ manifest: Manifest, in folder: String, stem: String) throws {
        for output in BuiltOutput.allCases {
            guard let expected = manifest.outputs[output] else { continue }
            let path = "\(folder)/\(stem).\(output.rawValue)"
            guard let stamp = stamp(path) else { throw OutputFailure(path: path, reason: .missing) }
            let known = verified.withLock { $0[path] }
            if let known, known.stamp == stamp, known.digest == expected { continue }
            let found = try OutputDigest(of: path, expected.algorithm)
            guard found.size == expected.size else {
                throw OutputFailure(path: path, reason: .size(found: found.size, expected: expected.size))
            }
            guard found.digest == expected.digest else {
                throw OutputFailure(path: path, reason: .digest(found: found.digest, expected: expected.digest))
            }
            verified.withLock { $0[path] = (stamp, expected) }
        }
        for output in [BuiltOutput.raw, .uki, .root] where manifest.outputs[output] == nil {
            throw OutputFailure(
                path: "\(folder)/\(stem).manifest", reason: .manifest(line: 3, found: "no output \(output.rawValue)"))
        }
    }

    private static let verified = Mutex<[String: (stamp: String, digest: OutputDigest)]>([:])

    private static func stamp(_ path: String) -> String? {
        var status = stat()
        guard stat(path, &status) == 0 else { return nil }
        let (changed, modified) = (status.st_ctim, status.st_mtim)
        return "\(status.st_dev) \(status.st_ino) \(status.st_size) \(changed.tv_sec).\(changed.tv_nsec) "
            + "\(modified.tv_sec).\(modified.tv_nsec)"
    }

    // MARK: - Identity

    /// The canonical manifest's digest, which identifies the build.
    public func manifestDigest() throws -> String { digest.hex }

    /// The UKI's digest. It covers kernel, initramfs and command line, with the root hash.
    public func ukiDigest() throws -> String { try verifiedDigest(.uki) }

    /// The digest of an output, verified when this value was made.
    public func verifiedDigest(_ output: BuiltOutput) throws -> String {
        guard let digest = manifest.outputs[output]?.digest else {
            throw OutputFailure(path: path(output), reason: .missing)
        }
        return digest.hex
    }

    // MARK: - The UKI

    /// A section of the UKI.
    public func section(_ name: String) throws -> [UInt8] {
        guard let bytes = try UnifiedKernelImage.section(name, of: try FileSystem.read(uki)) else {
            throw BuildFailure("\(uki) has no section \(name)", hint: "vcpe build \(manifest.image)")
        }
        return bytes
    }

    /// The kernel's command line.
    public func commandLine() throws -> String { String(decoding: try section(".cmdline"), as: UTF8.self) }

    /// Writes the kernel out of the UKI, for a direct boot, and returns its path.
    public func kernel(in folder: String) throws -> String {
        let path = "\(folder)/\(stem).vmlinuz"
        try FileSystem.replace(path, with: try section(".linux"))
        return path
    }
}
