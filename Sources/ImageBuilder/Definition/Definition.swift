import Digests
import Documents
import PluginKit
import Units

/// What an image is made of: `images/NAME.yaml`, with what it extends laid beneath it.
/// `docs/image-definition.md` is its reference.
public struct Definition: Sendable, Hashable {
    public struct Base: Sendable, Hashable {
        /// Debian's code name, such as `trixie`.
        public var suite: String
        /// Debian's name, such as `amd64`.
        public var architecture: String
        /// Archive areas; `non-free-firmware` is added where a profile wants firmware.
        public var components: [String]
        /// Replaces the host's own mirror.
        public var mirror: String?
        public var securityMirror: String?
        /// A keyring that signs both mirrors, relative to the definition's folder; Debian's own
        /// when nil.
        public var signedBy: Located<String>?
    }

    public struct File: Sendable, Hashable {
        public enum Source: Sendable, Hashable {
            /// A path on the host, relative to the definition's folder.
            case path(Located<String>)
            case content(String)
            case link(target: String)
            case directory
            /// Nothing stands there: what a package brought is taken away, with all below it.
            case absent
        }

        public var source: Source
        public var mode: UInt32?
        public var owner: String
        public var group: String
        /// As `setcap(8)` takes them, such as `cap_net_bind_service+ep`.
        public var capabilities: String?
    }

    /// An apt source beside Debian's own three suites: `archives:`.
    public struct Archive: Sendable, Hashable {
        /// Which packages come from the archive, and before which others.
        public struct Pin: Sendable, Hashable {
            /// Names or patterns, as apt_preferences(5) takes them; empty for all.
            public var packages: [String]
            /// apt's priority: over 990 it wins against Debian's own version, below 0 never.
            public var priority: Int
        }

        /// Unique; the lock's rows name it.
        public var name: String
        /// Above `dists/`, tried in this order; the host's Debian mirror when empty.
        public var uris: [String]
        /// One or more, or `./` for a flat repository.
        public var suites: [String]
        public var components: [String]
        /// A keyring, relative to the definition's folder; Debian's own when nil.
        public var signedBy: Located<String>?
        public var pins: [Pin]
        /// For errors.
        public var position: SourcePosition
    }

    /// A directory of the host whose contents are copied into the image: `trees:`.
    public struct OverlayTree: Sendable, Hashable {
        /// Mode and owner of the paths that a pattern matches.
        public struct Rule: Sendable, Hashable {
            public var pattern: PathPattern
            public var mode: UInt32?
            public var owner: String?
            public var group: String?
        }

        /// Relative to the definition's folder.
        public var source: Located<String>
        public var rules: [Rule]
    }

    /// What the builder removes because nothing in the image can use it.
    public enum Prune: String, Sendable, Hashable, CaseIterable {
        /// Shared libraries that no ELF file of the image needs or names.
        case unusedLibraries = "unused-libraries"
        /// Scripts whose interpreter is not in the image.
        case scriptsWithoutInterpreter = "scripts-without-interpreter"
    }

    /// A plugin that the image has.
    public struct PluginChoice: Sendable, Hashable {
        /// One of ours, or the path of another's folder.
        public var name: Located<String>
        /// Which of its features, beside the first; nil for all.
        public var features: [Located<String>]?
        /// What another's plugin may have: all that its manifest grants, and nothing else.
        public var allow: Located<Permissions>?
    }

    public struct Service: Sendable, Hashable {
        /// What the service runs.
        public enum Program: Sendable, Hashable {
            /// A program by its absolute path, and its arguments.
            case command([String])
            /// A service unit of systemd, such as `nginx.service` or `openvpn@office.service`: what
            /// it says of commands, users, directories, environment and readiness is taken over.
            case unit(String)
        }

        public var program: Program
        /// nil for root, or the unit's.
        public var user: String?
        /// nil for the user's own, or the unit's.
        public var group: String?
        /// nil for `always`, or the unit's.
        public var restart: Unit.Restart?
        public var environment: [String: String]
        /// Directories below /run, /data and /var, made before each start and owned by the
        /// service's user.
        public var directories: [String]
        public var enabled: Bool
    }

    public struct Partitions: Sendable, Hashable {
        /// Bytes.
        public var efiSystem = 512 << 20
        /// Bytes, of each of the two.
        public var root = 1 << 30
        /// Bytes in the image file; on the box it reaches to the disk's end.
        public var data = 64 << 20
    }

    public struct SecureBoot: Sendable, Hashable {
        /// PEM, relative to the definition's folder.
        public var key: Located<String>
        public var certificate: Located<String>
    }

    public enum Output: String, Sendable, Hashable, CaseIterable {
        case rawZstd = "raw.zst"
        case qcow2
    }

    /// Of the whole document, what it extends included; comments and layout don't count.
    public var digest: Digest
    public var name: String
    public var version: String
    public var base: Base
    public var profiles: [Located<String>]
    public var packages: [Located<String>]
    /// Packages that the image must not have (`-NAME`), even where others depend on them.
    public var excluded: [Located<String>]
    /// Whether Debian's Essential packages are in the image, as they are on every Debian system.
    public var essential: Bool
    /// Beside Debian's own.
    public var archives: [Archive]
    /// Own .debs, or directories of them, relative to the definition's folder.
    public var debs: [Located<String>]
    /// Paths that no drop pattern and no pruning removes.
    public var keep: [Located<PathPattern>]
    /// Paths that are left out, beside ``defaultDrop``.
    public var drop: [Located<PathPattern>]
    public var prune: Set<Prune>
    /// Paths that the check of interpreters and libraries passes over.
    public var unchecked: [PathPattern]
    public var trees: [OverlayTree]
    /// Kernel modules beside the profile's: names, patterns, or directories of the kernel's tree
    /// ending in `/`.
    public var modules: [Located<String>]
    /// What turns the site's configuration into rules, links and services; each brings its
    /// packages, modules and users.
    public var plugins: [PluginChoice]
    /// The site document that a box follows until its operator gives it another, relative to the
    /// definition's folder.
    public var site: Located<String>?
    /// Public keys whose signatures a document from a stick must have on a box that has one.
    public var siteKeys: [String]
    public var outside: Outside
    /// Whether the boot menu leads back to the factory's site.
    public var hasFactoryReset: Bool
    /// What must be seen with real packets before the image may be called good.
    public var proofs: [Proof]
    /// Absolute paths of directories of the read-only root that are writable on the box; what is
    /// written there is lost at the next boot.
    public var writable: [Located<String>]
    /// By absolute path.
    public var files: [String: Located<File>]
    public var services: [String: Located<Service>]
    /// Users that no package's sysusers.d declares, with their home.
    public var users: [String: String]
    public var partitions: Partitions
    /// Bytes by hardware profile and output: `raw.zst`, `root`, `initramfs`, `uki`, `vcpe-init`.
    public var budgets: [String: [String: Located<Int>]]
    /// An emergency shell and the kernel's messages; never for production.
    public var debug: Bool
    /// Firmware and microcode from `non-free-firmware`.
    public var firmware: Bool
    public var secureBoot: SecureBoot?
    /// What is made beside the raw disk, the UKI and the root filesystem.
    public var outputs: [Output]

    /// The package whose shell a debug image has; static, since the initramfs has no libraries.
    static let debugShell = "busybox-static"

    /// What a budget may be set for.
    public static let budgetNames = ["raw.zst", "root", "initramfs", "uki", "vcpe-init"]
}

extension Located where Value == Definition.File {
    /// A problem of the file rule at `target`.
    func failing(_ message: String, hint: String? = nil) -> InvalidDocument {
        InvalidDocument([problem(message, hint: hint)])
    }
}
