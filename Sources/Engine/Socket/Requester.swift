import Accounts
import Callers
import PluginKit
import Units

extension Caller {
    /// Its role; nil for a caller without one.
    ///
    /// - Parameter unit: the unit of a service, by its name.
    func role(_ connection: Int32, _ unit: (String) -> Unit?) -> Role? {
        if holds(.engine, unit) { return .administrator }
        // Root of a service that logs users in is the daemon, not a user.
        guard user != 0, isLogin(unit) else { return nil }
        return Self.highest(groups(among: Role.allCases.map { UInt32($0.group.number) }, connection))
    }

    /// The highest role of a user as the name service knows it now; nil for none.
    static func role(of user: UInt32) -> Role? { user == 0 ? .administrator : highest(groups(of: user)) }

    private static func highest(_ groups: some Sequence<UInt32>) -> Role? {
        let groups = Set(groups)
        return Role.allCases.filter { groups.contains(UInt32($0.group.number)) }.max()
    }
}
