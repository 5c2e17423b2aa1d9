import Callers
import Glibc
import Units

/// cgroup v2: who belongs to which service, and how much they may take.
enum Cgroup {
    static let root = "/sys/fs/cgroup"
    static let services = "\(root)/services"

    static var exists: Bool { access("\(root)/cgroup.procs", F_OK) == 0 }

    /// Makes a service's group with its bounds, and within it one for this run, and opens that; -1
    /// where the kernel has no groups at all. Where it has, a service without its group or without
    /// a bound of its own is not to run.
    ///
    /// A run has a group of its own since some kernels (seen with 6.18) kill whatever is cloned
    /// into a group that was ever told to kill its members.
    static func open(_ path: String, run: String, unit: Unit) throws(Failure) -> Int32 {
        guard exists else { return -1 }
        Text.makeFolder(path)
        for name in Text.list(path) where name.hasPrefix("run-") { rmdir("\(path)/\(name)") }
        let bounds = [
            ("memory.max", unit.memory, "max"), ("pids.max", unit.processes, "max"),
            ("cpu.weight", unit.cpuWeight, "100"), ("io.weight", unit.ioWeight, "default 100"),
        ]
        for (name, bound, unset) in bounds {
            let file = "\(path)/\(name)"
            // A kernel without that controller has no such file.
            guard access(file, F_OK) == 0 else { continue }
            if !Text.write(bound.map { "\($0)" } ?? unset, to: file), bound != nil { throw Failure("write", file) }
        }
        // A daemon whose process was killed is in no known state; users that it has logged in are
        // each for themselves.
        Text.write(unit.access.contains(.login) ? "0" : "1", to: "\(path)/memory.oom.group")
        let own = "\(path)/run-\(run)"
        guard mkdir(own, 0o755) == 0 else { throw Failure("mkdir", own) }
        let group = Glibc.open(own, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard group >= 0 else { throw Failure("open", own) }
        return group
    }

    /// The processes of a group in the order of their numbers; nil where the kernel has no groups.
    static func members(of path: String) -> [pid_t]? {
        guard access("\(path)/cgroup.procs", F_OK) == 0 else { return nil }
        return Text.read("\(path)/cgroup.procs").split(separator: "\n").compactMap { pid_t($0) }.sorted()
    }

    /// The service that a process belongs to, by its group.
    static func service(of pid: pid_t) -> String? {
        if case .service(let name) = Caller.origin(of: pid) { name } else { nil }
    }
}
