import Callers
import Clocks
import Glibc
import Units

/// Login sessions: each has a cgroup of its own, apart from the service that logged its user in.
/// What a user does leaves that service and other users their shares.
///
/// The engine asks for it when a session's first process, `vcpectl`, announces itself.
enum Sessions {
    static let folder = "\(Cgroup.root)/sessions"
    /// Of a user at a time.
    static let most = 8
    private static let boundsOfUser = [
        ("memory.max", "\(192 << 20)"), ("pids.max", "64"), ("cpu.weight", "50"), ("io.weight", "default 50"),
    ]
    /// The processes of a session end together.
    private static let boundsOfSession = [
        ("memory.max", "\(96 << 20)"), ("pids.max", "16"), ("memory.oom.group", "1"),
    ]
    /// Sessions go before services if memory runs out.
    private static let oomScoreAdjustment = 500

    /// Moves a process of a service that logs users in into a session of its user.
    ///
    /// - Throws: when the process is none of such a service or not the user's, and when the user
    ///   has ``most`` sessions.
    static func open(user: UInt32, process: pid_t, _ unit: (String) -> Unit?) throws(Failure) {
        guard Cgroup.exists else { return }
        guard case .service(let name) = Caller.origin(of: process), unit(name)?.access.contains(.login) == true,
            user != 0, isOwner(user, of: process)
        else { throw Failure("process \(process) is none that logged user \(user) in") }
        let ofUser = "\(folder)/\(user)"
        Cgroup.makeParent(ofUser)
        try make(ofUser, boundsOfUser)
        endOrphaned(ofUser)
        guard names(ofUser).count < most else {
            throw Failure("the user has \(most) sessions, the most at a time: one of them must end first")
        }
        // A number is used again: the time makes the name that of one session.
        let own = "\(ofUser)/\(process)-\(Uptime.milliseconds)"
        try make(own, boundsOfSession)
        Text.write("\(oomScoreAdjustment)", to: "/proc/\(process)/oom_score_adj")
        guard Text.write("\(process)", to: "\(own)/cgroup.procs") else {
            let failure = Failure("write", "\(own)/cgroup.procs")
            rmdir(own)
            throw failure
        }
    }

    /// Ends all sessions of a user; each group is told by itself, since a group that was told once
    /// takes no new processes with some kernels.
    static func end(user: UInt32) {
        let ofUser = "\(folder)/\(user)"
        for name in names(ofUser) { Text.write("1", to: "\(ofUser)/\(name)/cgroup.kill") }
    }

    /// How many sessions each user has.
    static var counts: [(user: UInt32, count: Int)] {
        names(folder).compactMap { name in
            forgetEnded("\(folder)/\(name)")
            return UInt32(name).map { ($0, names("\(folder)/\(name)").count) }
        }
    }

    private static func make(_ path: String, _ bounds: [(String, String)]) throws(Failure) {
        guard mkdir(path, 0o755) == 0 || errno == EEXIST else { throw Failure("mkdir", path) }
        try Cgroup.bound(path, bounds.map { ($0.0, $0.1, true) })
    }

    /// Ends sessions whose daemon has exited, such as with a lost connection: they count as the
    /// user's.
    private static func endOrphaned(_ ofUser: String) {
        for name in names(ofUser) {
            let process = name.prefix { $0 != "-" }
            // The parent is the second word behind the program's name, which is in parentheses
            // (proc_pid_stat(5)).
            let words = Text.read("/proc/\(process)/stat").split(separator: ")").last?.split(separator: " ") ?? []
            if words.count > 1, words[1] == "1" { Text.write("1", to: "\(ofUser)/\(name)/cgroup.kill") }
        }
        forgetEnded(ofUser)
    }

    /// Groups without a process go; others can't.
    private static func forgetEnded(_ ofUser: String) {
        for name in names(ofUser) { rmdir("\(ofUser)/\(name)") }
    }

    /// Groups within a group: files stand beside them.
    private static func names(_ path: String) -> [String] {
        Text.list(path).filter { access("\(path)/\($0)/cgroup.procs", F_OK) == 0 }
    }

    private static func isOwner(_ user: UInt32, of process: pid_t) -> Bool {
        var status = stat()
        return stat("/proc/\(process)", &status) == 0 && status.st_uid == user
    }
}
