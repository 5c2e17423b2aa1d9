extension Unit {
    /// What a service could do to the box if it were taken over: 0 for nothing, 100 for everything.
    ///
    /// A measure to compare services by and to notice that one got more, not one of danger: a
    /// daemon that talks to the internet is attacked more than another with the same exposure.
    public struct Exposure: Sendable, Hashable {
        public private(set) var score = 0
        /// What counts, such as `user 0` or `net_admin`.
        public private(set) var reasons: [String] = []

        fileprivate mutating func add(_ points: Int, _ reason: String) {
            score += points
            reasons.append(reason)
        }

        /// Adds at most so many points for all of some.
        fileprivate mutating func add(_ all: [(points: Int, reason: String)], atMost most: Int) {
            score += min(most, all.reduce(0) { $0 + $1.points })
            reasons += all.map(\.reason)
        }
    }

    public var exposure: Exposure {
        var exposure = Exposure()
        if user == 0 { exposure.add(15, "user 0") }
        if let capabilities {
            exposure.add(capabilities.names.map { (Self.points(ofCapability: $0), $0) }, atMost: 25)
        } else {
            exposure.add(25, "all capabilities")
        }
        if let profile {
            exposure.add(Self.points(of: profile), atMost: 40)
        } else {
            exposure.add(40, "not strict")
            if !hasNoNewPrivileges { exposure.add(5, "new privileges") }
        }
        if memory == nil { exposure.add(3, "memory without bound") }
        if processes == nil { exposure.add(3, "processes without bound") }
        for right in access { exposure.add(right == .`init` || right == .engine ? 9 : 3, "access \(right.rawValue)") }
        return exposure
    }

    private static func points(ofCapability name: String) -> Int {
        switch name {
        case "sys_admin", "sys_module", "sys_rawio": 10
        case "sys_ptrace": 8
        case "dac_override": 5
        case "setuid", "net_admin": 4
        case "setgid", "setpcap", "dac_read_search", "chown": 3
        case "fowner", "kill", "net_raw", "sys_time", "sys_chroot": 2
        default: 1
        }
    }

    private static func points(of profile: Profile) -> [(points: Int, reason: String)] {
        let devices = profile.devices.map {
            (points: $0 == "*" ? 12 : 1, reason: $0 == "*" ? "all devices" : "device \($0)")
        }
        let calls = profile.systemCalls.map { set -> (points: Int, reason: String) in
            switch set {
            case .all: (12, "all calls")
            case .modules: (8, "calls modules")
            case .mount: (6, "calls mount")
            case .debug: (5, "calls debug")
            case .clock, .users: (2, "calls \(set.rawValue)")
            case .chroot, .kernelLog, .numa: (1, "calls \(set.rawValue)")
            }
        }
        let families = profile.families.map { (points: $0 == .packet ? 2 : 1, reason: $0.rawValue) }
        let permissions = profile.permissions.map { permission -> (points: Int, reason: String) in
            switch permission {
            case .kernelSettings: (4, permission.rawValue)
            case .namespaces: (3, permission.rawValue)
            case .processes: (2, permission.rawValue)
            case .newCode, .ownProcesses: (1, permission.rawValue)
            }
        }
        return devices + calls + families + permissions
    }
}
