import Documents
import Files
@testable import ImageBuilder
import PluginKit
import Processes
import TestSupport
import Testing

/// Configuration and operational state as data of the plugins' YANG modules (RFC 8526, RFC 7951).
@Suite(.serialized) struct StateTests {
    private func data(_ box: BoxInNetwork, _ request: [String: JSON]) throws -> JSON {
        let answer = try box.ask("get-data", request)
        #expect(answer["error"] == nil, "\(answer)")
        return answer["data"] ?? [:]
    }

    /// What yanglint says of data; empty when they are right.
    private func objection(_ box: BoxInNetwork, to data: JSON, type: String) throws -> String {
        try FileSystem.replace("\(box.folder)/data.json", with: data.pretty)
        let plugins = try FileSystem.list("\(box.folder)/plugins").map { "\(box.folder)/plugins/\($0)" }
            .filter(FileSystem.isDirectory)
        let modules = try plugins.flatMap { plugin in
            try FileSystem.list(plugin).filter { $0.hasSuffix(".yang") }.map { "\(plugin)/\($0)" }
        }
        let result = try Command(
            "yanglint", plugins.flatMap { ["-p", $0] } + ["-t", type] + modules + ["\(box.folder)/data.json"]
        ).run()
        return result.status == 0 ? "" : result.errorText
    }

    @Test func theBoxObservesItselfAsItsModulesHaveIt() throws {
        let box = try BoxInNetwork.ready()
        try box.report(
            "leases", "wan", "address=203.0.113.77/24", "gateway=203.0.113.1", "resolvers:=[\"192.0.2.53\"]",
            "mtu:=1400",
            "routes:=[{\"to\":\"10.0.0.0/8\",\"via\":\"203.0.113.9\"}]")
        #expect(try box.apply(BoxInNetwork.site.editing("to-port: 80}", with: "to-port: 81}")) == nil)
        let proof = try #require(try PacketTests.proofs().first { $0.name == "LAN pings the box" })
        #expect(try box.probing().run(proof).passed)
        let all = try data(box, ["datastore": "operational"])
        #expect(try objection(box, to: all, type: "data") == "")
        let state = try data(box, ["config": false])
        #expect(try objection(box, to: state, type: "get") == "")
        let network = try #require(state["vcpe-network:network"]?["state"])
        let lan = try #require(network["links"]?.list?.first { $0["name"] == "lan" })
        #expect(lan["kind"] == "bridge" && lan["up"] == true && lan["mtu"]?.integer == 1500)
        // As the kernel says it to others.
        let shown = try box.box.run { try Command("ip", ["-j", "-s", "link", "show", "lan"]).check().text }
        let link = try #require(try JSON.parse(shown).list?.first)
        #expect(lan["mac"] == link["address"] && lan["oper-status"]?.text?.uppercased() == link["operstate"]?.text)
        let bytes = lan["in-bytes"]?.text.flatMap { Int($0) } ?? 0
        #expect(bytes > 0 && bytes <= link["stats64"]?["rx"]?["bytes"]?.integer ?? 0, "\(lan)")
        let addresses = Dictionary(
            (lan["addresses"]?.list ?? []).compactMap { item in item["prefix"]?.text.map { ($0, item["origin"]?.text) }
            }
        ) { $1 }
        #expect(addresses["192.168.1.1/24"] == "static" && addresses["fd00:1::1/64"] == "static")
        #expect(addresses.contains { $0.key.hasPrefix("fe80:") && $0.value == "link-layer" }, "\(addresses)")
        let lease = try #require(network["leases"]?.list?.first)
        #expect(lease["interface"] == "wan" && lease["gateway"] == "203.0.113.1" && lease["mtu"] == 1400)
        #expect(lease["routes"]?.list == [["to": "10.0.0.0/8", "via": "203.0.113.9"]])
        let counters = state["vcpe-firewall:firewall"]?["state"]?["counters"]?.list ?? []
        let pings = try #require(counters.first { $0["name"] == "firewall.rule.lan-pings-box" })
        #expect(pings["packets"]?.text.flatMap { Int($0) } ?? 0 > 0)
        #expect(counters.allSatisfy { $0["name"]?.text?.hasPrefix("firewall.") == true })
    }

    @Test func requestsSelectByDatastorePathConfigAndDepth() throws {
        let box = try BoxInNetwork.ready()
        _ = try box.vcpectl("set", "nat.forwards[web].to-port", "8081")
        func port(_ datastore: String) throws -> JSON? {
            let path = "nat.forwards[web].to-port"
            let found = try data(box, ["datastore": .text(datastore), "path": .text(path)])
            // The keys of the list come with it.
            #expect(found.object?.count == 1 && found["vcpe-nat:nat"]?["forwards"]?.list?.count == 1, "\(found)")
            #expect(found["vcpe-nat:nat"]?["forwards"]?.list?.first?.object?.count == 2)
            return found["vcpe-nat:nat"]?["forwards"]?.list?.first?["to-port"]
        }
        #expect(try port("running") == 80 && port("candidate") == 8081 && port("operational") == 80)
        let running = try data(box, ["datastore": "running"])
        #expect(
            running["vcpe-network:network"]?["interfaces"] != nil && running["vcpe-network:network"]?["state"] == nil)
        #expect(try data(box, ["datastore": "running", "config": false]) == [:])
        let state = try data(box, ["config": false])
        #expect(state["vcpe-network:network"]?.object?.keys.sorted() == ["state"])
        #expect(try data(box, ["config": true, "path": "network.state"]) == [:])
        let top = try data(box, ["depth": 1])
        #expect(top.object?.values.allSatisfy { $0 == [:] } == true && top["vcpe-nat:nat"] != nil)
        let links = try data(box, ["path": "network.state.links", "depth": 1])
        let items = links["vcpe-network:network"]?["state"]?["links"]?.list ?? []
        #expect(items.contains(["name": "wan"]) && items.allSatisfy { $0.object?.count == 1 }, "\(links)")
        let wan = try data(box, ["path": "network.state.links[wan].mtu"])
        #expect(wan["vcpe-network:network"]?["state"]?["links"]?.list == [["name": "wan", "mtu": 1500]])
        #expect(try data(box, ["path": "network.state.links[none]"]) == [:])
        for (wrong, word) in [
            (["datastore": "runing"], "did you mean running?"), (["config": 5], "config is"),
            (["depth": 0], "depth is"),
            (["path": "a..b"], "is no path"),
        ] as [([String: JSON], String)] {
            #expect(try box.ask("get-data", wrong)["error"]?.text?.contains(word) == true, "\(wrong)")
        }
        // vcpectl has it for people and for programs.
        #expect(try box.vcpectl("show", "--state", "network.state.links[wan].mtu").text == "1500\n")
        let json = try JSON.parse(try box.vcpectl("show", "--state", "network.state", "--json").text)
        #expect(json["vcpe-network:network"]?["state"]?["links"]?.list?.isEmpty == false)
        let none = try box.vcpectl("show", "--state", "network.state.leases")
        #expect(none.status == 1 && none.errorText.contains("observes nothing"))
        // A document may have none of it.
        let error = try box.apply(BoxInNetwork.site.editing("  zones:", with: "  state: {}\n  zones:"))
        #expect(error?.contains("network.state: unknown key") == true)
        #expect(try box.run(["complete", "set", "network.st"]).text.isEmpty)
    }

    /// Facts of a plugin's own are in the tree by its manifest and its module alone.
    @Test func aPluginsOwnFactsAreInTheTree() throws {
        let module = """
            module weather {
              yang-version 1.1;
              namespace "urn:example:weather";
              prefix w;
              container weather {
                presence "Somebody looks.";
                leaf city { type string; }
                container state {
                  config false;
                  list stations {
                    key number;
                    leaf number { type uint16; }
                    leaf degrees { type int32; }
                    leaf visits { type uint64; }
                    leaf token { type string; }
                    container wind { leaf-list gusts { type uint8; } }
                  }
                }
              }
            }
            """
        let box = try BoxInNetwork(
            plugins: ["weather": "#!/bin/sh\ncat >/dev/null\n"],
            manifests: [
                "weather": [
                    "yang": "weather.yang", "reports": ["weather": ["*"]],
                    "state": [["list": "state.stations", "collection": "weather", "names": ["1*"]]],
                ]
            ])
        try FileSystem.replace("\(box.folder)/plugins/weather/weather.yang", with: module)
        try box.start()
        try box.connect()
        #expect(
            try Wait.until { try box.apply(BoxInNetwork.site + "weather: {city: Bern}\n") == nil }, "\(box.log)")
        try box.report(
            "weather", "17", "degrees:=-4", "visits:=9007199254740993", "token=s3same", "unknown=x",
            "wind:={\"gusts\":[30,41]}")
        try box.report("weather", "2", "degrees:=20")
        let found = try data(box, ["path": "weather"])
        #expect(
            found == [
                "weather:weather": [
                    "city": "Bern",
                    "state": [
                        "stations": [
                            [
                                "number": 17, "degrees": -4, "visits": "9007199254740993", "token": "********",
                                "wind": ["gusts": [30, 41]],
                            ]
                        ]
                    ],
                ]
            ])
        #expect(try objection(box, to: found, type: "data") == "")
    }

    /// A user who may only read reads it, and a secret of the document is masked.
    @Test func readersReadItWithoutSecrets() throws {
        let box = try BoxInNetwork()
        try box.addSystem()
        let users = ["_chrony:x:4242:4242::/:/usr/sbin/nologin", "rita:x:20001:990::/:/bin/false"]
        try box.start(users: users)
        let hash = "$6$abcdefgh$VcWNs0Iz3dUzLzvF5uDPG0r5Bd8Xq2i4"
        let site =
            BoxInNetwork.site + "system:\n  users: [{name: alice, role: administrator, password-hash: \(hash)}]\n"
        try box.connect()
        #expect(try Wait.until { try box.apply(site) == nil }, "\(box.log)")
        let words = ["setpriv", "--reuid", "20001", "--regid", "990", "--groups", "990", "\(box.folder)/vcpectl"]
        let commits = try box.onBox(words + ["show", "--state", "system.state.commits[1].changed"])
        #expect(commits.text == "- provider\n", "\(commits)")
        let text = try data(box, [:]).line
        #expect(!text.contains(hash) && text.contains("\"password-hash\":\"********\""))
    }
}
