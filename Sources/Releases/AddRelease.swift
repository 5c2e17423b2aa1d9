import Documents
import Files
import ImageBuilder

extension ReleaseRepository {
    /// Adds a built image as a release, with deltas that upgrade boxes from earlier releases.
    ///
    /// - Parameters:
    ///   - deltas: the number of earlier releases from which patches are made.
    ///   - level: the compression level of zstd, 1 to 19.
    ///   - isFloor: whether boxes install no older release from then on.
    /// - Throws: ``ReleaseFailure`` for a version that exists, before anything is compressed.
    public mutating func add(
        _ image: BuiltImage, _ release: Release, to channel: String, deltas: Int, level: Int32, isFloor: Bool = false,
        signing session: SigningSession
    ) async throws -> Outcome {
        try checkIsNew(release.path, in: channel)
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
            Dictionary(uniqueKeysWithValues: files.map { ("\(release.path)/\($0.key)", $0.value) }), to: channel,
            custom: .object(custom), signing: session)
    }
}
