import CSystem
import Clocks
import Glibc
import Units

/// Processes that PID 1 starts.
enum Child {
    /// What a child is, beside its program.
    struct Setting {
        var root: String?
        /// The working directory; nil keeps PID 1's, which is the root.
        var directory: String?
        var umask: UInt32 = 0o022
        /// A cgroup's folder, or -1.
        var cgroup: Int32 = -1
        /// Becomes standard output and error; -1 keeps ours.
        var output: Int32 = -1
        var input: Int32 = -1
        var user: UInt32 = 0
        var group: UInt32 = 0
        var groups: [UInt32] = []
        /// A bit each; nil keeps all.
        var capabilities: UInt64?
        var hasNoNewPrivileges = false
        var readOnlyPaths: [String] = []
        /// What it has of the box; nil for all.
        var profile: Unit.Profile?
        var hasPrivateTmp = false
        var limits: [(resource: Int32, value: UInt64)] = []
        var oomScoreAdjustment: Int32 = 0
        var hasNewSession = true
        /// The file of a network namespace that it enters; nil for PID 1's own.
        var network: String?
    }

    /// Runs a program to its end and returns its exit code, 128 and the signal's number, or nil
    /// when it can't be run.
    static func run(_ program: String, _ arguments: [String], root: String? = nil) -> Int32? {
        guard let pid = try? start(program, arguments, as: Setting(root: root, hasNewSession: false)) else {
            return nil
        }
        return wait(pid)
    }

    /// Waits for a child's end, and feeds the watchdog meanwhile: a check of a large disk takes its
    /// time. Nil when it is none of ours.
    static func wait(_ pid: pid_t) -> Int32? {
        var status: Int32 = 0
        while case let ended = waitpid(pid, &status, WNOHANG), ended != pid {
            if ended < 0, errno != EINTR { return nil }
            Uptime.sleep(milliseconds: 2)
        }
        return status & 0x7F == 0 ? status >> 8 & 0xFF : 128 + (status & 0x7F)
    }

    /// Starts a program.
    ///
    /// - Parameter arguments: the program's own name not among them, unless `name` replaces it.
    static func start(
        _ program: String, _ arguments: [String], name: String? = nil, environment: [String] = [],
        as setting: Setting = Setting(hasNewSession: false)
    ) throws(Failure) -> pid_t {
        let argv = ([name ?? program] + arguments).map { strdup($0) } + [nil]
        let hasPath = environment.contains { $0.hasPrefix("PATH=") }
        let path = hasPath ? [] : ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
        let envp = (path + environment).map { strdup($0) } + [nil]
        let readOnly = setting.readOnlyPaths.map { strdup($0) } + [nil]
        let root = setting.root.map { strdup($0) } ?? nil
        let directory = setting.directory.map { strdup($0) } ?? nil
        let network = setting.network.map { strdup($0) } ?? nil
        defer {
            for pointer in argv + envp + readOnly { free(pointer) }
            free(root)
            free(directory)
            free(network)
        }
        let limits = setting.limits.map { csystem_limit(resource: $0.resource, value: $0.value) }
        var step = [CChar](repeating: 0, count: 28)
        let result = program.withCString { program in
            argv.withUnsafeBufferPointer { argv in
                envp.withUnsafeBufferPointer { envp in
                    readOnly.withUnsafeBufferPointer { readOnly in
                        setting.groups.withUnsafeBufferPointer { groups in
                            limits.withUnsafeBufferPointer { limits in
                                var child = csystem_child(
                                    program: program, arguments: argv.baseAddress, environment: envp.baseAddress,
                                    root: root, directory: directory, umask: setting.umask,
                                    cgroup: setting.cgroup, output: setting.output, error: -1,
                                    input: setting.input,
                                    user: setting.user, group: setting.group, groups: groups.baseAddress,
                                    group_count: Int32(groups.count), capabilities: setting.capabilities ?? 0,
                                    keep_capabilities_only: setting.capabilities == nil ? 0 : 1,
                                    no_new_privileges: setting.hasNoNewPrivileges ? 1 : 0, namespaces: 0,
                                    read_only_paths: setting.readOnlyPaths.isEmpty ? nil : readOnly.baseAddress,
                                    private_tmp: setting.hasPrivateTmp ? 1 : 0,
                                    limits: limits.baseAddress,
                                    limit_count: Int32(limits.count),
                                    oom_score_adjustment: setting.oomScoreAdjustment, ends_with_parent: 0,
                                    new_session: setting.hasNewSession ? 1 : 0, network: network,
                                    view: nil, calls: nil)
                                return start(&child, setting.profile, &step)
                            }
                        }
                    }
                }
            }
        }
        guard result > 0 else {
            let what = String(decoding: step.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
            throw Failure(what.isEmpty ? "clone3" : what, program, code: -result)
        }
        return result
    }

    /// Starts a child with a profile.
    private static func start(
        _ child: inout csystem_child, _ profile: Unit.Profile?, _ step: inout [CChar]
    ) -> Int32 {
        guard let profile else { return csystem_spawn(&child, &step) }
        let lists = [profile.writable, profile.visible, profile.devices].map { paths in
            paths.map { strdup($0) } + [nil]
        }
        defer { for pointer in lists.joined() { free(pointer) } }
        let families = (Unit.AddressFamily.usual + profile.families).map(\.number)
        func has(_ permission: Unit.Permission) -> Int32 { profile.permissions.contains(permission) ? 1 : 0 }
        return lists[0].withUnsafeBufferPointer { writable in
            lists[1].withUnsafeBufferPointer { visible in
                lists[2].withUnsafeBufferPointer { devices in
                    families.withUnsafeBufferPointer { families in
                        var view = csystem_view(
                            writable: writable.baseAddress, visible: visible.baseAddress, devices: devices.baseAddress,
                            processes: has(.processes), own_processes: has(.ownProcesses),
                            kernel_settings: has(.kernelSettings), new_code: has(.newCode), bare: 0)
                        var calls = csystem_calls(
                            sets: profile.systemCalls.reduce(0) { $0 | $1.bit }, families: families.baseAddress,
                            family_count: Int32(families.count), namespaces: has(.namespaces))
                        return withUnsafePointer(to: &view) { view in
                            withUnsafePointer(to: &calls) { calls in
                                (child.view, child.calls) = (view, calls)
                                return csystem_spawn(&child, &step)
                            }
                        }
                    }
                }
            }
        }
    }
}
