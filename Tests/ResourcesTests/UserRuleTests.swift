@testable import Engine
import Files
import Netlink
import Planning
import PluginKit
import Processes
import Testing

/// Policy rules for a user of the box's own sockets.
@Suite(.serialized) final class UserRuleTests {
    private let folder: String
    private let namespace: NetworkNamespace
    private var applied = AppliedState()

    init() throws {
        folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-user-rules")
        namespace = try NetworkNamespace()
    }

    deinit { try? FileSystem.remove(folder) }

    /// A plan with users of the site, as the plugin system writes them, and a rule for one.
    private func plan(users: [String: Int], rule user: String) throws -> Plan {
        var rule = RuleResource(.ipv4, priority: 1000, action: .table(10))
        rule.user = user
        let passwd = users.sorted { $0.key < $1.key }.map { "\($0.key):x:\($0.value):990:administrator:/:/bin/false\n" }
        let resources = [
            Resource(DirectoryResource(path: "/run/vcpe/system/users", owner: "root", mode: 0o755)),
            Resource(
                FileResource(
                    path: "/run/vcpe/system/users/passwd", content: passwd.joined(), owner: "root", mode: 0o644)),
            Resource(rule),
        ]
        return Plan(resources.map { PlannedResource(resource: $0, plugin: "system", line: $0.json.line) })
    }

    private func apply(_ plan: Plan) throws {
        var places = Places()
        (places.run, places.data, places.initSocket) = ("\(folder)/run", "\(folder)/data", "\(folder)/none")
        try namespace.run {
            let context = DriverContext(
                places: places, socket: try RouteSocket(), filter: try FilterTable(),
                secrets: SecretStore(folder: "\(folder)/secrets", scratch: folder))
            let transaction = Transaction(context, from: applied, to: plan)
            try transaction.checkAll()
            try transaction.apply()
            applied = applied.settled(plan)
            #expect(try Drivers.drift(context, from: plan, .netlink).isEmpty)
        }
    }

    private func rules() throws -> String {
        try namespace.run { try Command("ip", ["-4", "rule"]).check().text }
    }

    /// Neither a first commit nor a start of the box finds the users of the site: the plan makes
    /// them.
    @Test func usersOfThePlanCount() throws {
        try apply(plan(users: ["vcpe-anna": 20_001, "vcpe-bert": 20_002], rule: "vcpe-bert"))
        let first = try rules()
        #expect(first.contains("uidrange 20002-20002"), "\(first)")
        // The plan's number is meant, also while the box still has another.
        try apply(plan(users: ["vcpe-bert": 20_007], rule: "vcpe-bert"))
        let second = try rules()
        #expect(second.contains("uidrange 20007-20007") && !second.contains("20002"), "\(second)")
        // Those of the image are known as before.
        try apply(plan(users: [:], rule: "daemon"))
        #expect(try rules().contains("uidrange 1-1"))
    }

    /// The name service asks the image's file first (nsswitch.conf: files, then extrausers).
    @Test func usersOfTheImageComeFirst() throws {
        try apply(plan(users: ["daemon": 20_009], rule: "daemon"))
        let rules = try rules()
        #expect(rules.contains("uidrange 1-1") && !rules.contains("20009"), "\(rules)")
    }

    @Test func aUserOfNeitherIsRefused() throws {
        let plan = try plan(users: ["vcpe-anna": 20_001], rule: "vcpe-bert")
        #expect { try apply(plan) } throws: { "\($0)".contains("vcpe-bert") }
    }
}
