/// What a service has of the box beyond what every one needs: `strict` in a unit's file, and what
/// the unit asks for by name.
///
/// A strict service has a view of its own: the tree is read-only, with empty folders in the places
/// of `/data`, `/run`, `/var`, `/mnt` and `/dev`, temporary folders of its own, and a `/proc` that
/// shows its own processes. It makes the calls of the kernel that a service needs, no namespaces,
/// and sockets of ``Unit/AddressFamily/usual``.
extension Unit {
    public struct Profile: Sendable, Hashable {
        /// Files and folders that it may change, beside ``Unit/directories``.
        public var writable: [String] = []
        /// What it sees of `/data`, `/run` and `/var`; what is not there is left out.
        public var visible: [String] = []
        /// Names below `/dev` beside null, zero, full, random and urandom; `*` for all.
        public var devices: [String] = []
        /// Sets of the kernel's calls beside the usual one.
        public var systemCalls: [SystemCalls] = []
        /// Address families beside the usual ones.
        public var families: [AddressFamily] = []
        public var permissions: [Permission] = []

        public init(
            writable: [String] = [], visible: [String] = [], devices: [String] = [], systemCalls: [SystemCalls] = [],
            families: [AddressFamily] = [], permissions: [Permission] = []
        ) {
            self.writable = writable
            self.visible = visible
            self.devices = devices
            self.systemCalls = systemCalls
            self.families = families
            self.permissions = permissions
        }
    }

    /// Sets of calls as csystem_calls has them: the order gives each its bit.
    public enum SystemCalls: String, Sendable, CaseIterable {
        /// Becoming another user.
        case users
        /// chroot(2).
        case chroot
        /// Setting the clock.
        case clock
        case mount
        case modules
        /// The kernel's log.
        case kernelLog = "kernel-log"
        /// Reading and changing other processes.
        case debug
        /// Placing memory.
        case numa
        case all

        /// Its bit for the kernel's filter.
        public var bit: UInt32 {
            self == .all ? 1 << 31 : 1 << UInt32(SystemCalls.allCases.firstIndex(of: self) ?? 0)
        }
    }

    /// Families of sockets (socket(2)).
    public enum AddressFamily: String, Sendable, CaseIterable {
        case unix, inet, inet6, netlink, packet, key, pppox, alg

        /// What every strict service may use.
        public static let usual: [AddressFamily] = [.unix, .inet, .inet6]

        /// AF_* of linux/socket.h.
        public var number: Int32 {
            switch self {
            case .unix: 1
            case .inet: 2
            case .inet6: 10
            case .key: 15
            case .netlink: 16
            case .packet: 17
            case .pppox: 24
            case .alg: 38
            }
        }
    }

    public enum Permission: String, Sendable, CaseIterable {
        /// It makes and enters namespaces.
        case namespaces
        /// Its memory may be writable and executable.
        case newCode = "new-code"
        /// It sees the processes of others.
        case processes
        /// What `/proc` has of its own processes is writable: a login notes its user there.
        case ownProcesses = "own-processes"
        /// `/proc/sys` and `/sys` are writable, as far as its user and capabilities let it.
        case kernelSettings = "kernel-settings"
    }
}
