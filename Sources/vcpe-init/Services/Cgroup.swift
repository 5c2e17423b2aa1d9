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
        try bound(
            path,
            [
                ("memory.max", unit.memory.map { "\($0)" } ?? "max", unit.memory != nil),
                ("pids.max", unit.processes.map { "\($0)" } ?? "max", unit.processes != nil),
                ("cpu.weight", unit.cpuWeight.map { "\($0)" } ?? "100", unit.cpuWeight != nil),
                ("io.weight", unit.ioWeight.map { "\($0)" } ?? "default 100", unit.ioWeight != nil),
            ])
        // A daemon whose process was killed is in no known state; users that it has logged in are
        // each for themselves.
        Text.write(unit.access.contains(.login) ? "0" : "1", to: "\(path)/memory.oom.group")
        let own = "\(path)/run-\(run)"
        guard mkdir(own, 0o755) == 0 else { throw Failure("mkdir", own) }
        let group = Glibc.open(own, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard group >= 0 else { throw Failure("open", own) }
        return group
    }

    /// Makes a group that has groups of its own, all with the controllers that there are.
    static func makeParent(_ path: String) {
        Text.makeFolder(path)
        // One by one: a controller that is refused takes none of the others with it.
        for controller in Text.read("\(path)/cgroup.controllers").split(whereSeparator: { " \n".contains($0) }) {
            Text.write("+\(controller)", to: "\(path)/cgroup.subtree_control")
        }
    }

    /// Sets bounds of a group.
    ///
    /// - Throws: for one that can't be set and must be. A kernel without its controller has no such
    ///   file.
    static func bound(_ path: String, _ bounds: [(name: String, value: String, isNeeded: Bool)]) throws(Failure) {
        for (name, value, isNeeded) in bounds {
            let file = "\(path)/\(name)"
            guard access(file, F_OK) == 0 else { continue }
            if !Text.write(value, to: file), isNeeded { throw Failure("write", file) }
        }
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
