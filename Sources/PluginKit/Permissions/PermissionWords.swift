import Units

extension Permissions {
    /// What a plugin can do, in words for an operator; the most dangerous first.
    public var words: [String] {
        var words: [String] = []
        for kind in drivers { words.append("can run programs as root: its driver of the kind \(kind)") }
        let names = services.keys.sorted()
        for name in names where services[name]?.users.contains("root") == true {
            words.append("can run programs as root: the service \(name)")
        }
        for (right, services) in access.sorted(by: { $0.key < $1.key }) {
            words.append("\(Self.rights[right] ?? right): \(services.joined(separator: ", "))")
        }
        words += names.flatMap { name in services[name].map { Self.words(of: $0, name) } ?? [] }
        words += programs.map { "can have the engine run \($0), confined, not as root" }
        words += packetWords
        if !openings.isEmpty { words.append("can open ports of the box: \(openings.joined(separator: ", "))") }
        if !sysctls.isEmpty { words.append("can set sysctls \(sysctls.joined(separator: ", "))") }
        if !modules.isEmpty { words.append("can load kernel modules \(modules.joined(separator: ", "))") }
        words += resources.map { Self.kinds[$0] ?? "can plan the kind \($0), which another plugin's program drives" }
        words += publishes.map { "can define \($0), which other plugins use" }
        if !marks.isEmpty { words.append("can set shared packet marks: \(marks.joined(separator: ", "))") }
        for (collection, services) in reports.sorted(by: { $0.key < $1.key }) {
            words.append("can report \(collection), which the box acts on: \(services.joined(separator: ", "))")
        }
        return words.isEmpty ? ["can change nothing but its own files"] : words
    }

    private static let rights = [
        "init": "can start and stop all services, and the box",
        "engine": "can change the whole configuration, as an administrator",
        "login": "can log users in, who may use vcpectl by their roles", "power": "can power off and restart the box",
    ]

    private static let kinds = [
        LinkResource.kind: "can make and change network links", AddressResource.kind: "can set addresses",
        RouteResource.kind: "can set routes", RuleResource.kind: "can set policy rules of routing",
        BridgeVLANResource.kind: "can set VLANs of bridges", ProbeResource.kind: "can have the box probe any address",
        SettingResource.kind: "can change settings of the engine",
    ]

    private var packetWords: [String] {
        let accepted = stages.filter(\.value).keys
        var words: [String] = []
        if accepted.contains(.forward) { words.append("can accept forwarded traffic") }
        let toBox = [Stage.input, .openings].filter(accepted.contains)
        if !toBox.isEmpty {
            words.append("can accept traffic to the box, at \(toBox.map(\.rawValue).joined(separator: " and "))")
        }
        let others = Stage.allCases.filter { stage in
            accepted.contains(stage) && ![.forward, .input, .openings].contains(stage)
        }
        if !others.isEmpty {
            words.append("can let packets pass by later rules at \(others.map(\.rawValue).joined(separator: ", "))")
        }
        let rest = Stage.allCases.filter { stages[$0] == false }
        if !rest.isEmpty {
            words.append("can drop and change packets at \(rest.map(\.rawValue).joined(separator: ", "))")
        }
        if !helpers.isEmpty {
            words.append("can let in connections that others announce: \(helpers.joined(separator: ", "))")
        }
        if hasFastPath { words.append("can let established connections pass by later rules") }
        return words
    }

    private static func words(of service: Service, _ name: String) -> [String] {
        let users = service.users.isEmpty ? "no user" : service.users.joined(separator: " or ")
        var words = ["can run the service \(name) as \(users): \(service.programs.joined(separator: ", "))"]
        let more: [(String, [String])] = [
            ("capabilities", service.capabilities), ("system calls", service.systemCalls.map(\.rawValue)),
            ("address families", service.families.map(\.rawValue)), ("devices", service.devices),
            ("sees", service.visible), ("writes to", service.writable), ("allowed", service.allows.map(\.rawValue)),
        ]
        words += more.filter { !$0.1.isEmpty }.map { "  \(name): \($0.0) \($0.1.joined(separator: ", "))" }
        return words
    }
}
