import Digests
import Files

/// The outputs of a build, found again by name.
public struct BuiltImage: Sendable {
    public let folder: String
    public let stem: String
    /// The hardware profile that it was built for.
    public let profile: String

    /// - Parameter profile: one of the image's further hardware profiles; nil for the first.
    public init(_ name: String, profile: String? = nil, output: String = "out") throws {
        folder = "\(output)/\(name)"
        // Every image says in its manifest what it was built for: the first profile's has no profile in its name.
        let stems = [name] + (profile.map { ["\(name)-\($0)"] } ?? [])
        let found = stems.compactMap { stem -> (stem: String, profile: String)? in
            guard FileSystem.exists("\(output)/\(name)/\(stem).raw"),
                let manifest = try? File("\(output)/\(name)/\(stem).manifest").read(1000, at: 0)
            else { return nil }
            let words = String(decoding: manifest, as: UTF8.self).prefix { $0 != "\n" }.split(separator: " ")
            return (stem, words.count == 4 ? String(words[3]) : "")
        }
        guard let image = found.first(where: { profile == nil || $0.profile == profile }) else {
            let option = profile.map { " --profile \($0)" } ?? ""
            throw BuildFailure(
                "\(name)\(profile.map { " for \($0)" } ?? "") is not built in \(output)",
                hint: "vcpe build \(name)\(option)")
        }
        (stem, self.profile) = image
    }

    public var raw: String { "\(folder)/\(stem).raw" }
    public var uki: String { "\(folder)/\(stem).efi" }
    public var root: String { "\(folder)/\(stem).root" }
    public var initramfs: String { "\(folder)/\(stem).initramfs" }

    /// Names what was built: the canonical manifest's digest.
    public func manifestDigest() throws -> String {
        SHA256.hash(try FileSystem.read("\(folder)/\(stem).manifest")).hex
    }

    /// What starts it: kernel, initramfs and words for both, the root's hash among them.
    public func ukiDigest() throws -> String { SHA256.hash(try FileSystem.read(uki)).hex }

    /// A section of the UKI.
    public func section(_ name: String) throws -> [UInt8] {
        guard let bytes = try UnifiedKernelImage.section(name, of: try FileSystem.read(uki)) else {
            throw BuildFailure("\(uki) has no section \(name)")
        }
        return bytes
    }

    /// The kernel's command line.
    public func commandLine() throws -> String { String(decoding: try section(".cmdline"), as: UTF8.self) }

    /// Writes the kernel out of the UKI, for a direct start, and returns its path.
    public func kernel(in folder: String) throws -> String {
        let path = "\(folder)/\(stem).vmlinuz"
        try FileSystem.replace(path, with: try section(".linux"))
        return path
    }
}
