import Files

/// The outputs of a build, found again by name.
public struct BuiltImage: Sendable {
    public let folder: String
    public let stem: String

    /// - Parameter profile: one of the image's further hardware profiles; nil for the first.
    public init(_ name: String, profile: String? = nil, output: String = "out") throws {
        folder = "\(output)/\(name)"
        let other = profile.map { "\(name)-\($0)" }
        stem = other.flatMap { FileSystem.exists("\(output)/\(name)/\($0).raw") ? $0 : nil } ?? name
        guard FileSystem.exists(raw) else {
            throw BuildFailure("there is no \(raw): \(name) is not built", hint: "vcpe build \(name)")
        }
    }

    public var raw: String { "\(folder)/\(stem).raw" }
    public var uki: String { "\(folder)/\(stem).efi" }
    public var root: String { "\(folder)/\(stem).root" }
    public var initramfs: String { "\(folder)/\(stem).initramfs" }

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
