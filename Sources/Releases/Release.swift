import Digests
import Documents
import Files
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

    /// - Parameter isProved: the image must have proofs of its own that passed; else it is no
    ///   release for boxes.
    /// - Throws: ``BuildFailure`` for an image whose parts are not of one build, and for one whose
    ///   proofs did not pass.
    public init(_ image: BuiltImage, isProved: Bool = true) throws {
        let path = "\(image.folder)/\(image.stem).manifest"
        let manifest = try FileSystem.read(path)
        let head = String(decoding: manifest.prefix(1000), as: UTF8.self).split(separator: "\n").prefix(2).map {
            $0.split(separator: " ").map(String.init)
        }
        guard head.count == 2, head[0].count == 4, head[0][0] == "image", head[1].count == 2, head[1][0] == "root-hash"
        else {
            throw BuildFailure("\(path) is not a build's manifest", hint: "vcpe build")
        }
        (name, version, profile, rootHash) = (head[0][1], head[0][2], head[0][3], head[1][1])
        guard try image.commandLine().contains(rootHash) else {
            throw BuildFailure(
                "\(image.uki) starts another root than the one of \(path)",
                hint: "vcpe build \(name), and all of its outputs")
        }
        (digest, size) = try File(image.root).digest()
        architecture = try Architecture.name(ofUKI: image.uki)
        if isProved {
            try Self.checkProofs(
                "\(image.folder)/\(image.stem).proofs.json",
                of: ["manifest": SHA256.hash(manifest).hex, "uki": try image.ukiDigest()], name)
        }
    }

    private static func checkProofs(_ path: String, of parts: [String: String], _ name: String) throws {
        guard FileSystem.exists(path) else {
            throw BuildFailure("\(name) has no proofs: \(path) is not there", hint: "vcpe test \(name)")
        }
        let proofs = try JSON.parse(try FileSystem.read(path))
        guard parts.allSatisfy({ proofs[$0.key]?.text == $0.value }) else {
            throw BuildFailure("the proofs of \(path) are of another build", hint: "vcpe test \(name)")
        }
        guard proofs["passed"]?.boolean == true else {
            throw BuildFailure("the proofs of \(path) did not pass", hint: "vcpe test \(name)")
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
