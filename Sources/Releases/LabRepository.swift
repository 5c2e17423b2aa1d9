import Documents
import Files
import Glibc
import ImageBuilder
import Updates

/// A repository for one run of a machine, whose keys lie nowhere: nobody else's box trusts it.
public final class LabRepository {
    /// Served to the box; and what the box knows of it before, in place of its image's own first root.
    public let folder, trusted: String
    private static let channel = "stable"
    private let keys: KeyFolder
    /// Releases are ordered by the second in which they were published: each gets another one.
    private var second: Int

    /// - Parameter folder: an empty one.
    public init(in folder: String) throws {
        (self.folder, trusted) = ("\(folder)/updates", "\(folder)/trusted")
        second = time(nil) - 100
        let key = try SigningKey.make()
        keys = KeyFolder([key])
        let signer = ReleaseRepository.Keys([key.publicKey], threshold: 1)
        _ = try ReleaseRepository.make(
            self.folder,
            roles: Dictionary(uniqueKeysWithValues: TrustedMetadata.topLevel.map { ($0, signer) }),
            channel: Self.channel, channelKeys: signer, signing: keys, now: second)
        try UpdateClient.initialize(trusted, root: try FileSystem.read("\(self.folder)/metadata/1.root.json"))
    }

    /// - Returns: the release's version.
    @discardableResult public func publish(_ image: BuiltImage) async throws -> String {
        second += 1
        var repository = try ReleaseRepository(folder, now: second)
        let release = try Release(image, isProved: false)
        _ = try await repository.add(image, release, to: Self.channel, deltas: 1, level: 3, signing: keys)
        return release.version
    }

    /// Publishes an image so that boxes see nothing of it yet.
    ///
    /// - Returns: what has them see it, at once.
    public func prepare(_ image: BuiltImage) async throws -> () throws -> Void {
        // Metadata have names of their own; the timestamp says which of them count.
        let path = "\(folder)/metadata/timestamp.json"
        let before = try FileSystem.read(path)
        try await publish(image)
        let after = try FileSystem.read(path)
        try FileSystem.replace(path, with: before)
        return { try FileSystem.replace(path, with: after) }
    }

    /// The same image with another version, and with an initramfs that is nothing but zeros: its kernel panics.
    ///
    /// - Parameter folder: where it is made.
    public static func spoiled(_ image: BuiltImage, version: String, in folder: String) throws -> BuiltImage {
        let name = FileSystem.name(of: image.folder)
        let place = "\(folder)/\(name)/\(name)"
        try FileSystem.makeDirectory("\(folder)/\(name)")
        for (file, suffix) in [(image.raw, "raw"), (image.root, "root")] {
            try FileSystem.remove("\(place).\(suffix)")
            guard symlink(try FileSystem.realPath(file), "\(place).\(suffix)") == 0 else {
                throw SystemError("symlink", place)
            }
        }
        try FileSystem.replace(
            "\(place).spdx.json", with: try FileSystem.read("\(image.folder)/\(image.stem).spdx.json"))
        var uki = try FileSystem.read(image.uki)
        guard let initramfs = try UnifiedKernelImage.place(of: ".initrd", in: uki) else {
            throw ReleaseFailure("\(image.uki) has no initramfs")
        }
        uki.replaceSubrange(initramfs, with: [UInt8](repeating: 0, count: initramfs.count))
        try FileSystem.replace("\(place).efi", with: uki)
        try Manifest.renew(
            "\(image.folder)/\(image.stem).manifest", as: "\(place).manifest", image: name, version: version)
        return try BuiltImage(name, profile: image.profile, output: folder)
    }
}
