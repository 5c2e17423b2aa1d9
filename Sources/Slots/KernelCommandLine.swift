import Files

/// The part of the kernel's command line that the boot image has, and its signature covers.
///
/// The image's line ends with `--`. What systemd-stub appends, from SMBIOS strings and addons, is behind
/// it: the kernel hands those words to PID 1 as arguments instead of reading them (`parse_args` of
/// kernel/params.c), and PID 1 ignores arguments.
public struct KernelCommandLine: Sendable, Hashable {
    public let words: [String]

    public init(_ line: String) {
        words = line.split(whereSeparator: \.isWhitespace).prefix { $0 != "--" }.map(String.init)
    }

    /// That of the running kernel (proc(5)).
    public init() throws(SystemError) {
        self.init(String(decoding: try File("/proc/cmdline").read(8192, at: 0), as: UTF8.self))
    }

    /// The value of the first `name=value`; empty for a bare `name`, nil without it.
    public subscript(name: String) -> String? {
        words.first { $0 == name || $0.hasPrefix(name + "=") }.map { String($0.dropFirst(name.utf8.count + 1)) }
    }

    /// A verified root of `vcpe.verity=BLOCKS,SALT,HASH`.
    public struct VerifiedRoot: Sendable, Hashable {
        /// Of 4096 bytes.
        public var dataBlocks: Int
        /// In hexadecimal digits, as the hash.
        public var salt: String
        public var hash: String
    }

    /// Nil where the line names none.
    public var verifiedRoot: VerifiedRoot? {
        let parts = (self["vcpe.verity"] ?? "").split(separator: ",").map(String.init)
        guard parts.count == 3, let blocks = Int(parts[0]), blocks > 0 else { return nil }
        return VerifiedRoot(dataBlocks: blocks, salt: parts[1], hash: parts[2])
    }
}
