import Documents
import Files
import Glibc
@testable import ImageBuilder
import PluginKit
import Processes
import TestSupport
import Testing

/// What operators do with vcpectl on a box.
@Suite(.serialized) struct OperatorTests {
    private func said(_ box: BoxInNetwork, _ arguments: String...) throws -> String {
        let result = try box.run(arguments)
        #expect(result.status == 0, "\(arguments): \(result.errorText)\(box.log.suffix(500))")
        return result.text
    }

    @Test func theCandidateIsWorkedOnAndCommittedWhole() throws {
        let box = try BoxInNetwork.ready()
        #expect(try said(box, "show") == BoxInNetwork.site)
        #expect(try said(box, "diff").isEmpty && said(box, "show", "nat.forwards[web].to-port") == "80\n")
        _ = try said(box, "set", "nat.forwards[web].to-port", "8081")
        _ = try said(box, "set", "firewall.rules[new].from", "wan")
        _ = try said(box, "set", "firewall.rules[new].to", "lan")
        // Not whole yet: the place is said, and nothing has changed.
        let check = try box.vcpectl("check")
        #expect(check.status == 1 && check.errorText.contains("firewall.rules[2].action: the key is missing"))
        #expect(try box.vcpectl("commit").status == 1)
        #expect(try !box.decided().contains("8081"))
        _ = try said(box, "set", "firewall.rules[new].action", "accept")
        _ = try said(box, "delete", "firewall.rules[lan-to-box]")
        let diff = try said(box, "diff")
        #expect(diff.contains("+      to-port: 8081") && diff.contains("-    - {name: lan-to-box"), "\(diff)")
        #expect(try said(box, "check").contains("it can be applied"))
        #expect(try said(box, "commit", "--comment", "ticket 4711").contains("commit 1 is applied: "))
        let state = try box.decided()
        #expect(state.contains("dnat ip to 192.168.1.10:8081") && state.contains("firewall: rules[new]"))
        #expect(!state.contains("lan-to-box"))
        #expect(try said(box, "diff").isEmpty && said(box, "history").contains("ticket 4711"))
        #expect(try said(box, "show-commit", "1").contains("to-port: 8081"))
        #expect(try box.vcpectl("commit").errorText.contains("there is nothing to commit"))
        // What was begun on another document is not laid over a newer one unasked.
        _ = try said(box, "set", "nat.forwards[web].to-port", "8082")
        #expect(try box.apply(BoxInNetwork.site) == nil)
        let stale = try box.vcpectl("commit")
        #expect(stale.status == 1 && stale.errorText.contains("was begun from the operator's document (commit 1)"))
        #expect(try said(box, "diff", "1", "2").contains("+      to-port: 80") == false)
        #expect(try said(box, "commit", "--force").contains("commit 3 is applied"))
        _ = try said(box, "set", "nat.forwards[web].to-port", "8083")
        _ = try said(box, "discard")
        #expect(try said(box, "diff").isEmpty && box.decided().contains("192.168.1.10:8082"))
        #expect(try said(box, "rollback", "2").contains("commit 4 is applied"))
    }

    /// A candidate that was begun on the factory's document is no newer than that, whoever goes on with it.
    @Test func aCandidateKeepsWhatItWasBegunFrom() throws {
        let box = try BoxInNetwork.ready()
        _ = try said(box, "set", "nat.forwards[web].to-port", "8081")
        #expect(try box.apply(BoxInNetwork.site.editing("to-port: 80}", with: "to-port: 82}")) == nil)
        _ = try said(box, "set", "nat.forwards[web].to-port", "8083")
        #expect(try box.vcpectl("commit").errorText.contains("was begun from the factory's document"))
        #expect(try box.decided().contains("192.168.1.10:82"))
    }

    /// Comments and layout are the operator's.
    @Test func theEditorAndAFileMakeTheCandidate() throws {
        let box = try BoxInNetwork.ready()
        let commented = "# ours\n" + BoxInNetwork.site
        try FileSystem.replace("\(box.folder)/new.yaml", with: commented)
        _ = try said(box, "load", "\(box.folder)/new.yaml")
        let edited = try box.onBox(["env", "EDITOR=sed -i s/8080/8081/", "\(box.folder)/vcpectl", "edit"])
        #expect(edited.status == 0 && edited.text.contains("vcpectl diff shows"), "\(edited.errorText)")
        #expect(try said(box, "show", "--candidate") == commented.editing("8080", with: "8081"))
        // What can't be read is kept for the one who wrote it.
        let spoiled = try box.onBox(["env", "EDITOR=sed -i s/nat:/nat:]/", "\(box.folder)/vcpectl", "edit"])
        #expect(spoiled.status == 1 && spoiled.errorText.contains("what you wrote is in /tmp/vcpectl-"))
        for name in try FileSystem.list("/tmp") where name.hasPrefix("vcpectl-") {
            try FileSystem.remove("/tmp/\(name)")
        }
        #expect(try said(box, "commit").contains("commit 1 is applied") && box.decided().contains("dport 8081"))
    }

    /// A commit that waits for its confirmation isn't confirmed by the way.
    @Test func aPluginsCommandConfirmsNothing() throws {
        let box = try BoxInNetwork.ready()
        #expect(try box.apply(BoxInNetwork.site.editing("to-port: 80}", with: "to-port: 81}"), confirm: 600) == nil)
        let result = try box.vcpectl("firewall", "block", "198.51.100.7")
        #expect(result.status == 1 && result.errorText.contains("commit 1 waits for its confirmation"))
        #expect(try box.ask("status")["rollback-in"] != nil)
    }

    /// All of ten thousand lines are others: said at once, and in little memory.
    @Test func differencesOfLongDocumentsCostLittle() throws {
        let box = try BoxInNetwork.ready()
        func lines(_ word: String) -> String { (0..<10_000).map { "# \(word) \($0)\n" }.joined() }
        #expect(
            try box.apply(BoxInNetwork.site + lines("left")) == nil
                && box.apply(BoxInNetwork.site + lines("right")) == nil)
        let begin = Clock.seconds
        let diff = try said(box, "diff", "1", "2").split(separator: "\n")
        #expect(diff.filter { $0.hasPrefix("-") }.count == 10_000 && diff.filter { $0.hasPrefix("+") }.count == 10_000)
        #expect(Clock.seconds - begin < 5)
        let memory = String(
            decoding: try File("/proc/\(#require(box.engine).pid)/status", O_RDONLY).read(4096, at: 0), as: UTF8.self)
        let peak = try #require(memory.split(separator: "\n").first { $0.hasPrefix("VmHWM:") })
        #expect(Int(peak.filter(\.isNumber)) ?? .max < 150_000, "\(peak)")
    }

    @Test func wrongWordsAreAnsweredWithRightOnes() throws {
        let box = try BoxInNetwork.ready()
        for (words, code, text) in [
            (["stats"], 64, "did you mean status?"), (["firewal"], 64, "did you mean firewall?"),
            (["apply"], 64, "vcpectl apply FILE: follow a document"),
            (["apply", "x", "--confrm", "1m"], 64, "did you mean --confirm?"),
            (["apply", "/nonexistent"], 1, "/nonexistent: open: No such file"),
            (["apply", "x", "--confirm", "soon"], 64, "10m"),
            (["firewall", "hitz"], 1, "did you mean hits?"),
            (["firewall", "hits", "wep"], 1, "there is no rule \"wep\""),
            (["firewall", "block"], 1, "usage: vcpectl firewall block ADDRESS"),
            (["set", "firewall..x", "1"], 1, "is no path"),
            (["show", "firewall.nothing"], 1, "the document has nothing there"),
            (["set", "network.zones[9]", "x"], 1, "the list has 2 items"),
            (["show-commit", "x"], 64, "is no commit's number"),
        ] as [([String], Int32, String)] {
            let result = try box.run(words)
            #expect(
                result.status == code && result.errorText.contains(text),
                "\(words): \(result.status) \(result.errorText)")
        }
        #expect(try box.ask("history")["commits"]?.list == [])
        let help = try said(box, "--help")
        for line in help.split(separator: "\n") { #expect(line.count <= 120, "\(line)") }
        #expect(help.contains("firewall hits [RULE]") && help.contains("network renew INTERFACE"))
    }

    /// vcpectl knows of them by the plugins' manifests alone.
    @Test func commandsOfPluginsShowAndAct() throws {
        let box = try BoxInNetwork.ready()
        let proof = try #require(try PacketTests.proofs().first { $0.name == "LAN pings the box" })
        #expect(try box.probing().run(proof).passed)
        let hits = try JSON.parse(Array(try said(box, "firewall", "hits", "--json").utf8)).list ?? []
        let pings = hits.first { $0["name"]?.text == "lan-pings-box" }
        #expect(pings?["packets"]?.integer ?? 0 > 0, "\(hits)")
        let table = try said(box, "firewall", "top").split(separator: "\n")
        #expect(table.first == "NAME           WHAT             PACKETS  BYTES" && table.allSatisfy { $0.count <= 80 })
        let explained = try said(box, "explain", "lan-to-box")
        #expect(explained.contains("firewall.rules[lan-to-box], site.yaml:19:7, "), "\(explained)")
        let wan = try #require(try PacketTests.proofs().first { $0.name == "a forwarded port reaches its host" })
        #expect(try box.probing().run(wan).passed)
        let blocked = try said(box, "firewall", "block", "203.0.113.0/24")
        #expect(blocked.contains("commit 1 is applied") && blocked.contains("203.0.113.0/24 is blocked"), "\(blocked)")
        #expect(try !box.probing().run(wan).passed)
        #expect(try said(box, "history").contains("firewall block 203.0.113.0/24"))
        #expect(try box.vcpectl("firewall", "block", "203.0.113.0/24").errorText.contains("is blocked already"))
        _ = try said(box, "firewall", "unblock", "203.0.113.0/24")
        #expect(try box.probing().run(wan).passed)
    }

    @Test func wordsAreCompleted() throws {
        let box = try BoxInNetwork.ready()
        func complete(_ words: String...) throws -> [String] {
            try box.run(["complete"] + words).text.split(separator: "\n").map(String.init)
        }
        #expect(try complete("fire") == ["firewall"] && complete("firewall", "h") == ["hits"])
        #expect(try complete("firewall", "hits", "lan-p") == ["lan-pings-box"])
        #expect(try complete("show", "nat.f") == ["nat.forwards["])
        #expect(try complete("show", "nat.forwards[") == ["nat.forwards[web]"])
        #expect(try complete("show", "nat.forwards[web].to") == ["nat.forwards[web].to", "nat.forwards[web].to-port"])
        // What isn't there yet is known by the YANG modules.
        #expect(try complete("set", "firewall.log-") == ["firewall.log-drops"])
        #expect(try complete("set", "firewall.rules[x].action", "") == ["accept", "drop", "reject"])
        #expect(try complete("set", "firewall.log-drops", "") == ["false", "true"])
        #expect(try complete("apply", "x", "--c") == ["--comment", "--confirm"])
        let script = try said(box, "completion", "bash")
        #expect(try Command("bash", ["-n", "-c", script]).run().status == 0)
    }

    /// Completion as a shell does it.
    @Test func bashCompletes() throws {
        let box = try BoxInNetwork.ready()
        let bash = """
            vcpectl() { "\(box.folder)/vcpectl" "$@"; }
            source <(vcpectl completion bash)
            COMP_WORDS=(vcpectl show nat.forwards[web].prot) COMP_CWORD=2
            _vcpectl; printf '%s|' "${COMPREPLY[@]}"
            COMP_WORDS=(vcpectl firewall "") COMP_CWORD=2
            _vcpectl; printf '%s|' "${COMPREPLY[@]}"
            """
        let result = try box.onBox(["bash", "-c", bash])
        #expect(
            result.text == "nat.forwards[web].protocol |block|blocked|hits|names|sessions|top|unblock|",
            "\(result.errorText)")
    }

    @Test func documentsLeaveAsInstanceDataOfTheirModules() throws {
        let box = try BoxInNetwork.ready()
        let data = try said(box, "show", "--rfc7951")
        #expect(data.contains("\"vcpe-network:network\"") && data.contains("\"vcpe-nat:nat\""))
        let folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-yang")
        defer { try? FileSystem.remove(folder) }
        try FileSystem.replace("\(folder)/site.json", with: data)
        let plugins = try FileSystem.list("\(box.folder)/plugins").map { "\(box.folder)/plugins/\($0)" }
            .filter(FileSystem.isDirectory)
        let modules = try plugins.flatMap { plugin in
            try FileSystem.list(plugin).filter { $0.hasSuffix(".yang") }.map { "\(plugin)/\($0)" }
        }
        let result = try Command(
            "yanglint", plugins.flatMap { ["-p", $0] } + ["-t", "config"] + modules + ["\(folder)/site.json"]
        ).run()
        #expect(result.status == 0, "\(result.errorText)")
    }

    @Test func secretsAreShownToNobody() throws {
        let body = "#!/bin/sh\ncat >/dev/null\n"
        let box = try BoxInNetwork.ready(plugins: ["vault": body])
        let site =
            BoxInNetwork.site
            + "vault:\n  users:\n    - {name: ann, password: s3same}\n    - {name: bob, password: open}\n"
        #expect(try box.apply(site) == nil)
        for words in [["show"], ["show-commit", "1"], ["support-bundle"], ["show", "vault.users[ann]"]] {
            let text = try box.run(words).text
            #expect(!text.contains("s3same") && text.contains("********"), "\(words): \(text)")
        }
        // Given back as it was shown, it is what it was; another one is taken.
        var shown = try said(box, "show")
        #expect(try box.apply(shown.editing("to-port: 80", with: "to-port: 81")) == nil)
        let file = "\(box.folder)/data/vcpe/commits/2"
        var kept = String(decoding: try FileSystem.read(file), as: UTF8.self)
        #expect(kept.contains("s3same") && kept.contains("open") && !kept.contains("****"), "\(kept)")
        shown = try said(box, "show")
        let place = try #require(shown.firstRange(of: "\"********\""))
        shown.replaceSubrange(place, with: "other")
        #expect(try box.apply(shown) == nil)
        // A mask where nothing is known to stand is none.
        let unknown = try box.apply(
            shown.replacing("name: ann", with: "name: eve").replacing("other", with: "\"********\""))
        #expect(
            unknown?.contains("means a known secret, and none is known here") == true, "\(unknown ?? "taken")")
        kept = String(decoding: try FileSystem.read("\(box.folder)/data/vcpe/commits/3"), as: UTF8.self)
        #expect(kept.contains("other") && kept.contains("open") && !kept.contains("s3same"), "\(kept)")
        let bytes = try File(file).status()
        #expect(bytes.st_mode & 0o777 == 0o600)
    }
}
