import Glibc

/// Exit codes as a shell has them: 128 and the number of the signal that ended the process.
enum ExitCode {
    /// The code, with the signal that it stands for.
    static func text(_ code: Int32) -> String {
        guard (129...192).contains(code), let name = strsignal(code - 128) else { return "\(code)" }
        return "\(code) (signal \(code - 128), \(String(cString: name)))"
    }
}
