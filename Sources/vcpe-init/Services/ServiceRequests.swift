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
        case ("signal", 3):
            guard let number = Self.signals[words[2]] else { return "error signals are HUP, USR1, USR2\n" }
            isKnown = signal(name, number)
        default:
            return "error known are status, start NAME, stop NAME, restart NAME, retry NAME, reload-service NAME, "
                + "signal NAME HUP|USR1|USR2, reload, poweroff, reboot\n"
        }
        return isKnown ? "ok\n" : "error there is no service \(name.prefix(64))\n"
    }
}
