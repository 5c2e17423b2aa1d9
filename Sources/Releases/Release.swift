import Digests
import Documents
import Files
import Glibc
import ImageBuilder

/// What a built image is, for those who install it; only of one that is whole and proved.
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

    /// - Parameter isProved: the image needs proofs that passed, of exactly this build
    ///   (`docs/proofs.md`).
    /// - Throws: ``BuildFailure`` for an image whose parts are not of one build, and for one whose
    ///   proofs did not pass.
    public init(_ image: BuiltImage, isProved: Bool = true) throws {
        // The image was verified when it was found: its outputs are those that its manifest names.
        let manifest = image.manifest
        (name, version, profile) = (manifest.image, manifest.version, manifest.profile)
        rootHash = manifest.rootHash
        guard let root = manifest.outputs[.root], try image.commandLine().contains(rootHash) else {
            throw BuildFailure(
                "\(image.uki) boots another root than the one of its manifest",
                hint: "vcpe build \(name), and all of its outputs")
        }
        (digest, size) = (root.digest, root.size)
        architecture = try Architecture.name(ofUKI: image.uki)
        if isProved { try Self.demandProofs(of: image, name) }
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

    /// Below its channel.
    public var place: String { "\(name)/\(profile)/\(version)" }

    /// What is signed beside lengths and hashes.
    public var custom: JSON {
        [
            "image": .text(name), "version": .text(version), "profile": .text(profile),
            "architecture": .text(architecture),
            "root-hash": .text(rootHash), "root-bytes": .integer(size), "root-sha256": .text(digest.hex),
        ]
    }
}
