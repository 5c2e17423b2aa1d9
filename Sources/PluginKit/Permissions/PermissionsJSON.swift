import Units

extension Permissions {
    /// As in a manifest; with what other keys of a manifest grant where there is such.
    public var json: JSON {
        func list(_ items: [String]) -> JSON? { items.isEmpty ? nil : .texts(items) }
        func lists(_ lists: [String: [String]]) -> JSON? {
            lists.isEmpty ? nil : .object(lists.mapValues { .texts($0) })
        }
        let stages = Stage.allCases.compactMap { stage in
            self.stages[stage].map { stage.rawValue + ($0 ? " accept" : "") }
        }
        return .object([
            "programs": list(programs), "services": services.isEmpty ? nil : .object(services.mapValues(\.json)),
            "sysctls": list(sysctls), "stages": list(stages), "openings": list(openings), "helpers": list(helpers),
            "fast-path": hasFastPath ? .boolean(true) : nil, "resources": list(resources),
            "publishes": list(publishes), "modules": list(modules), "marks": list(marks), "drivers": list(drivers),
            "access": lists(access), "reports": lists(reports),
        ])
    }

    /// The key `permissions` of a manifest.
    static var shape: Shape<Permissions> { shape("what the plugin may have at most", ofDefinition: false) }

    /// The key `allow` of a definition: what a manifest's other keys grant stands there, too.
    public static var allowed: Shape<Permissions> {
        shape("what the plugin may have, as vcpe plugin describe prints it", ofDefinition: true)
    }

    private static func shape(_ words: String, ofDefinition: Bool) -> Shape<Permissions> {
        .mapping(words) { fields in
            var permissions = Permissions()
            func pairs<Value>(_ pairs: [(key: String, value: Value)]?) -> [String: Value] {
                Dictionary((pairs ?? []).map { ($0.key, $0.value) }) { $1 }
            }
            permissions.programs = fields.optional("programs", .list(of: program)) ?? []
            permissions.services = pairs(fields.optional("services", .dictionary(serviceName, Service.shape)))
            permissions.sysctls = fields.optional("sysctls", .list(of: sysctl)) ?? []
            permissions.stages = pairs(
                (fields.optional("stages", .list(of: stage)) ?? []).map { (key: $0.0.rawValue, value: $0.1) }
            ).reduce(into: [:]) { stages, pair in stages[Stage(rawValue: pair.key) ?? .input] = pair.value }
            permissions.openings = fields.optional("openings", .list(of: opening)) ?? []
            permissions.helpers = fields.optional("helpers", .list(of: .text)) ?? []
            permissions.hasFastPath = fields.optional("fast-path", .boolean) ?? false
            guard ofDefinition else { return permissions }
            permissions.resources = fields.optional("resources", .list(of: .name)) ?? []
            permissions.publishes =
                fields.optional("publishes", .list(of: .oneOf(sharedCollections.sorted()))) ?? []
            permissions.modules = fields.optional("modules", .list(of: .text)) ?? []
            permissions.marks = fields.optional("marks", .list(of: .text)) ?? []
            permissions.drivers = fields.optional("drivers", .list(of: .name)) ?? []
            let rights = Shape<String>.oneOf(Unit.Access.allCases.map(\.rawValue))
            permissions.access = pairs(fields.optional("access", .dictionary(rights, .list(of: .text))))
            permissions.reports = pairs(fields.optional("reports", .dictionary(.name, .list(of: .text))))
            return permissions
        }
    }

    private static var program: Shape<String> {
        .text("an absolute path, and behind a blank its first argument or *") { text in
            let words = text.split(separator: " ", maxSplits: 1, omittingEmptySubsequences: false)
            return words[0].count > 1 && isPath(String(words[0])) && (words.count == 1 || !words[1].isEmpty)
        }
    }

    /// An absolute path that leads nowhere else than it says.
    public static func isPath(_ text: String) -> Bool {
        text.hasPrefix("/")
            && text.dropFirst().split(separator: "/", omittingEmptySubsequences: false).allSatisfy {
                !$0.isEmpty && $0 != "." && $0 != ".."
            }
    }

    fileprivate static var path: Shape<String> {
        .text("an absolute path without \".\", \"..\" or doubled slashes") { isPath($0) }
    }

    private static var serviceName: Shape<String> {
        .text("a service's name, of which the last character may be *") { name in
            Unit.isName(name) || name.hasSuffix("*") && Unit.isName(String(name.dropLast()))
        }
    }

    private static var sysctl: Shape<String> {
        .text("a path below /proc/sys, such as net/ipv4/conf/*/arp_ignore; * is one name, or the rest") { text in
            let names = text.hasSuffix("*") ? text.dropLast() : text[...]
            return isPath("/" + text) && names.split(separator: "/").allSatisfy { $0 == "*" || !$0.contains("*") }
        }
    }

    private static var stage: Shape<(Stage, Bool)> {
        let names = Stage.allCases.map(\.rawValue).joined(separator: ", ")
        return .scalar("a stage, with accept behind it where the plugin accepts packets there; stages are \(names)") {
            scalar in
            let words = scalar.text.split(separator: " ").map(String.init)
            guard let name = words.first, let stage = Stage(rawValue: name),
                words.dropFirst().allSatisfy({ $0 == "accept" }),
                words.count <= 2
            else { return nil }
            return (stage, words.count == 2)
        }
    }

    private static var opening: Shape<String> {
        .text("tcp or udp, and a port or a range of ports, such as tcp 53 or udp 5000-5010") { ports(of: $0) != nil }
    }

    /// The protocol and the ports of an opening's permission.
    static func ports(of opening: String) -> (transport: String, ports: ClosedRange<Int>)? {
        let words = opening.split(separator: " ").map(String.init)
        guard words.count == 2, ["tcp", "udp"].contains(words[0]) else { return nil }
        let ends = words[1].split(separator: "-", omittingEmptySubsequences: false).map { Int($0) ?? 0 }
        guard (1...2).contains(ends.count), let first = ends.first, let last = ends.last,
            ends.allSatisfy({ (1...65535).contains($0) }), first <= last
        else { return nil }
        return (words[0], first...last)
    }

    public func mayOpen(_ transport: String, _ port: Int) -> Bool {
        openings.contains { opening in
            Self.ports(of: opening).map { $0.transport == transport && $0.ports.contains(port) } ?? false
        }
    }
}

extension Permissions.Service {
    public var json: JSON {
        func list(_ items: [String]) -> JSON? { items.isEmpty ? nil : .texts(items) }
        return .object([
            "programs": list(programs), "users": list(users), "capabilities": list(capabilities),
            "system-calls": list(systemCalls.map(\.rawValue)), "families": list(families.map(\.rawValue)),
            "devices": list(devices), "visible": list(visible), "writable": list(writable),
            "allow": list(allows.map(\.rawValue)), "class": isLogin ? "login" : nil,
        ])
    }

    static var shape: Shape<Permissions.Service> {
        .mapping("what a service may have at most") { fields in
            func words<Word: RawRepresentable & CaseIterable>(_ type: Word.Type) -> Shape<[Word]>
            where Word.RawValue == String {
                .list(of: Shape.oneOf(Word.allCases.map(\.rawValue)).map { Word(rawValue: $0) })
            }
            let paths = Shape<[String]>.list(of: Permissions.path)
            let programs = fields.required("programs", paths)
            var service = Permissions.Service(programs ?? [])
            service.users = fields.optional("users", .list(of: .text)) ?? []
            service.capabilities = fields.optional("capabilities", .list(of: .oneOf(Capabilities.names))) ?? []
            service.systemCalls = fields.optional("system-calls", words(Unit.SystemCalls.self)) ?? []
            service.families = fields.optional("families", words(Unit.AddressFamily.self)) ?? []
            service.devices = fields.optional("devices", .list(of: .text)) ?? []
            service.visible = fields.optional("visible", paths) ?? []
            service.writable = fields.optional("writable", paths) ?? []
            service.allows = fields.optional("allow", words(Unit.Permission.self)) ?? []
            service.isLogin = fields.optional("class", .oneOf(["login"])) != nil
            return programs == nil ? nil : service
        }
    }
}

extension Permissions {
    /// A single permission: `services.lan-dnsmasq.capabilities` and `net_raw`.
    public struct Grant: Sendable, Hashable, Comparable, CustomStringConvertible {
        public var path: String
        public var value: JSON

        public init(_ path: String, _ value: JSON) { (self.path, self.value) = (path, value) }

        public var description: String { "\(path): \(value.line)" }

        public static func < (one: Grant, other: Grant) -> Bool {
            (one.path, one.value.line) < (other.path, other.value.line)
        }
    }

    /// Each permission by itself, sorted.
    public var grants: [Grant] {
        func grants(_ json: JSON, _ path: String) -> [Grant] {
            if let object = json.object {
                return object.flatMap { grants($0.value, path.isEmpty ? $0.key : "\(path).\($0.key)") }
            }
            return (json.list ?? [json]).map { Grant(path, json.list == nil ? $0 : [$0]) }
        }
        return Set(grants(json, "")).sorted()
    }

    /// Permissions that this has and another one does not.
    public func beyond(_ other: Permissions) -> [Grant] {
        let known = Set(other.grants)
        return grants.filter { !known.contains($0) }
    }
}
