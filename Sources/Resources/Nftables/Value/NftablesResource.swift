/// An object of the box's nftables table.
public enum NftablesResource: ResourceType {
    public static let kind = "nftables"

    case chain(Chain, stage: StageUse?)
    case set(NamedSet)
    /// A part of a large set's elements: a small change of the set changes few parts.
    case elements(SetPart)
    case counter(NamedCounter)
    case helper(NamedHelper)
    /// The fast path of established forwarded connections, of which there is one. Links and kernels
    /// that do not support it go without.
    case flowtable(Flowtable)
    /// Sets that are filled from outside the plan.
    case feed(FeedResource)
    /// The bits of packet marks that connections keep: the engine's own part of each plan.
    case savedMarks(UInt32)

    /// The stage of the packet path that calls a chain; `docs/packet-path.md` lists the stages.
    public struct StageUse: Sendable, Hashable {
        public var stage: Stage
        /// Chains of a stage are called in ascending order.
        public var order: Int
        /// Of `early-drop`: the links whose packets the chain sees; absent links are left out.
        public var devices: [String]

        public init(_ stage: Stage, order: Int, devices: [String] = []) {
            self.stage = stage
            self.order = order
            self.devices = devices
        }
    }

    public init(_ line: ResourceLine) throws(InvalidResource) {
        self = try line.rethrowing { try Self.read(line) }
    }

    private static func read(_ line: ResourceLine) throws -> NftablesResource {
        if let body = line["elements"] { return .elements(try SetPart(body)) }
        if let body = line["set"] ?? line["map"] { return .set(try NamedSet(body)) }
        if let name = line["counter"]?["name"]?.text {
            return .counter(NamedCounter(name, comment: line["counter"]?["comment"]?.text))
        }
        if let body = line["flowtable"] { return .flowtable(try Flowtable(body)) }
        if let bits = try line.number("saved-marks", 1...Int(UInt32.max)) { return .savedMarks(UInt32(bits)) }
        if let body = line["ct helper"] { return .helper(try NamedHelper(body)) }
        if let body = line["feed"] {
            guard let feed = FeedResource(body) else { throw line.invalid("a feed needs a name, sets and members") }
            return .feed(feed)
        }
        guard let name = line["chain"]?["name"]?.text, let rules = line["chain"]?["rules"]?.list else {
            throw line.invalid("neither a chain with its rules, nor a set, map, counter, helper, feed or elements")
        }
        let use = try line.optional("stage") { Stage(rawValue: $0) }.map {
            StageUse(
                $0, order: line["order"]?.integer ?? 100, devices: (line["devices"]?.list ?? []).compactMap(\.text))
        }
        return .chain(Chain(name, rules: try rules.map { try Rule($0) }), stage: use)
    }

    public var identity: String {
        switch self {
        case .chain(let chain, _): "chain \(chain.name)"
        case .set(let set): "set \(set.name)"
        case .elements(let part): "elements \(part.set) \(part.part)"
        case .counter(let counter): "counter \(counter.name)"
        case .flowtable: "flowtable"
        case .helper(let helper): "helper \(helper.name)"
        case .feed(let feed): "feed \(feed.name)"
        case .savedMarks: "saved-marks"
        }
    }

    public var fields: [String: JSON] {
        switch self {
        case .chain(let chain, let use):
            Self.fields([
                "chain": ["name": .text(chain.name), "rules": .list(chain.rules.map(\.json))],
                "stage": use.map { .text($0.stage.rawValue) }, "order": use.map { .integer($0.order) },
                "devices": use.flatMap { $0.devices.isEmpty ? nil : .texts($0.devices) },
            ])
        case .elements(let part): ["elements": part.json]
        case .set(let set): [set.content == .members ? "set" : "map": set.json]
        case .counter(let counter): ["counter": counter.json]
        case .flowtable(let flowtable): ["flowtable": flowtable.json]
        case .helper(let helper): ["ct helper": helper.json]
        case .feed(let feed): ["feed": feed.json]
        case .savedMarks(let bits): ["saved-marks": .integer(Int(bits))]
        }
    }

    public func writeField(into bytes: inout [UInt8]) -> Bool {
        switch self {
        case .elements(let part):
            bytes += #""elements":"#.utf8
            part.writeJSON(into: &bytes)
        case .counter(let counter):
            bytes += #""counter":"#.utf8
            counter.writeJSON(into: &bytes)
        default: return false
        }
        return true
    }

    /// The name that begins with the plugin's.
    private var name: String {
        switch self {
        case .chain(let chain, _): chain.name
        case .set(let set): set.name
        case .elements(let part): part.set
        case .counter(let counter): counter.name
        case .helper(let helper): helper.name
        case .flowtable(let flowtable): flowtable.name
        case .feed(let feed): feed.name
        case .savedMarks: "saved-marks"
        }
    }

    public func objection(to plugin: String) -> String? {
        if case .feed(let feed) = self {
            if let other = feed.sets.first(where: { !$0.hasPrefix(plugin + ".") }) {
                return "the feed \(feed.name) fills the set \(other), which is another plugin's"
            }
            if let objection = feed.file.flatMap({ Self.objection(toPath: $0, of: plugin) }) { return objection }
        }
        return Self.objection(toName: name, of: plugin)
    }

    public var references: [ResourceKey] {
        guard case .feed(let feed) = self else { return [] }
        return feed.sets.map { ResourceKey(Self.kind, "set \($0)") }
    }
}
