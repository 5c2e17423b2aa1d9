import Documents
import Files
import PluginKit
import Processes
import TestSupport
import Testing

/// Two owners of one configuration: the provider's document above the customer's.
@Suite(.serialized) struct OwnerTests {
    /// As the plugin system and the image would have them.
    private static let users = [
        "_chrony:x:4242:4242::/:/usr/sbin/nologin", "rita:x:20001:990::/:/bin/false", "alice:x:20003:992::/:/bin/false",
        "carl:x:20005:993::/:/bin/false",
    ]

    private static let provider = "locks: [firewall.policies, 'network.interfaces[wan]']\n" + BoxInNetwork.site

    private static let customer = """
        nat:
          forwards:
            - {name: camera, from: wan, protocol: tcp, ports: 9000, to: 192.168.1.11}
        firewall:
          rules:
            - {name: camera-out, from: lan, to: wan, source: [192.168.1.11], action: drop}

        """

    private func ready() throws -> BoxInNetwork {
        let box = try BoxInNetwork()
        try box.addSystem()
        try box.start(users: Self.users)
        try box.connect()
        #expect(try Wait.until { try box.state().contains("192.168.1.1/24") }, "\(box.log)")
        #expect(try box.apply(Self.provider) == nil, "\(box.log)")
        return box
    }

    /// vcpectl as somebody, who belongs to the groups that the box would give him.
    private func run(_ box: BoxInNetwork, as name: String, _ words: String...) throws -> Command.Result {
        let fields = try #require(Self.users.first { $0.hasPrefix(name + ":") }).split(separator: ":")
        return try box.onBox(
            [
                "setpriv", "--reuid", "\(fields[2])", "--regid", "\(fields[3])", "--groups", "\(fields[3]),990",
                "\(box.folder)/vcpectl",
            ] + words)
    }

    private func write(_ box: BoxInNetwork, _ text: String) throws -> String {
        let path = "\(box.folder)/customer.yaml"
        try FileSystem.replace(path, with: text)
        return path
    }

    /// The customer's rules are in the kernel beside the provider's; the history tells whose
    /// document each commit changed.
    @Test func bothDocumentsAreInEffectTogether() throws {
        let box = try ready()
        let applied = try run(box, as: "carl", "apply", write(box, Self.customer))
        #expect(applied.status == 0 && applied.text.contains("commit 2 is applied"), "\(applied.errorText)\(box.log)")
        var state = try box.decided()
        #expect(state.contains("dnat ip to 192.168.1.11:9000") || state.contains("192.168.1.11"), "\(state)")
        #expect(state.contains("dnat ip to 192.168.1.10:80"))
        #expect(state.contains("firewall: rules[camera-out]"))
        // Every place names the document.
        let explained = try box.vcpectl("explain", "camera-out").text
        #expect(explained.contains("firewall.rules[camera-out], customer:6:7"), "\(explained)")
        #expect(try box.vcpectl("explain", "lan-to-box").text.contains(", provider:20:7"))
        let origins = try box.vcpectl("show", "--origins", "nat.forwards").text
        #expect(origins.contains("to-port: 80  # provider:") && origins.contains("ports: 9000  # customer:3"))
        // Each is had alone, as it was written.
        #expect(try run(box, as: "rita", "show", "--document", "customer").text == Self.customer)
        #expect(try run(box, as: "rita", "show", "--document", "provider").text == Self.provider)
        #expect(try box.vcpectl("show", "nat.forwards[camera].to").text == "192.168.1.11\n")
        let history = try box.vcpectl("history").text.split(separator: "\n").map(String.init)
        #expect(history[0].contains("DOCUMENT") && history[1].contains("carl") && history[1].contains("customer"))
        #expect(history[2].contains("provider"))
        // The provider's next commit keeps the customer's document, and an engine that starts again
        // has both.
        #expect(try box.apply(Self.provider.editing("to-port: 80}", with: "to-port: 81}")) == nil)
        box.killEngine()
        try box.start(users: Self.users)
        state = try box.decided()
        #expect(state.contains("192.168.1.10:81") && state.contains("firewall: rules[camera-out]"))
        // Without a customer's document all is as before.
        _ = try run(box, as: "carl", "load", write(box, ""))
        #expect(try run(box, as: "carl", "commit").status == 0)
        #expect(try !box.decided().contains("camera") && box.ask("show")["documents"]?.list == ["provider"])
    }

    /// Errors have document, path and line; nothing of them is applied.
    @Test func lockedPathsAreRefused() throws {
        let box = try ready()
        let before = try box.decided()
        for (text, place) in [
            ("firewall:\n  policies: [{from: wan, to: lan, action: accept}]\n", "customer:2:3: firewall.policies: "),
            ("network:\n  interfaces:\n    - {name: wan, mtu: 1400}\n", "customer:3:7: network.interfaces[wan]: "),
            ("system:\n  users: [{name: eve, role: administrator}]\n", "customer:2:3: system.users: "),
            ("locks: [nat]\n", "customer:1:1: locks: "), ("nat:\n  forward: []\n", "customer:2:12: nat.forward: "),
            ("nat:\n  forwards: [{name: x}]\n", "customer:2:14: nat.forwards[1]"),
        ] {
            let path = try write(box, text)
            for verb in [["apply"], ["plan", "--document", "customer"]] {
                let result = try run(box, as: "carl", verb[0], path)
                #expect(result.status == 1 && result.errorText.contains(place), "\(verb) \(text): \(result.errorText)")
            }
        }
        #expect(
            try run(box, as: "carl", "apply", write(box, "system: {users: []}")).errorText.contains("plugin system"))
        let locked = try run(box, as: "carl", "apply", write(box, "firewall: {policies: []}"))
        #expect(locked.errorText.contains("provider:1:9"), "\(locked.errorText)")
        #expect(try box.decided() == before && box.ask("history")["commits"]?.list?.count == 1)
        // What the provider sets is not overridden in silence, and what he locks later is his at
        // once.
        let overridden = try run(box, as: "carl", "apply", write(box, "nat: {forwards: [{name: web, to-port: 8000}]}"))
        #expect(
            overridden.status == 0
                && overridden.errorText.contains("nat.forwards[web].to-port: has no effect: provider:"),
            "\(overridden)")
        #expect(try box.decided() == before)
        #expect(try run(box, as: "carl", "apply", write(box, Self.customer)).status == 0)
        let lock = Self.provider.editing("locks: [", with: "locks: [nat, ")
        let answer = try box.ask("apply", ["site": .text(lock), "name": "site.yaml"])
        let warnings = (answer["warnings"]?.list ?? []).compactMap(\.text)
        #expect(warnings.contains { $0.contains("customer:1:1: nat: the path is locked") }, "\(answer)")
        let state = try box.decided()
        #expect(!state.contains("192.168.1.11:9000") && state.contains("firewall: rules[camera-out]"))
    }

    /// The provider's rules come before the customer's: what they take of his, he is told with both
    /// lines.
    @Test func rulesBehindTheProvidersAreWarnedOf() throws {
        let box = try ready()
        let covered = """
            firewall:
              rules:
                - {name: ssh, from: lan, to: box, protocol: tcp, ports: [22], action: accept}

            """
        let applied = try run(box, as: "carl", "apply", write(box, covered))
        #expect(
            applied.status == 0 && applied.errorText.contains("customer:3:7: firewall.rules[2]")
                && applied.errorText.contains("provider:20:7"), "\(applied.errorText)")
        let blocked = try run(box, as: "carl", "firewall", "block", "192.168.1.11")
        #expect(
            blocked.status == 0 && blocked.errorText.contains("firewall.rules[block-192-168-1-11]")
                && blocked.errorText.contains("provider:19:7"), "\(blocked)")
        let unhindered = try box.vcpectl("firewall", "block", "192.168.1.12")
        #expect(unhindered.status == 0 && !unhindered.errorText.contains("placed after"), "\(unhindered)")
    }

    /// A lock that matches nothing would lock nothing.
    @Test func wrongLocksAreRefused() throws {
        let box = try BoxInNetwork.ready()
        let error = try box.apply("locks: [firewall.polices]\n" + BoxInNetwork.site)
        #expect(
            error?.contains("site.yaml:1:9: locks[0]: ") == true && error?.contains("policies?") == true,
            "\(error ?? "")")
        #expect(try box.apply("locks: [firewall.policies]\n" + BoxInNetwork.site) == nil)
        // A command that edits the document keeps them.
        #expect(try box.vcpectl("firewall", "block", "198.51.100.7").status == 0)
        #expect(try box.vcpectl("show").text.contains("locks: [firewall.policies]"))
    }

    @Test func theCustomersAdministratorChangesHisDocumentAlone() throws {
        let box = try ready()
        for words in [["set", "nat.forwards[web].to-port", "81"], ["commit"], ["discard"], ["rollback", "1"]] {
            let result = try box.onBox(
                ["setpriv", "--reuid", "20005", "--regid", "993", "--groups", "993,990", "\(box.folder)/vcpectl"]
                    + words + ["--document", "provider"])
            #expect(
                result.status == 1 && result.errorText.contains("carl has the role customer, which may change"),
                "\(words): \(result)")
        }
        for words in [["reboot"], ["factory-reset", "--yes"]] {
            let result = try run(box, as: "carl", words[0], words.count > 1 ? words[1] : "--json")
            #expect(result.errorText.contains("is for the role administrator"), "\(words): \(result)")
        }
        #expect(try run(box, as: "rita", "set", "nat.x", "1").errorText.contains("is for the role customer"))
        // His candidate is not the provider's, and a provider's commit meanwhile is none of its
        // concern.
        #expect(try run(box, as: "carl", "set", "nat.forwards[camera].from", "wan").status == 0)
        _ = try run(box, as: "carl", "set", "nat.forwards[camera].protocol", "tcp")
        _ = try run(box, as: "carl", "set", "nat.forwards[camera].ports", "9000")
        #expect(try box.vcpectl("diff").text.isEmpty)
        #expect(try box.apply(Self.provider.editing("to-port: 80}", with: "to-port: 81}")) == nil)
        #expect(try run(box, as: "carl", "check").errorText.contains("customer:3:7: nat.forwards[1].to: "))
        _ = try run(box, as: "carl", "set", "nat.forwards[camera].to", "192.168.1.11")
        #expect(try run(box, as: "carl", "check").text.contains("it can be applied"))
        #expect(try run(box, as: "carl", "diff").text.contains("+    - name: camera"))
        #expect(try run(box, as: "carl", "commit", "--comment", "mine").text.contains("commit 3 is applied"))
        #expect(try box.decided().contains("192.168.1.11:9000"))
        // A command of a plugin writes to his document as well.
        let blocked = try run(box, as: "carl", "firewall", "block", "198.51.100.7")
        #expect(blocked.status == 0, "\(blocked)")
        #expect(
            try box.vcpectl("show", "--document", "customer", "firewall.rules[block-198-51-100-7].action").text
                == "drop\n")
        #expect(try run(box, as: "carl", "firewall", "unblock", "198.51.100.7").status == 0)
        #expect(try box.vcpectl("firewall", "block", "198.51.100.8").status == 0)
        let others = try run(box, as: "carl", "firewall", "unblock", "198.51.100.8")
        #expect(others.status == 1 && others.errorText.contains("the document customer does not set it; provider:"))
        // An administrator may work on both.
        #expect(try run(box, as: "alice", "delete", "nat", "--document", "customer").status == 0)
        #expect(try run(box, as: "alice", "commit", "--document", "customer").status == 0)
        #expect(try !box.decided().contains("192.168.1.11:9000"))
    }

    /// While probes decide on a provider's commit, a customer neither confirms nor replaces it: a
    /// rollback of his own would take the provider's away.
    @Test func aCustomerWaitsForAProvidersCommit() throws {
        let box = try ready()
        let probed = Self.provider.editing(
            "firewall:\n",
            with: "  probes:\n    - {name: peer, ping: 203.0.113.1, interval: 1, timeout: 1}\nfirewall:\n")
        #expect(try box.apply(probed) == nil)
        func isPassing() throws -> Bool {
            try box.ask("health")["probes"]?.list?.first { $0["name"]?.text == "network.peer" }?["holds"] == true
        }
        #expect(try Wait.until { try isPassing() && box.ask("status")["probation"] == nil }, "\(box.log)")
        // The probe fails after some tries, and the commit waits for it until then.
        let spoiled = probed.editing(
            "  probes:\n", with: "  routes:\n    - {to: 203.0.113.1/32, via: 192.168.1.99}\n  probes:\n")
        #expect(try box.apply(spoiled) == nil)
        let number = try #require(try box.ask("status")["commit"]?.integer)
        for words in [["confirm", "--json"], ["apply", try write(box, Self.customer)]] {
            let result = try run(box, as: "carl", words[0], words[1])
            #expect(
                result.status == 1 && result.errorText.contains("commit \(number) changes the document provider"),
                "\(result)")
        }
        #expect(try Wait.until(30) { try box.ask("status")["rolled-back"] != nil }, "\(box.log)")
        #expect(try run(box, as: "carl", "apply", write(box, Self.customer)).status == 0)
    }

    /// Rollback and confirmation are of the whole, and a customer's touch his document alone.
    @Test func rollbackAndConfirmationKnowTheOwners() throws {
        let box = try ready()
        #expect(try run(box, as: "carl", "apply", write(box, Self.customer)).status == 0)
        let changed = Self.provider.editing("to-port: 80}", with: "to-port: 81}")
        #expect(try box.apply(changed, confirm: 600) == nil)
        // The provider's commit waits: a customer neither confirms it nor replaces it.
        for words in [["confirm"], ["apply", "\(box.folder)/customer.yaml"], ["rollback", "2"]] {
            let result = try run(box, as: "carl", words[0], words.count > 1 ? words[1] : "--json")
            #expect(
                result.status == 1 && result.errorText.contains("commit 3 changes the document provider"), "\(result)")
        }
        #expect(try box.vcpectl("confirm").status == 0)
        let more = Self.customer.editing("ports: 9000", with: "ports: 9001")
        #expect(try run(box, as: "carl", "apply", write(box, more), "--confirm", "2s").status == 0)
        #expect(try box.decided().contains("9001"))
        #expect(try Wait.until { try !box.decided().contains("9001") })
        var state = try box.decided()
        #expect(!state.contains("9001") && state.contains("192.168.1.11:9000") && state.contains("192.168.1.10:81"))
        #expect(try run(box, as: "carl", "apply", box.folder + "/customer.yaml", "--confirm", "10m").status == 0)
        #expect(try run(box, as: "carl", "confirm").status == 0)
        // His rollback leaves the provider's document as it is; an administrator's restores all.
        #expect(try run(box, as: "carl", "rollback", "2").status == 0)
        state = try box.decided()
        #expect(state.contains("192.168.1.11:9000") && state.contains("192.168.1.10:81"))
        #expect(try box.vcpectl("rollback", "1").status == 0)
        state = try box.decided()
        #expect(!state.contains("192.168.1.11") && state.contains("192.168.1.10:80"))
        #expect(try box.ask("history")["commits"]?.list?.first?["changed"]?.list == ["provider", "customer"])
        #expect(try box.vcpectl("rollback", "5", "--document", "customer").status == 0)
        #expect(try box.decided().contains("9001") && box.decided().contains("192.168.1.10:80"))
    }

    /// A mask never stands for another owner's secret.
    @Test func secretsStayWithTheirOwners() throws {
        let box = try BoxInNetwork.ready(plugins: ["vault": "#!/bin/sh\ncat >/dev/null\n"])
        #expect(try box.apply(BoxInNetwork.site + "vault:\n  password: s3same\n") == nil)
        let stolen = try box.ask(
            "apply",
            ["site": "vault:\n  other: {password: '********'}\n  password: '********'\n", "document": "customer"])
        #expect(stolen["error"]?.text?.contains("none is known here") == true, "\(stolen)")
        let own: [String: JSON] = ["site": "vault:\n  more: {token: mine}\n", "document": "customer"]
        #expect(try box.ask("apply", own)["error"] == nil)
        let shown = try box.vcpectl("show").text
        #expect(
            !shown.contains("s3same") && !shown.contains("mine") && shown.contains("token: \"********\""), "\(shown)")
        let again: [String: JSON] = [
            "site": "vault:\n  more: {token: '********', x: 1}\n", "document": "customer",
        ]
        #expect(try box.ask("apply", again)["error"] == nil)
        let kept = String(decoding: try FileSystem.read("\(box.folder)/data/vcpe/commits/3"), as: UTF8.self)
        #expect(kept.contains("mine") && kept.contains("s3same"))
        for words in [["show-commit", "3"], ["show", "--origins"], ["show-commit", "3", "--document", "provider"]] {
            let text = try box.run(words).text
            #expect(!text.contains("mine") && !text.contains("s3same"), "\(words): \(text)")
        }
    }
}
