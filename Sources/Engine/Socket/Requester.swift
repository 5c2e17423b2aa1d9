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
        let numbers = groups(among: Role.allCases.map { UInt32($0.group.number) }, connection)
        return Role.allCases.filter { numbers.contains(UInt32($0.group.number)) }.max()
    }
}
