import Documents
import Files
import Glibc
@testable import ImageBuilder
import PluginKit
import Processes
import TestSupport
import Testing

/// Probes, and what they make of a commit.
@Suite(.serialized) struct HealthTests {
    /// The WAN's host of the proofs answers for it.
    private static let probed = BoxInNetwork.site.editing(
        "firewall:\n",
        with:
            "  routes:\n    - {to: 0.0.0.0/0, via: 203.0.113.1}\n  probes:\n    - {name: peer, ping: 203.0.113.1, interval: 1, timeout: 1}\nfirewall:\n"
    )

    private func holds(_ box: BoxInNetwork, _ name: String) throws -> Bool? {
        let probes = try box.ask("health")["probes"]?.list ?? []
        guard case .boolean(let holds)? = probes.first(where: { $0["name"]?.text == name })?["holds"] else {
            return nil
        }
        return holds
    }

    @Test func aCommitThatSpoilsAProbeIsPutBack() throws {
        let box = try BoxInNetwork.ready(site: Self.probed)
        #expect(try Wait.until { try holds(box, "network.peer") == true }, "\(box.log)")
        #expect(try holds(box, "network.gateway-203.0.113.1") == true)
        let before = try box.decided()
        // Another network on the WAN: the peer can't be reached any more.
        let spoiled = Self.probed.editing("203.0.113.2/24", with: "198.51.100.2/24").editing(
            "via: 203.0.113.1}", with: "via: 198.51.100.1}")
        #expect(try box.apply(spoiled) == nil)
        #expect(try box.decided() != before && box.ask("status")["probation"]?.list == ["network.peer"])
        #expect(try Wait.until { try box.decided() == before }, "\(box.log)")
        let status = try box.ask("status")
        let reason = status["rolled-back"]?.text ?? ""
        #expect(reason.hasPrefix("commit 1 was rolled back: the probe network.peer fails"), "\(reason)")
        #expect(status["commit"] == nil && status["probation"] == nil)
        // Who waits for it hears of it.
        #expect(try Wait.until { try holds(box, "network.peer") == true }, "\(box.log)")
        let file = "\(box.folder)/spoiled.yaml"
        try FileSystem.replace(file, with: spoiled)
        let result = try box.vcpectl("apply", file)
        #expect(result.status == 1 && result.errorText.contains("commit 2 was rolled back"), "\(result)")
        #expect(try box.vcpectl("history").text.contains("rolled back  "))
        // So does one that leads the way to it astray, though the neighbour was seen a moment ago.
        #expect(try Wait.until { try holds(box, "network.peer") == true }, "\(box.log)")
        try FileSystem.replace(
            file,
            with: Self.probed.editing(
                "  routes:\n", with: "  routes:\n    - {to: 203.0.113.1/32, via: 192.168.1.99}\n"))
        let astray = try box.vcpectl("apply", file)
        #expect(astray.status == 1 && astray.errorText.contains("commit 3 was rolled back"), "\(astray)")
        #expect(try box.decided() == before)
        // Its document is none that a restarted engine follows.
        box.killEngine()
        try box.start()
        #expect(try box.decided() == before)
    }

    /// An operator's command failed if what it committed is rolled back.
    @Test func aPluginsCommandHasTheVerdictOfItsCommit() throws {
        let route = #"{"id":"203.0.113.1/32 0","kind":"route","metric":0,"to":"203.0.113.1/32","via":"192.168.1.99"}"#
        let detour = """
            #!/bin/sh
            case $1 in
            plan) ! grep -q '"on":true' || echo '\(route)';;
            act) cat >/dev/null; echo '{"effect":"set","path":"on","value":true}';;
            *) cat >/dev/null;;
            esac

            """
        let box = try BoxInNetwork(
            site: Self.probed + "detour: {on: false}\n", plugins: ["detour": detour],
            manifests: ["detour": ["commands": [["name": "go", "summary": "Astray", "verb": "act"]]]])
        try box.start()
        try box.connect()
        #expect(try Wait.until(20) { try holds(box, "network.peer") == true }, "\(box.log)")
        let before = try box.decided()
        let result = try box.vcpectl("detour", "go")
        #expect(result.status == 1 && result.errorText.contains("commit 1 was rolled back"), "\(result)")
        #expect(try box.decided() == before)
    }

    /// A commit is watched on when another one comes before the probes have said their word.
    @Test func anotherCommitMakesNoBadOneStand() throws {
        let box = try BoxInNetwork.ready(site: Self.probed)
        #expect(try Wait.until { try holds(box, "network.peer") == true }, "\(box.log)")
        let before = try box.decided()
        let spoiled = Self.probed.editing(
            "  routes:\n", with: "  routes:\n    - {to: 203.0.113.1/32, via: 192.168.1.99}\n")
        #expect(try box.apply(spoiled) == nil)
        #expect(try box.apply(spoiled.editing("to-port: 80}", with: "to-port: 81}")) == nil)
        #expect(try box.ask("status")["probation"]?.list?.isEmpty == false)
        #expect(try Wait.until(20) { try box.decided() == before }, "\(box.log)")
        #expect(try box.ask("status")["rolled-back"]?.text?.hasPrefix("commit 2 was rolled back") == true)
    }

    @Test func aGoodCommitStandsWhenTheProbesHaveHeld() throws {
        let box = try BoxInNetwork.ready(site: Self.probed)
        #expect(try Wait.until { try holds(box, "network.peer") == true }, "\(box.log)")
        let file = "\(box.folder)/good.yaml"
        try FileSystem.replace(file, with: Self.probed.editing("to-port: 80}", with: "to-port: 81}"))
        let result = try box.vcpectl("apply", file)
        #expect(result.status == 0, "\(result.errorText)")
        let status = try box.ask("status")
        #expect(status["commit"]?.integer == 1 && status["probation"] == nil && status["rolled-back"] == nil)
        box.killEngine()
        try box.start()
        #expect(try box.ask("status")["commit"]?.integer == 1 && box.decided().contains("192.168.1.10:81"))
    }

    /// What never held is no commit's fault, unless a confirmation is asked for.
    @Test func aProbeThatNeverHeldHoldsNobodyUp() throws {
        let dead = Self.probed.editing("ping: 203.0.113.1", with: "ping: 203.0.113.99")
        let box = try BoxInNetwork.ready()
        #expect(try box.apply(dead) == nil)
        #expect(try box.ask("status")["probation"] == nil)
        #expect(try Wait.until { try holds(box, "network.peer") == false }, "\(box.log)")
        #expect(try box.ask("status")["commit"]?.integer == 1)
        let health = try box.vcpectl("health")
        #expect(health.status == 1 && health.text.contains("FAILS") && health.errorText.contains("network.peer"))
        // With one, all that is probed must be well, and it goes long before the time is over.
        #expect(try box.apply(BoxInNetwork.site) == nil)
        let begin = Clock.seconds
        #expect(try box.apply(dead, confirm: 600) == nil)
        #expect(try box.decided().contains("default via 203.0.113.1"))
        #expect(try Wait.until(20) { try box.ask("status")["rollback-in"] == nil }, "\(box.log)")
        #expect(try Clock.seconds - begin < 20 && !box.decided().contains("default via 203.0.113.1"))
        #expect(try box.ask("status")["rolled-back"]?.text?.contains("the probe network.peer fails") == true)
    }

    /// A watched commit is watched on after the engine's fall.
    @Test func theWatchOutlivesTheEngine() throws {
        let box = try BoxInNetwork.ready()
        let dead = Self.probed.editing("ping: 203.0.113.1, interval: 1", with: "ping: 203.0.113.99, interval: 3")
        #expect(try box.apply(dead, confirm: 600) == nil)
        box.killEngine()
        try box.start()
        #expect(try box.ask("status")["rollback-in"] != nil)
        #expect(try Wait.until(20) { try box.ask("status")["rollback-in"] == nil }, "\(box.log)")
        #expect(try !box.decided().contains("default via"))
    }

    /// A lease that comes, and with it another gateway, neither confirms nor cancels.
    @Test func factsThatChangeMeanwhileSayNothing() throws {
        let site = BoxInNetwork.site.editing("{addresses: [203.0.113.2/24]}", with: "{dhcp: true}")
        let box = try BoxInNetwork.ready(site: site)
        func lend(_ gateway: String) throws {
            try box.report("leases", "wan", "address=203.0.113.77/24", "gateway=\(gateway)")
        }
        try lend("203.0.113.1")
        #expect(try Wait.until { try holds(box, "network.gateway-wan") == true }, "\(box.log)")
        #expect(try box.apply(site.editing("to-port: 80}", with: "to-port: 81}"), confirm: 600) == nil)
        // Nobody is there.
        try lend("203.0.113.250")
        #expect(try Wait.until(30) { try holds(box, "network.gateway-wan") == false }, "\(box.log)")
        #expect(try box.ask("status")["rollback-in"]?.integer ?? 0 > 500 && box.decided().contains("192.168.1.10:81"))
        #expect(try box.ask("confirm")["commit"]?.integer == 1)
    }

    @Test func connectionsAndNameServersAreProbed() throws {
        let box = try BoxInNetwork.ready(
            site: Self.probed.editing(
                "  probes:\n",
                with: "  probes:\n    - {name: dns, dns: {server: 203.0.113.1, name: example.net}, interval: 1}\n"
                    + "    - {name: nobody, dns: {server: 203.0.113.99, name: example.net}, interval: 1, timeout: 1}\n"
                    + "    - {name: web, tcp: {address: 203.0.113.1, port: 443}, interval: 1}\n"
                    + "    - {name: six, ping: \"2001:db8:1::1\", interval: 1}\n"))
        let network = try #require(box.network)
        #expect(try Wait.until { try holds(box, "network.six") == true }, "\(box.log)")
        #expect(try Wait.until { try holds(box, "network.web") == false }, "\(box.log)")
        #expect(try Wait.until { try holds(box, "network.nobody") == false }, "\(box.log)")
        // The provider's, of the proofs.
        #expect(try holds(box, "network.dns") == true)
        let server = try ProofSocket(network.namespace(.wan), .ipv4, isStream: true)
        try server.bind(try #require(IPAddress("0.0.0.0")), port: 443, listen: true)
        #expect(try Wait.until { try holds(box, "network.web") == true }, "\(box.log)")
    }
}
