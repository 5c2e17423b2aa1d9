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

    init(connection: Int32) {
        user = csystem_peer(connection)
        process = csystem_peer_process(connection)
        if user == 0 || user == geteuid() {
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

    /// The service that the process belongs to, by its control group; nil for none.
    var service: String? {
        guard let bytes = try? File("/proc/\(process)/cgroup").read(4096, at: 0) else { return nil }
        let start = "0::/services/"
        for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") where line.hasPrefix(start) {
            return String(line.dropFirst(start.count).prefix { $0 != "/" })
        }
        return nil
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
