import Addresses
import Documents
import Files
import Glibc
import Planning
import PluginKit
import Plugins
import TestSupport
import Testing

/// A plan that is made knowing an earlier one is the plan that is made from nothing.
@Suite final class IncrementalPlanTests {
    private let folder: String

    init() throws { folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-plans") }

    deinit { try? FileSystem.remove(folder) }

    /// The plugin network and the firewall as programs, and a plugin that answers in no order and
    /// depends on the time.
    private func planner() throws -> Planner {
        let root = (0..<3).reduce(#filePath) { path, _ in FileSystem.parent(of: path) ?? "/" }
        let program = "\(root)/.build/debug/vcpe-box"
        for name in ["network", "firewall"] { #expect(symlink(program, "\(folder)/\(name)") == 0) }
        let clock = """
            #!/bin/sh
            now=$(sed 's/.*"now":\\([0-9]*\\).*/\\1/')
            for name in z "m$((now / 60))" a; do
                echo '{"kind":"nftables","id":"counter clock.'$name'","counter":{"name":"clock.'$name'"}}'
            done
            echo '{"replan-at":'$(((now / 60 + 1) * 60))'}'

            """
        try FileSystem.replace("\(folder)/clock", with: clock, mode: 0o755)
        let manifest = PluginManifest(
            name: "clock", version: "1", summary: "Counters by the minute", key: "clock", yang: "none.yang",
            publishes: [], resources: ["nftables"], features: [])
        return try Planner(
            [Network.manifest, Firewall.manifest, manifest].map {
                Planner.Member(PluginRunner(name: $0.name, command: ["\(folder)/\($0.name)"]), $0, isOwn: true)
            })
    }

    private static let network: JSON = [
        "zones": ["a", "b", "c"],
        "interfaces": .list(
            zip(RandomPolicy.interfaces, RandomPolicy.zones).enumerated().map { place, interface in
                ["name": .text(interface.0), "zone": .text(interface.1), "port": .text("order \(place + 1)")]
            }),
    ]

    /// Changes a policy a little, or makes another.
    private static func change(_ policy: inout RandomPolicy, _ random: inout Random) {
        let place = policy.rules.isEmpty ? 0 : random.next(policy.rules.count)
        switch random.next(6) {
        case 0: policy = RandomPolicy(rules: [1, 5, 30, 80][random.next(4)], &random)
        case 1 where !policy.rules.isEmpty: policy.rules.remove(at: place)
        case 2 where policy.rules.count > 1: policy.rules.swapAt(0, place)
        case 3 where !policy.rules.isEmpty: policy.rules[place].from = ["a", "b", "nowhere", nil][random.next(4)]
        case 4: break
        default:
            if !policy.rules.isEmpty { policy.rules[place].action = ["accept", "drop", "reject"][random.next(3)] }
        }
    }

    private static func facts(_ random: inout Random) -> Facts {
        var facts = Facts()
        let ports = (0..<4).filter { _ in random.next(4) > 0 }.map { number in
            MACAddress([2, 0, 0, 0, 0, UInt8(number)]).map {
                Facts.Port(driver: "igc", path: "0000:0\(number):00.0", mac: $0)
            }
        }
        facts.set(Dictionary(ports.compactMap { $0 }.map { ($0.mac.description, $0) }) { $1 })
        return facts
    }

    @Test(arguments: [1, 2, 3, 4] as [UInt64])
    func aPlanDoesNotDependOnWhatIsKnown(seed: UInt64) throws {
        var random = Random(seed: seed)
        let planner = try planner()
        var (policy, facts, now) = (RandomPolicy(rules: 30, &random), Self.facts(&random), 1_700_000_000)
        var (known, hosts) = (Plan(), 600)
        var (planned, refused, reused) = (0, 0, 0)
        for _ in 0..<8 {
            Self.change(&policy, &random)
            if random.next(3) == 0 { facts = Self.facts(&random) }
            if random.next(2) == 0 { now += random.next(100) }
            hosts += random.next(3) - 1
            // Its elements are planned in parts.
            let large: JSON = [
                "name": "large", "members": .texts((0..<hosts).map { "198.51.\($0 / 100).\($0 % 100)" }),
            ]
            var firewall = policy.configuration.object ?? [:]
            firewall["sets"] = .list((firewall["sets"]?.list ?? []) + [large])
            let document: JSON = [
                "network": Self.network, "firewall": .object(firewall), "clock": ["number": .integer(random.next(3))],
            ]
            let site = try YAML.read(Array(document.line.utf8), file: "site.yaml")
            func plan(knowing known: Plan) throws -> Result<Plan, InvalidSite> {
                do {
                    return .success(try planner.plan(site: site, facts: facts, now: now, knowing: known))
                } catch let error as InvalidSite {
                    return .failure(error)
                }
            }
            switch (try plan(knowing: Plan()), try plan(knowing: known)) {
            case (.success(let fresh), .success(let kept)):
                #expect(kept.ordered == fresh.ordered && kept.lines == fresh.lines && kept.filter == fresh.filter)
                #expect(kept.resources == fresh.resources && kept.others == fresh.others)
                #expect(kept.warnings == fresh.warnings && kept.absent == fresh.absent && kept.notes == fresh.notes)
                #expect(kept.replanAt == fresh.replanAt)
                reused += kept.ordered.count { planned in known.resources[planned.key] === planned }
                (known, planned) = (kept, planned + 1)
            case (.failure(let fresh), .failure(let kept)):
                #expect(kept.problems == fresh.problems)
                refused += 1
            default: Issue.record("only one of the two plans is refused")
            }
        }
        #expect(planned > 0 && reused > 0)
        print(
            "seed \(seed): \(planned) plans are the same, \(refused) are refused alike; "
                + "\(reused) lines were not read again"
        )
    }
}
