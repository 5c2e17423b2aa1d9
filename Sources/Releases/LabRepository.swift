import Documents
import Files
import Glibc
import ImageBuilder
import Updates

/// A repository for one test run of a virtual machine. Its keys exist in memory only, so no other
/// box trusts it.
public final class LabRepository {
    /// The repository, as a server or a box reads it.
    public let folder: String
    /// The TUF state of a box that trusts it, in place of the first root in the box's image.
    public let trusted: String
    private static let channel = "stable"
    private let session: SigningSession
    /// Releases are ordered by their time of publication in seconds, so each needs another second.
    private var second: Int

    /// - Parameter folder: an empty folder.
    public init(in folder: String) throws {
        (self.folder, trusted) = ("\(folder)/updates", "\(folder)/trusted")
        second = time(nil) - 100
        let key = try SigningKey.make()
        session = .unattended(KeyFolder([key]))
        let signer = ReleaseRepository.Keys([key.publicKey], threshold: 1)
        _ = try ReleaseRepository.make(
            self.folder,
            roles: Dictionary(uniqueKeysWithValues: TrustedMetadata.topLevel.map { ($0, signer) }),
            channel: Self.channel, channelKeys: signer, signing: session, now: second)
        try UpdateClient.initialize(trusted, root: try FileSystem.read("\(self.folder)/metadata/1.root.json"))
    }

    /// Publishes an image, whether or not its proofs passed.
    ///
    /// - Returns: the release's version.
    @discardableResult public func publish(_ image: BuiltImage) async throws -> String {
        second += 1
        let lock = try OutputLock(image.folder)
        defer { withExtendedLifetime(lock) {} }
        var repository = try ReleaseRepository(folder, now: second)
        let release = try Release(image, requiresProofs: false)
        _ = try await repository.add(image, release, to: Self.channel, deltas: 1, level: 3, signing: session)
        return release.version
    }

    /// Publishes an image, but keeps the old timestamp, so that boxes do not see the release yet.
    ///
    /// - Returns: a function that publishes the new timestamp.
    public func prepare(_ image: BuiltImage) async throws -> () throws -> Void {
        // All other metadata has its version in its name, so the timestamp selects what boxes read.
        let path = "\(folder)/metadata/timestamp.json"
        let before = try FileSystem.read(path)
        try await publish(image)
        let after = try FileSystem.read(path)
        try FileSystem.replace(path, with: before)
        return { try FileSystem.replace(path, with: after) }
    }

    /// A copy of an image with another version and an initramfs of zeros: its kernel panics.
    ///
    /// - Parameters:
    ///   - folder: where the copy is made.
    ///   - signing: signs the edited kernel image, as Secure Boot needs.
    public static func withPanickingKernel(
        _ image: BuiltImage, version: String, in folder: String,
        signing: ([UInt8]) throws -> [UInt8] = { $0 }
    ) throws -> BuiltImage {
        let name = FileSystem.name(of: image.folder)
        let stem = "\(folder)/\(name)/\(name)"
        try FileSystem.makeDirectory("\(folder)/\(name)")
        for (file, suffix) in [(image.raw, "raw"), (image.root, "root")] {
            try FileSystem.remove("\(stem).\(suffix)")
            guard symlink(try FileSystem.realPath(file), "\(stem).\(suffix)") == 0 else {
                throw SystemError("symlink", stem)
            }
        }
        try FileSystem.replace(
            "\(stem).spdx.json", with: try FileSystem.read("\(image.folder)/\(image.stem).spdx.json"))
        var uki = try FileSystem.read(image.uki)
        guard let initramfs = try UnifiedKernelImage.range(of: ".initrd", in: uki) else {
            throw ReleaseFailure("\(image.uki): the UKI has no section .initrd", path: image.uki)
        }
        uki.replaceSubrange(initramfs, with: [UInt8](repeating: 0, count: initramfs.count))
        try FileSystem.replace("\(stem).efi", with: try signing(uki))
        try Manifest.renew(
            "\(image.folder)/\(image.stem).manifest", as: "\(stem).manifest", image: name, version: version)
        return try BuiltImage(name, profile: image.profile, output: folder)
    }
}
