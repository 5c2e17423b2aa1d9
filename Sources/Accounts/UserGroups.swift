import CSystem
import Callers
import Glibc

extension Caller {
    /// The groups of some that its user is in: those of the login that the user has still. A role
    /// may have been taken away since the login.
    ///
    /// Not in ``Callers``: PID 1 is linked statically, and has no name service.
    ///
    /// - Parameter connection: the one that ``init(connection:)`` got.
    public func groups(among groups: [UInt32], _ connection: Int32) -> [UInt32] {
        let now = Self.groups(of: user)
        return groups.filter { csystem_peer_in_group(connection, $0) == 1 && now.contains($0) }
    }

    /// The user's name, or its number.
    public var name: String { Self.name(of: user) }

    /// A user's name, or its number.
    public static func name(of user: UInt32) -> String {
        getpwuid(user).map { String(cString: $0.pointee.pw_name) } ?? "user \(user)"
    }

    /// The groups that the name service knows of.
    public static func groups(of user: UInt32) -> Set<UInt32> {
        guard let entry = getpwuid(user)?.pointee else { return [] }
        var groups = [gid_t](repeating: 0, count: 256)
        var count = Int32(groups.count)
        let name = String(cString: entry.pw_name)
        guard getgrouplist(name, entry.pw_gid, &groups, &count) >= 0 else { return [entry.pw_gid] }
        return Set(groups.prefix(Int(count)))
    }
}
