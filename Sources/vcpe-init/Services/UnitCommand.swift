import Glibc
import Units

extension Unit {
    /// Where ip-netns(8) keeps network namespaces, and the engine.
    private static let networks = "/run/netns"

    /// Starts a command of the unit.
    ///
    /// - Parameters:
    ///   - main: the pid of the service's main process; 0 when there is none.
    ///   - cgroup: an open folder of the cgroup, or -1.
    ///   - output: becomes its standard output and error.
    func start(_ command: Command, main: pid_t, cgroup: Int32, output: Int32) throws(Failure) -> pid_t {
        var environment = environment.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
        environment.append("NOTIFY_SOCKET=\(Notifications.path)")
        if let watchdog { environment.append("WATCHDOG_USEC=\(watchdog * 1_000_000)") }
        if main > 0 { environment.append("MAINPID=\(main)") }
        var setting = Child.Setting(
            cgroup: cgroup, output: output, oomScoreAdjustment: Int32(oomScoreAdjustment))
        if !command.isPrivileged {
            setting.user = user
            setting.group = group
            setting.groups = groups
            setting.capabilities = capabilities?.mask
            // seccomp(2) wants it, too.
            setting.hasNoNewPrivileges = hasNoNewPrivileges || profile != nil
            setting.readOnlyPaths = readOnly
            // By it, root without capabilities would leave the cgroup that it is known by.
            if profile == nil, capabilities != nil, Cgroup.exists { setting.readOnlyPaths.append(Cgroup.root) }
            setting.profile = profile
            // What PID 1 makes for it is its own.
            setting.profile?.writable += directories
            // A view has temporary folders of its own.
            setting.hasPrivateTmp = hasPrivateTmp && profile == nil
            setting.limits = limits.map { ($0.key.resource, $0.value) }
            setting.directory = workingDirectory
            setting.umask = umask
            setting.network = network.map { "\(Self.networks)/\($0)" }
        }
        let words = command.words.map { Self.substituted($0, main: main) }
        return try Child.start(words[0], Array(words.dropFirst()), environment: environment, as: setting)
    }

    /// A word with `${MAINPID}` replaced.
    private static func substituted(_ word: String, main: pid_t) -> String {
        let name = Array("${MAINPID}".utf8)
        let bytes = Array(word.utf8)
        guard main > 0, bytes.count >= name.count else { return word }
        var result: [UInt8] = []
        var i = 0
        while i < bytes.count {
            if bytes[i...].starts(with: name) {
                result += Array("\(main)".utf8)
                i += name.count
            } else {
                result.append(bytes[i])
                i += 1
            }
        }
        return String(decoding: result, as: UTF8.self)
    }
}
