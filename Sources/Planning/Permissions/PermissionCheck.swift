import PluginKit
import Units

/// Whether a plugin's plan stays within what it may have.
struct PermissionCheck {
    let plugin: String
    let isOwn: Bool
    private let granted: Permissions

    init(_ member: Planner.Member) {
        (plugin, isOwn, granted) = (member.manifest.name, member.isOwn, member.granted)
    }

    init(_ manifest: PluginManifest, isOwn: Bool) {
        (plugin, self.isOwn, granted) = (manifest.name, isOwn, manifest.granted)
    }

    private func missing(_ resource: String, _ asked: String, _ path: String, _ value: JSON) -> PermissionViolation {
        PermissionViolation(plugin, resource, asked, .missing(.init(path, value)))
    }

    private func missing(_ key: ResourceKey, _ asked: String, _ path: String, _ value: String) -> PermissionViolation {
        missing("\(key)", asked, "permissions.\(path)", [.text(value)])
    }

    /// - Throws: for the first thing that it may not have.
    func check(_ resource: Resource) throws(PermissionViolation) {
        if let objection = isOwn ? nil : ForeignPlugins.objection(to: resource, of: plugin) { throw objection }
        switch resource.value {
        case let service as ServiceResource: try check(service, resource.key)
        case let object as NftablesResource: try check(object, resource.key)
        case let sysctl as SysctlResource:
            guard granted.sysctls.contains(where: { Permissions.matches(sysctl: $0, sysctl.key) }) else {
                throw missing(resource.key, "its value", "sysctls", sysctl.key)
            }
        case let module as KernelModuleResource:
            guard granted.modules.contains(module.name) else {
                throw missing(
                    "\(resource.key)", "the kernel module", "features[\"base\"].modules", [.text(module.name)])
            }
        case let secret as SecretResource:
            if case .program(let words) = secret.source { try check(program: words, resource.key) }
        case let file as FileResource:
            if !file.check.isEmpty { try check(program: file.check, resource.key) }
        default: break
        }
    }

    private func check(program words: [String], _ key: ResourceKey) throws(PermissionViolation) {
        let program = Permissions.program(of: words)
        guard granted.mayRun(words) else { throw missing(key, "the program \(program)", "programs", program) }
    }

    /// Values that it publishes: allowed ports, and what others plan by.
    func check(publishing value: JSON, _ name: String, in collection: String) throws(PermissionViolation) {
        if collection == "openings" {
            let (transport, port) = (value["protocol"]?.text ?? "", value["port"]?.integer ?? 0)
            guard granted.mayOpen(transport, port) else {
                throw missing(
                    ResourceKey("opening", name), "\(transport) \(port)", "openings", "\(transport) \(port)")
            }
        } else if !isOwn, Permissions.sharedCollections.contains(collection), !granted.publishes.contains(collection) {
            throw missing("\(collection) \(name)", "to publish it", "publishes", [.text(collection)])
        }
    }

    // MARK: - Services

    private func check(_ service: ServiceResource, _ key: ResourceKey) throws(PermissionViolation) {
        let files = service.configurationFiles + service.reloadFiles
        var folders = files.map { ("the configuration file", $0) }
        if case .file(let path) = service.unit.readiness { folders.append(("the ready file", path)) }
        // PID 1 removes the one, and shows the folders of the others to the service.
        if let (what, path) = folders.first(where: { !PluginFolders.isOwn($0.1, of: plugin) }) {
            throw PermissionViolation(
                plugin, "\(key)", "\(what) \(path)",
                .forbidden("it must be below \(PluginFolders.of(plugin).joined(separator: " or "))"))
        }
        let path = "services.\(service.name)"
        guard let allowed = granted.service(service.name) else {
            throw missing(
                "\(key)", "a service", "permissions.\(path)",
                Permissions.Service(service.programsRun, users: [service.user]).json)
        }
        let profile = service.unit.profile ?? Unit.Profile()
        func isBelow(_ path: String, _ allowed: [String]) -> Bool {
            PluginFolders.isOwn(path, of: plugin)
                || Permissions.isPath(path) && allowed.contains { path == $0 || path.hasPrefix($0 + "/") }
        }
        func first(_ asked: [String], _ isAllowed: (String) -> Bool) -> String? { asked.first { !isAllowed($0) } }
        let asked: [(key: String, value: String?)] = [
            ("programs", first(service.programsRun, allowed.programs.contains)),
            ("users", first([service.user], allowed.users.contains)),
            ("capabilities", first(service.unit.capabilities?.names ?? [], allowed.capabilities.contains)),
            ("system-calls", first(profile.systemCalls.map(\.rawValue), allowed.systemCalls.map(\.rawValue).contains)),
            ("families", first(profile.families.map(\.rawValue), allowed.families.map(\.rawValue).contains)),
            (
                "devices",
                first(profile.devices) { name in allowed.devices.contains { Permissions.matches(name: $0, name) } }
            ),
            ("visible", first(profile.visible) { isBelow($0, allowed.visible) }),
            ("writable", first(profile.writable + service.unit.directories) { isBelow($0, allowed.writable) }),
            ("allow", first(profile.permissions.map(\.rawValue), allowed.allows.map(\.rawValue).contains)),
        ]
        for case (let part, let value?) in asked {
            throw missing(key, "\(part) \(value)", "\(path).\(part)", value)
        }
        if service.serviceClass == .login, !allowed.isLogin {
            throw missing("\(key)", "the class login", "permissions.\(path).class", "login")
        }
    }

    // MARK: - Packets

    private func check(_ object: NftablesResource, _ key: ResourceKey) throws(PermissionViolation) {
        switch object {
        case .chain(let chain, let use):
            if let stage = use?.stage, granted.stages[stage] == nil {
                throw missing(key, "the stage \(stage.rawValue)", "stages", stage.rawValue)
            }
            for rule in chain.rules {
                for case .other(let other) in rule.statements { try check(other.value, key) }
            }
        case .helper(let helper):
            guard granted.helpers.contains(helper.kind) else {
                throw missing(key, "the helper \(helper.kind)", "helpers", helper.kind)
            }
        case .flowtable:
            guard granted.hasFastPath else {
                throw missing("\(key)", "a fast path", "permissions.fast-path", true)
            }
        case .set, .elements, .counter, .feed, .savedMarks: break
        }
    }

    private func check(_ statement: any StatementType, _ key: ResourceKey) throws(PermissionViolation) {
        var other: (what: String, name: String)?
        switch statement {
        case let update as Statement.ElementUpdate: other = ("the set", update.set)
        case let update as Statement.MapUpdate: other = ("the map", update.map)
        case let assignment as Statement.HelperAssignment: other = ("the helper", assignment.helper)
        case let offload as Statement.FlowOffload: other = ("the fast path", offload.flowtable)
        default: break
        }
        guard let other, !other.name.hasPrefix(plugin + ".") else { return }
        throw PermissionViolation(
            plugin, "\(key)", "\(other.what) \(other.name)", .forbidden("a plugin's rules change its own alone"))
    }

    /// A chain that can accept at a stage where the plugin may not.
    ///
    /// - Parameters:
    ///   - staged: the plugin's chains that stages call.
    ///   - chains: all chains of the plan.
    func acceptance(
        of staged: [(chain: Chain, stage: Stage)], in chains: [String: Chain]
    ) -> PermissionViolation? {
        for (chain, stage) in staged where granted.stages[stage] != true {
            var seen: Set<String> = [chain.name]
            var rest = [chain]
            while let next = rest.popLast() {
                for statement in next.rules.lazy.flatMap(\.statements) {
                    let (accepts, targets) = Self.outcome(of: statement)
                    if accepts {
                        return missing(
                            ResourceKey(NftablesResource.kind, "chain \(chain.name)"),
                            "to accept at the stage \(stage.rawValue)"
                                + (next.name == chain.name ? "" : ", by the chain \(next.name)"),
                            "stages", "\(stage.rawValue) accept")
                    }
                    for name in targets where seen.insert(name).inserted {
                        if let target = chains[name] { rest.append(target) }
                    }
                }
            }
        }
        return nil
    }

    /// A program may accept what it gets by a queue; a proxied connection is an established one,
    /// which no policy sees; and a packet that is forwarded at ingress meets no rule at all.
    private static func isWayThrough(_ statement: any StatementType) -> Bool {
        statement is Statement.Queue || statement is Statement.SynProxy || statement is Statement.Forward
    }

    /// Whether a statement can accept a packet, and the chains that it leads to.
    private static func outcome(of statement: Statement) -> (accepts: Bool, targets: [String]) {
        switch statement {
        case .verdict(let verdict): (verdict == .accept, [verdict.target].compactMap { $0 })
        case .verdictMap(_, let entries):
            (entries.contains { $0.verdict == .accept }, entries.compactMap(\.verdict.target))
        // What is in it is not looked at: elements come in parts, and packets may put some there.
        case .namedVerdictMap: (true, [])
        case .other(let other): (isWayThrough(other.value), [])
        default: (false, [])
        }
    }
}

extension ServiceResource {
    /// All programs that PID 1 runs for it.
    fileprivate var programsRun: [String] {
        var programs = Array(command.prefix(1))
        if case .command(let reload)? = unit.reload { programs += reload.words.prefix(1) }
        return programs
    }
}
