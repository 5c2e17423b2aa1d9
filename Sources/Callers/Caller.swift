import CSystem
import Glibc
import Units

/// A process that asks PID 1, the engine or the updater for something, as the kernel knows it.
///
/// User 0 alone proves nothing: many daemons are root, and one that is taken over must not command
/// the box. PID 1 puts each service into a cgroup of its own, so the cgroup tells which one asks.
public struct Caller: Sendable {
    public let user: UInt32
    /// Zero when it is unknown.
    public let process: Int32
    public let origin: Origin

    public enum Origin: Sendable, Hashable {
        /// A service of PID 1.
        case service(String)
        /// A login session.
        case session(String)
        /// PID 1 itself, or a helper that it started beside the services.
        case system
        /// The process is gone, its number may be another's by now, or it is of another namespace.
        case unknown
    }

    /// The process that made a connection of a Unix socket.
    public init(connection: Int32) {
        user = csystem_peer(connection)
        process = csystem_peer_process(connection)
        let found = Self.origin(of: process)
        // The number was the process's own if the process is there still, after its cgroup was
        // read.
        switch csystem_peer_lives(connection) {
        case 1: origin = found
        case 0: origin = .unknown
        default:
            // Before Linux 6.5 the kernel can't say (SO_PEERPIDFD). Another user's process is
            // another one.
            var status = stat()
            let isTheirs = stat("/proc/\(process)", &status) == 0 && status.st_uid == user
            origin = isTheirs ? found : .unknown
        }
    }

    public init(user: UInt32, process: Int32, origin: Origin) {
        (self.user, self.process, self.origin) = (user, process, origin)
    }

    /// What a process belongs to, by its cgroup; the number may be reused meanwhile.
    public static func origin(of process: Int32) -> Origin {
        guard process > 0, let text = text(of: "/proc/\(process)/cgroup", limit: 4096) else { return .unknown }
        for line in text.split(separator: "\n") where line.hasPrefix("0::") {
            // `0::/services/NAME/run-…`
            let parts = line.dropFirst(3).split(separator: "/")
            guard parts.count > 1 else { return .system }
            switch parts[0] {
            case "services": return .service(String(parts[1]))
            case "sessions": return .session(String(parts[1]))
            default: return .system
            }
        }
        return .unknown
    }

    /// Whether it may do what a unit's `access` allows.
    ///
    /// - Parameter unit: the unit of a service, by its name.
    public func holds(_ access: Unit.Access, _ unit: (String) -> Unit?) -> Bool {
        switch origin {
        case .system: user == 0 || user == geteuid()
        case .service(let name):
            // The engine runs plugins, as other users in its own cgroup.
            unit(name).map { $0.user == user && $0.access.contains(access) } == true
        case .session, .unknown: false
        }
    }

    /// Whether a user may act by it with the user's own role: in a login session, or in a service
    /// that logs users in.
    public func isLogin(_ unit: (String) -> Unit?) -> Bool {
        switch origin {
        case .session, .system: true
        case .service(let name): unit(name)?.access.contains(.login) == true
        case .unknown: false
        }
    }

    /// How an error names it.
    public var description: String {
        switch origin {
        case .service(let name): "the service \(name)"
        case .session(let name): "the session \(name)"
        case .system: "process \(process)"
        case .unknown: "a process that has ended or is of another namespace"
        }
    }

    /// A file's text; nil when it can't be read.
    static func text(of path: String, limit: Int) -> String? {
        let file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)
        guard file >= 0 else { return nil }
        defer { close(file) }
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4096)
        while bytes.count < limit {
            let count = read(file, &buffer, min(buffer.count, limit - bytes.count))
            if count < 0, errno == EINTR { continue }
            if count < 0 { return nil }
            if count == 0 { break }
            bytes += buffer[..<count]
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
