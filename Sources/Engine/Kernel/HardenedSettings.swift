import Files

/// The kernel's settings that the image makes against an attacker
/// (`/usr/lib/sysctl.d/50-vcpe.conf`), compared with those of the running kernel.
struct HardenedSettings {
    /// A setting that is another one now.
    struct Change: Hashable {
        /// With dots, as sysctl(8) has it.
        var key: String
        /// What the image sets.
        var wanted: String
        var found: String
    }

    var file = "/usr/lib/sysctl.d/50-vcpe.conf"
    var proc = "/proc/sys"

    /// A key that the kernel does not have is none.
    var changes: [Change] {
        guard let bytes = try? FileSystem.read(file) else { return [] }
        return String(decoding: bytes, as: UTF8.self).split(separator: "\n").compactMap { line in
            let parts = line.split(separator: "=", maxSplits: 1).map { $0.filter { $0 != " " } }
            guard line.first != "#", parts.count == 2 else { return nil }
            let key = parts[0].first == "-" ? String(parts[0].dropFirst()) : parts[0]
            let path = "\(proc)/\(key.replacing(".", with: "/"))"
            guard let found = try? File(path).read(256, at: 0) else { return nil }
            let text = String(decoding: found, as: UTF8.self).filter { !$0.isWhitespace }
            return text == parts[1] ? nil : Change(key: key, wanted: parts[1], found: text)
        }
    }
}
