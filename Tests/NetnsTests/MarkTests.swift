import Documents
import Files
import Glibc
@testable import ImageBuilder
import PluginKit
import Processes
import TestSupport
import Testing

/// Names of a plugin's manifest in its plan, in the kernel: mark fields, a table, a priority.
@Suite(.serialized) struct MarkTests {
    /// Connections to port 5000 get the color 3, and their packets from the LAN the route 2.
    private static let plan = """
        #!/bin/sh
        [ "$1" = plan ] || exec cat >/dev/null
        cat >/dev/null
        rule() {
            echo "{\\"kind\\":\\"nftables\\",\\"id\\":\\"chain chains.$1\\",\\"stage\\":\\"$1\\",\\"order\\":10,\\"chain\\":{\\"name\\":\\"chains.$1\\",\\"rules\\":[{\\"comment\\":\\"chains: $1\\",\\"expr\\":[$2]}]}}"
        }
        port='{"match":{"op":"==","left":{"payload":{"protocol":"tcp","field":"dport"}},"right":5000}}'
        rule classify "$port,"'{"mangle":{"key":{"meta":{"key":"mark","field":"color"}},"value":3}}'
        rule steer "$port,"'{"mangle":{"key":{"meta":{"key":"mark","field":"route"}},"value":2}}'
        rule forward-guard '{"match":{"op":"==","left":{"ct":{"key":"mark","field":"color"}},"right":5}},{"drop":null}'
        echo '{"kind":"rule","id":"ipv4 lines+1","family":"ipv4","priority":{"lines":1},"table":{"lines":0},"mark":{"route":2}}'
        echo '{"kind":"route","id":"0.0.0.0/0 0 table lines+0","to":"0.0.0.0/0","via":"203.0.113.1","metric":0,"table":{"lines":0}}'

        """

    private static let manifest: [String: JSON] = [
        "publishes": [],
        "allocates": [
            "marks": ["route": "shared", "color": ["bits": 4, "saved": true]], "tables": ["lines": 2],
            "priorities": ["lines": 4],
        ],
    ]

    private func explain(_ box: BoxInNetwork, _ more: String...) throws -> JSON {
        let words = ["explain", "--in", "lan", "--from", "192.168.1.10", "--to", "203.0.113.1", "--protocol", "tcp"]
        let result = try box.run(words + ["--port", "5000", "--json"] + more)
        #expect(result.status == 0, "\(result.errorText)")
        return try JSON.parse(result.text)
    }

    @Test func aConnectionKeepsItsColorAndNoRoute() throws {
        // The plugin's gateway needs the ports, which are there when the box is ready.
        let box = try BoxInNetwork.ready(plugins: ["chains": Self.plan], manifests: ["chains": Self.manifest])
        let network = try #require(box.network)
        #expect(try box.apply(BoxInNetwork.site + "chains: {}\n") == nil, "\(box.log)")
        #expect(try box.ask("status")["trouble"] == nil, "\(box.log)")
        func list(_ words: String...) throws -> String { try box.box.run { try Command("ip", words).check().text } }
        // The engine applies routes and rules after the addresses that the box is ready with.
        let isRouted = try Wait.until(10) {
            try list("rule").contains("10001:\tfrom all fwmark 0x2/0xff lookup 10000")
                && list("route", "show", "table", "10000").contains("default via 203.0.113.1 dev wan")
        }
        #expect(isRouted, "\(box.log)")
        let any = try #require(IPAddress("0.0.0.0"))
        let server = try ProofSocket(network.namespace(.wan), .ipv4, isStream: true)
        try server.bind(any, port: 5000, listen: true)
        let client = try ProofSocket(network.namespace(.lan), .ipv4, isStream: true)
        let connected = client.connect(try network.side(.wan).host4, port: 5000)
        #expect(connected == 0, "\(box.log)")
        let entries = try box.box.run { try Command("conntrack", ["-L", "-p", "tcp", "--dport", "5000"]).check().text }
        #expect(entries.contains("mark=\(3 << 28) "), "\(entries)")
        // What explain supposes, and what it shows.
        let fresh = try explain(box)
        #expect(fresh["end"] == "accepted, out wan" && fresh["unknown"] == [], "\(fresh.pretty)")
        #expect(fresh["marks"] == ["chains.color": 3, "route": 2] && fresh["zone"] == 0, "\(fresh.pretty)")
        let other = try explain(box, "--mark", "chains.color=5")
        #expect(other["end"] == "dropped", "\(other.pretty)")
        #expect(try explain(box, "--mark", "chains.color=4")["end"] == "accepted, out wan")
        let unknown = try explain(box, "--mark", "unknown", "--zone", "unknown")
        #expect(unknown["unknown"] == ["chains: forward-guard"] && unknown["zone"] == .null, "\(unknown.pretty)")
        // The route is known whatever the connection's mark is.
        #expect(unknown["marks"]?["route"] == 2, "\(unknown.pretty)")
        let words = try box.vcpectl(
            "explain", "--in", "lan", "--from", "192.168.1.10", "--to", "203.0.113.1", "--protocol", "tcp", "--port",
            "5000")
        #expect(words.text.contains("chains.color=3, route=2"), "\(words.text)")
        #expect(try box.vcpectl("explain", "--in", "lan", "--mark", "route=1").status != 0)
    }

    @Test func anotherPluginsFieldIsRefused() throws {
        let write = #"{"mangle":{"key":{"meta":{"key":"mark","field":"color"}},"value":1}}"#
        let chain =
            #"{"kind":"nftables","id":"chain thief.c","chain":{"name":"thief.c","rules":[{"expr":[\#(write)]}]}}"#
        let box = try BoxInNetwork.ready(
            plugins: [
                "chains": Self.plan,
                "thief": "#!/bin/sh\ncat >/dev/null\n[ \"$1\" = plan ] && echo '\(chain)'\nexit 0\n",
            ],
            manifests: ["chains": Self.manifest, "thief": ["publishes": []]])
        let refusal = try box.apply(BoxInNetwork.site + "thief: {}\n")
        #expect(
            refusal?.contains("the manifest of the plugin thief does not allocate marks color") == true,
            "\(refusal ?? "")")
        #expect(try box.apply(BoxInNetwork.site + "chains: {}\n") == nil)
    }
}
