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

    /// - Parameter isProved: the image must have proofs of its own that passed; else it is no release for boxes.
    /// - Throws: ``BuildFailure`` for an image whose parts are not of one build, and for one whose proofs did not pass.
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
        if isProved {
            try Self.checkProofs(
                "\(image.folder)/\(image.stem).proofs.json",
                of: ["manifest": try image.manifestDigest(), "uki": try image.ukiDigest()], name)
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
            "image": .text(name), "version": .text(version), "profile": .text(profile), "architecture": "amd64",
            "root-hash": .text(rootHash), "root-bytes": .integer(size), "root-sha256": .text(digest.hex),
        ]
    }
}

extension ReleaseRepository {
    /// Adds a release with the files by which boxes come to it.
    ///
    /// - Parameters:
    ///   - deltas: how many earlier releases get a patch of their own.
    ///   - level: zstd's.
    ///   - isFloor: boxes install nothing any more that was released before.
    public mutating func add(
        _ image: BuiltImage, _ release: Release, to channel: String, deltas: Int, level: Int32, isFloor: Bool = false,
        signing keys: KeyFolder
    ) async throws -> Outcome {
        let work = try FileSystem.makeTemporaryDirectory(in: image.folder, prefix: ".release")
        defer { try? FileSystem.remove(work) }
        let earlier = releases(of: release.name, profile: release.profile, in: channel)
        let made = try await ReleaseDeltas(of: image, since: Array(earlier.prefix(deltas)), in: work, level: level)
        let files = made.files.merging([
            "uki.efi": image.uki, "manifest": "\(image.folder)/\(image.stem).manifest",
            "spdx.json": "\(image.folder)/\(image.stem).spdx.json",
        ]) { $1 }
        var custom = (release.custom.object ?? [:]).merging(made.custom) { $1 }
        if isFloor { custom["floor"] = true }
        return try add(
            Dictionary(uniqueKeysWithValues: files.map { ("\(release.place)/\($0.key)", $0.value) }), to: channel,
            custom: .object(custom), signing: keys)
    }
}
