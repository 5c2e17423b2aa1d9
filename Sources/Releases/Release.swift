import Digests
import Documents
import Files
import Glibc
import ImageBuilder

/// The signed description of a built image. It requires outputs of one build and passed proofs.
public struct Release: Sendable {
    public let name: String
    public let version: String
    public let profile: String
    /// The hash at the root of its verity tree.
    private let rootHash: String
    /// Bytes of the root filesystem with its tree.
    private let size: Int
    private let digest: Digest
    /// Debian's name of the processor architecture that the UKI is for.
    private let architecture: String

    /// - Parameter requiresProofs: whether the image needs passed proofs of exactly this build
    ///   (`docs/proofs.md`).
    /// - Throws: ``BuildFailure`` for an image whose files are from different builds, and for one
    ///   whose proofs did not pass.
    public init(_ image: BuiltImage, requiresProofs: Bool = true) throws {
        // BuiltImage has compared the outputs with the manifest.
        let manifest = image.manifest
        (name, version, profile) = (manifest.image, manifest.version, manifest.profile)
        rootHash = manifest.rootHash
        guard let root = manifest.outputs[.root], try image.commandLine().contains(rootHash) else {
            throw BuildFailure(
                "\(image.uki) boots another root than the one in its manifest",
                hint: "vcpe build \(name), and copy all of its outputs")
        }
        (digest, size) = (root.digest, root.size)
        architecture = try Architecture.name(ofUKI: image.uki)
        if requiresProofs { try Self.demandProofs(of: image, name) }
    }

    /// - Throws: ``ProofRejection``'s reason as a ``BuildFailure``.
    private static func demandProofs(of image: BuiltImage, _ name: String) throws {
        let path = "\(image.folder)/\(image.stem).proofs.json"
        let parts = ["\(image.folder)/\(image.stem).manifest", image.uki, image.root, image.raw]
        do {
            try ProofRecord.read(path).admit(
                digests: try image.digests(), isSigned: PortableExecutable.isSigned(FileSystem.read(image.uki)),
                built: try parts.map { try File($0).status().st_mtim.tv_sec }.max() ?? 0, now: time(nil))
        } catch let rejection as ProofRejection {
            throw BuildFailure("\(path): \(rejection)", hint: "vcpe test \(name)")
        }
    }

    /// The path below its channel.
    public var path: String { "\(name)/\(profile)/\(version)" }

    /// The fields that are signed with lengths and hashes.
    public var custom: JSON {
        [
            "image": .text(name), "version": .text(version), "profile": .text(profile),
            "architecture": .text(architecture),
            "root-hash": .text(rootHash), "root-bytes": .integer(size), "root-sha256": .text(digest.hex),
        ]
    }
}
