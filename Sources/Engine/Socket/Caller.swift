import CSystem
import Files
import Glibc
import PluginKit

/// The process at the other end of a connection, as the kernel knows it.
struct Caller {
    let user: uid_t
    /// Nil for a user without a role.
    let role: Role?
    /// Zero when it is unknown.
    let process: pid_t
    /// The service that the process belongs to.
    let service: Membership

    enum Membership: Equatable {
        case service(String)
        /// It belongs to none.
        case none
        /// The process is gone, or its number may be another's by now.
        case unknown
    }

    /// - Parameter hasRole: whether the user's role is looked up; else the service is.
    init(connection: Int32, hasRole: Bool) {
        user = csystem_peer(connection)
        process = csystem_peer_process(connection)
        service = hasRole ? .unknown : Self.membership(of: process, user, connection)
        if !hasRole {
            role = nil
        } else if user == 0 || user == geteuid() {
            role = .administrator
        } else {
            // A role counts when the user had it at login and has it still: it may have been taken away since.
            let now = Self.groups(of: user)
            role =
                Role.allCases.filter {
                    csystem_peer_in_group(connection, UInt32($0.group.number)) == 1
                        && now.contains(gid_t($0.group.number))
                }.max()
        }
    }

    /// The service of a process, by its control group.
    private static func membership(of process: pid_t, _ user: uid_t, _ connection: Int32) -> Membership {
        guard process > 0, let bytes = try? File("/proc/\(process)/cgroup").read(4096, at: 0) else { return .unknown }
        // Only of a process that is there still, the number was its own.
        switch csystem_peer_lives(connection) {
        case 1: break
        case 0: return .unknown
        default:
            // Before Linux 6.5 the kernel can't say (SO_PEERPIDFD). Another user's process is another one.
            var status = stat()
            guard stat("/proc/\(process)", &status) == 0, status.st_uid == user else { return .unknown }
        }
        let start = "0::/services/"
        for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") where line.hasPrefix(start) {
            return .service(String(line.dropFirst(start.count).prefix { $0 != "/" }))
        }
        return .none
    }

    /// The user's name, or its number.
    var name: String { getpwuid(user).map { String(cString: $0.pointee.pw_name) } ?? "user \(user)" }

    /// The groups that the name service knows of.
    private static func groups(of user: uid_t) -> Set<gid_t> {
        guard let entry = getpwuid(user)?.pointee else { return [] }
        var groups = [gid_t](repeating: 0, count: 256)
        var count = Int32(groups.count)
        let name = String(cString: entry.pw_name)
        guard getgrouplist(name, entry.pw_gid, &groups, &count) >= 0 else { return [entry.pw_gid] }
        return Set(groups.prefix(Int(count)))
    }
}
