extension Resource {
    public var kind: ResourceKind {
        switch self {
        case .kernelModule: .kernelModule
        case .sysctl: .sysctl
        case .chain, .set, .elements, .counter, .helper, .flowtable, .feed: .nftables
        case .link: .link
        case .address: .address
        case .route: .route
        case .directory: .directory
        case .file: .file
        case .service: .service
        case .rule: .rule
        case .secret: .secret
        case .probe: .probe
        case .setting: .setting
        }
    }

    /// Unique within its kind: two resources with one identity are a conflict.
    public var identity: String {
        switch self {
        case .kernelModule(let name): name
        case .sysctl(let key, _): key
        case .chain(let chain, _): "chain \(chain.name)"
        case .set(let set): "set \(set.name)"
        case .elements(let part): "elements \(part.set) \(part.part)"
        case .counter(let counter): "counter \(counter.name)"
        case .flowtable: "flowtable"
        case .helper(let helper): "helper \(helper.name)"
        case .feed(let feed): "feed \(feed.name)"
        case .link(let link): link.name
        case .address(let link, let address): "\(link) \(address)"
        case .route(let route):
            "\(route.destination) \(route.metric)"
                + (route.table == RouteResource.mainTable ? "" : " table \(route.table)")
        case .directory(let path, _, _), .file(let path, _, _, _): path
        case .service(let service): service.name
        case .rule(let rule): "\(rule.family == .ipv4 ? "ipv4" : "ipv6") \(rule.priority)"
        case .secret(let name, _): name
        case .probe(let probe): probe.name
        case .setting(.drift): "drift"
        case .setting(.notice): "notice"
        }
    }

    /// One line of a plan.
    public var json: JSON {
        var entries = body
        entries["kind"] = .text(kind.rawValue)
        entries["id"] = .text(identity)
        return .object(entries)
    }

    private var body: [String: JSON] {
        func object(_ entries: KeyValuePairs<String, JSON?>) -> [String: JSON] { JSON.object(entries).object ?? [:] }
        switch self {
        case .kernelModule: return [:]
        case .sysctl(_, let value): return ["value": .text(value)]
        case .chain(let chain, let use):
            return object([
                "chain": ["name": .text(chain.name), "rules": .list(chain.rules.map(\.json))],
                "stage": use.map { .text($0.stage.rawValue) }, "order": use.map { .integer($0.order) },
                "devices": use.flatMap { $0.devices.isEmpty ? nil : .texts($0.devices) },
            ])
        case .elements(let part): return ["elements": part.json]
        case .set(let set): return [set.content == .members ? "set" : "map": set.json]
        case .counter(let counter): return ["counter": counter.json]
        case .flowtable(let flowtable): return ["flowtable": flowtable.json]
        case .helper(let helper): return ["ct helper": helper.json]
        case .feed(let feed): return ["feed": feed.json]
        case .link(let link):
            var entries = object([
                "name": .text(link.name), "master": link.master.map { .text($0) }, "mtu": link.mtu.map { .integer($0) },
            ])
            switch link.kind {
            case .port(let path, let mac):
                entries["port"] = ["path": .text(path), "mac": .text(mac.description)]
            case .bridge: entries["bridge"] = [:]
            }
            return entries
        case .address(let link, let address): return ["link": .text(link), "address": .text(address.description)]
        case .route(let route):
            return object([
                "to": .text(route.destination.description), "via": route.gateway.map { .text($0.description) },
                "link": route.link.map { .text($0) }, "metric": .integer(route.metric),
                "table": route.table == RouteResource.mainTable ? nil : .integer(route.table),
            ])
        case .directory(let path, let owner, let mode):
            return ["path": .text(path), "owner": .text(owner), "mode": .integer(mode)]
        case .file(let path, let content, let owner, let mode):
            return [
                "path": .text(path), "content": .text(content), "owner": .text(owner), "mode": .integer(mode),
            ]
        case .service(let service):
            return object([
                "name": .text(service.name), "command": .texts(service.command), "user": .text(service.user),
                "capabilities": .texts(service.capabilities), "ready": .text(service.readiness.text),
                "directories": .texts(service.directories),
                "configuration-files": .texts(service.configurationFiles),
                "reload-files": service.reloadFiles.isEmpty ? nil : .texts(service.reloadFiles),
                "memory": service.memory.map { .integer($0) },
            ])
        case .rule(let rule):
            return object([
                "family": rule.family == .ipv4 ? "ipv4" : "ipv6", "priority": .integer(rule.priority),
                "table": .integer(rule.table), "from": rule.source.map { .text($0.description) },
                "to": rule.destination.map { .text($0.description) }, "interface": rule.interface.map { .text($0) },
                "mark": rule.mark.map { .integer(Int($0)) }, "mask": rule.mask.map { .integer(Int($0)) },
            ])
        case .secret(_, .bytes(let bytes)): return ["bytes": .integer(bytes)]
        case .secret(_, .program(let words)): return ["program": .texts(words)]
        case .probe(let probe):
            var entries: [String: JSON] = [
                "interval": .integer(probe.interval), "timeout": .integer(probe.timeout),
                "threshold": .integer(probe.threshold),
            ]
            switch probe.check {
            case .ping(let address): entries["ping"] = .text(address.description)
            case .tcp(let address, let port):
                entries["tcp"] = ["address": .text(address.description), "port": .integer(port)]
            case .dns(let server, let name):
                entries["dns"] = ["server": .text(server.description), "name": .text(name)]
            }
            return entries
        case .setting(.drift(let drift)): return ["value": .text(drift.rawValue)]
        case .setting(.notice(let text)): return ["value": .text(text)]
        }
    }

    /// Reads one line of a plan.
    ///
    /// - Throws: ``InvalidResource`` with what is wrong with it.
    public init(_ json: JSON) throws(InvalidResource) {
        let reader = ResourceReader(json: json)
        do {
            self = try reader.resource()
        } catch let error as InvalidResource {
            throw error
        } catch {
            throw InvalidResource("\(error)", json)
        }
        guard json["id"]?.text == identity else {
            throw InvalidResource("its id is \"\(json["id"]?.text ?? "")\", and must be \"\(identity)\"", json)
        }
    }
}

extension ServiceResource.Readiness {
    var text: String {
        switch self {
        case .started: "started"
        case .notified: "notify"
        case .file(let path): "file \(path)"
        }
    }

    init?(_ text: String) {
        switch text {
        case "started": self = .started
        case "notify": self = .notified
        default:
            guard text.hasPrefix("file /") else { return nil }
            self = .file(String(text.dropFirst(5)))
        }
    }
}

/// A line of a plan that is no resource.
public struct InvalidResource: Error, Sendable, CustomStringConvertible {
    public var description: String

    init(_ what: String, _ json: JSON) {
        let text = json.line
        description = "\(what) in \(text.prefix(300))\(text.count > 300 ? "…" : "")"
    }
}

/// Takes a line of a plan apart.
private struct ResourceReader {
    let json: JSON

    private func required(_ key: String) throws(InvalidResource) -> String {
        guard let text = json[key]?.text else { throw InvalidResource("the text \"\(key)\" is missing", json) }
        return text
    }

    /// A number within a range; nil for what isn't there.
    private func number(_ key: String, _ range: ClosedRange<Int>) throws(InvalidResource) -> Int? {
        guard let value = json[key] else { return nil }
        guard let number = value.integer, range.contains(number) else {
            throw InvalidResource(
                "\"\(key)\" is no number from \(range.lowerBound) to \(range.upperBound)", json)
        }
        return number
    }

    private static let modes = 0...0o7777

    private func texts(_ key: String) throws(InvalidResource) -> [String] {
        guard let value = json[key] else { return [] }
        guard let items = value.list else { throw InvalidResource("\"\(key)\" is no list", json) }
        return try items.map { (item: JSON) throws(InvalidResource) -> String in
            guard let text = item.text else {
                throw InvalidResource("\"\(key)\" holds something else than texts", json)
            }
            return text
        }
    }

    private func value<Value>(_ key: String, _ make: (String) -> Value?) throws(InvalidResource) -> Value {
        let text = try required(key)
        guard let value = make(text) else { throw InvalidResource("\"\(key)\" can't be \"\(text)\"", json) }
        return value
    }

    private func optional<Value>(_ key: String, _ make: (String) -> Value?) throws(InvalidResource) -> Value? {
        json[key] == nil ? nil : try value(key, make)
    }

    func resource() throws -> Resource {
        guard let kind = (json["kind"]?.text).flatMap(ResourceKind.init) else {
            throw InvalidResource(
                "the kind \"\(json["kind"]?.text ?? "")\" is not known; kinds are "
                    + ResourceKind.allCases.map(\.rawValue).joined(separator: ", "), json)
        }
        switch kind {
        case .kernelModule: return .kernelModule(try required("id"))
        case .sysctl:
            return .sysctl(key: try required("id"), value: try required("value"))
        case .nftables: return try nftables()
        case .link: return .link(try link())
        case .address: return .address(link: try required("link"), try value("address") { IPPrefix($0) })
        case .route:
            return .route(
                RouteResource(
                    to: try value("to") { IPPrefix($0) }, via: try optional("via") { IPAddress($0) },
                    link: json["link"]?.text, metric: try number("metric", 0...Int(UInt32.max)) ?? 0,
                    table: try number("table", Self.tables) ?? RouteResource.mainTable))
        case .directory:
            return .directory(
                path: try required("path"), owner: try required("owner"), mode: try number("mode", Self.modes) ?? 0o755)
        case .file:
            return .file(
                path: try required("path"), content: try required("content"), owner: try required("owner"),
                mode: try number("mode", Self.modes) ?? 0o644)
        case .service: return .service(try service())
        case .rule: return .rule(try rule())
        case .secret:
            return .secret(name: try required("id"), try secret())
        case .probe: return .probe(try probe())
        case .setting:
            switch try required("id") {
            case "drift": return .setting(.drift(try value("value") { Setting.Drift(rawValue: $0) }))
            case "notice": return .setting(.notice(try required("value")))
            default: throw InvalidResource("settings are drift and notice", json)
            }
        }
    }

    private func secret() throws -> SecretSource {
        if json["program"] == nil { return .bytes(try number("bytes", 8...1024) ?? 32) }
        let words = try texts("program")
        guard words.first?.hasPrefix("/") == true else {
            throw InvalidResource("\"program\" is no list of an absolute path and its arguments", json)
        }
        return .program(words)
    }

    /// Numbers of routing tables: 0 is none, and 255 the kernel's own.
    private static let tables = 1...Int(UInt32.max)

    private func rule() throws -> RuleResource {
        let family: IPAddress.Family = try value("family") { ["ipv4": .ipv4, "ipv6": .ipv6][$0] }
        let wide = 0...Int(UInt32.max)
        // The first and the last three are the kernel's own.
        guard let priority = try number("priority", 1...32_765), let table = try number("table", Self.tables) else {
            throw InvalidResource("a rule without its priority or table", json)
        }
        let rule = RuleResource(
            family, priority: priority, table: table, source: try optional("from") { IPPrefix($0) },
            destination: try optional("to") { IPPrefix($0) }, interface: json["interface"]?.text,
            mark: try number("mark", wide).map { UInt32($0) }, mask: try number("mask", wide).map { UInt32($0) })
        guard [rule.source, rule.destination].allSatisfy({ $0.map { $0.family == family } ?? true }) else {
            throw InvalidResource("a rule with networks of another family", json)
        }
        return rule
    }

    private func probe() throws -> ProbeResource {
        let check: ProbeResource.Check
        if json["ping"] != nil {
            check = .ping(try value("ping") { IPAddress($0) })
        } else if let tcp = json["tcp"] {
            guard let address = (tcp["address"]?.text).flatMap({ IPAddress($0) }), let port = tcp["port"]?.integer,
                (1...65535).contains(port)
            else { throw InvalidResource("\"tcp\" wants an address and a port", json) }
            check = .tcp(address, port: port)
        } else if let dns = json["dns"] {
            guard let server = (dns["server"]?.text).flatMap({ IPAddress($0) }), let name = dns["name"]?.text else {
                throw InvalidResource("\"dns\" wants a server and a name", json)
            }
            check = .dns(server: server, name: name)
        } else {
            throw InvalidResource("none of ping, tcp and dns", json)
        }
        let seconds = 1...3600
        return ProbeResource(
            try required("id"), check, interval: try number("interval", seconds) ?? 5,
            timeout: try number("timeout", seconds) ?? 2, threshold: try number("threshold", 1...100) ?? 3)
    }

    private func nftables() throws -> Resource {
        if let body = json["elements"] { return .elements(try SetPart(body)) }
        if let body = json["set"] ?? json["map"] { return .set(try NamedSet(body)) }
        if let name = json["counter"]?["name"]?.text {
            return .counter(NamedCounter(name, comment: json["counter"]?["comment"]?.text))
        }
        if let body = json["flowtable"] { return .flowtable(try Flowtable(body)) }
        if let body = json["ct helper"] { return .helper(try NamedHelper(body)) }
        if let body = json["feed"] {
            guard let feed = FeedResource(body) else {
                throw InvalidResource("a feed without name, sets and members", json)
            }
            return .feed(feed)
        }
        guard let name = json["chain"]?["name"]?.text, let rules = json["chain"]?["rules"]?.list else {
            throw InvalidResource(
                "neither a chain with its rules, nor a set, map, counter, helper, feed or elements", json)
        }
        let use = try optional("stage") { Stage(rawValue: $0) }.map {
            Resource.StageUse(
                $0, order: json["order"]?.integer ?? 100, devices: (json["devices"]?.list ?? []).compactMap(\.text))
        }
        return .chain(Chain(name, rules: try rules.map { try Rule($0) }), stage: use)
    }

    private func link() throws -> LinkResource {
        let kind: LinkResource.Kind
        if let port = json["port"] {
            guard let mac = (port["mac"]?.text).flatMap({ MACAddress($0) }) else {
                throw InvalidResource("a port without its mac", json)
            }
            kind = .port(path: port["path"]?.text ?? "", mac: mac)
        } else if json["bridge"] != nil {
            kind = .bridge
        } else {
            throw InvalidResource("neither a port nor a bridge", json)
        }
        return LinkResource(
            name: try required("name"), kind: kind, master: json["master"]?.text, mtu: try number("mtu", 68...65_536))
    }

    /// As PID 1 has it for its unit files.
    private static func isUnitName(_ name: String) -> Bool {
        (1...64).contains(name.utf8.count) && name.utf8.first != UInt8(ascii: ".")
            && name.utf8.allSatisfy { byte in
                (0x61...0x7A).contains(byte) || (0x41...0x5A).contains(byte) || (0x30...0x39).contains(byte)
                    || [0x2D, 0x2E, 0x5F].contains(byte)
            }
    }

    private func service() throws -> ServiceResource {
        let command = try texts("command")
        guard command.first?.hasPrefix("/") == true else { throw InvalidResource("a service without a command", json) }
        return ServiceResource(
            name: try value("name") { Self.isUnitName($0) ? $0 : nil }, command: command,
            user: json["user"]?.text ?? "root",
            capabilities: try texts("capabilities"),
            readiness: try optional("ready") { ServiceResource.Readiness($0) } ?? .started,
            directories: try texts("directories"), configurationFiles: try texts("configuration-files"),
            reloadFiles: try texts("reload-files"), memory: try number("memory", 1 << 20...1 << 50))
    }
}
