import Glibc

/// Requests of the control socket that concern services.
extension ServiceTable {
    private static let signals = ["HUP": SIGHUP, "USR1": SIGUSR1, "USR2": SIGUSR2]

    /// - Parameter words: those of the request.
    /// - Returns: lines, the last of which is `ok`, or `error` and the reason.
    mutating func answer(_ words: [String]) -> String {
        let name = words.count > 1 ? words[1] : ""
        let isKnown: Bool
        switch (words.first, words.count) {
        case ("status", 1): return report + "ok\n"
        case ("reload", 1): return reload().map { "problem \($0)\n" }.joined() + "ok\n"
        case ("start", 2): isKnown = start(name)
        case ("stop", 2): isKnown = stop(name)
        case ("restart", 2): isKnown = restart(name)
        case ("retry", 2): isKnown = retry(name)
        case ("reload-service", 2):
            return reloadConfiguration(name).map { "error \($0)\n" } ?? "ok\n"
        case ("session", 3):
            guard let user = UInt32(words[1]), let process = pid_t(words[2]) else {
                return "error a session is of a user and a process, by their numbers\n"
            }
            do throws(Failure) {
                try Sessions.open(user: user, process: process, unit)
                return "ok\n"
            } catch {
                return "error \(error)\n"
            }
        case ("sessions", 1):
            return Sessions.counts.map { "session \($0.user) \($0.count)\n" }.joined() + "ok\n"
        case ("end-sessions", 2):
            guard let user = UInt32(words[1]) else { return "error sessions are of a user, by its number\n" }
            Sessions.end(user: user)
            return "ok\n"
        case ("signal", 3):
            guard let number = Self.signals[words[2]] else { return "error signals are HUP, USR1, USR2\n" }
            isKnown = signal(name, number)
        default:
            return "error known are status, start NAME, stop NAME, restart NAME, retry NAME, reload-service NAME, "
                + "signal NAME HUP|USR1|USR2, session USER PROCESS, sessions, end-sessions USER, reload, poweroff, "
                + "reboot\n"
        }
        return isKnown ? "ok\n" : "error there is no service \(name.prefix(64))\n"
    }
}
