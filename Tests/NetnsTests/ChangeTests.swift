import Documents
import Files
import Glibc
@testable import ImageBuilder
import Processes
import TestSupport
import Testing

/// What a change does to what was there before, and what faults on the way leave.
@Suite(.serialized) struct ChangeTests {
    private static let swapped = BoxInNetwork.site.editing("port: order 1", with: "port: order X")
        .editing("[order 2]", with: "[order 1]").editing("order X", with: "order 2")
    private static let unbridged = BoxInNetwork.site.editing("bridge-ports: [order 2]", with: "port: order 2")

    @Test func interfacesChangeTheirPortsAndTheirKind() throws {
        let box = try BoxInNetwork.ready()
        let before = try box.decided()
        #expect(before.contains("wan inet 203.0.113.2/24") && before.contains("lan inet 192.168.1.1/24"))
        // The cables by the addresses of their cards: wan's is 52:54:00:00:00:01.
        #expect(before.contains("wan  52:54:00:00:00:01 up"))
        #expect(try box.apply(Self.swapped) == nil, "\(box.log)")
        let after = try box.decided()
        #expect(
            after.contains("wan  52:54:00:00:00:02 up") && after.contains("lan-1 lan 52:54:00:00:00:01 up"), "\(after)")
        #expect(after.filter("inet 203.0.113.2/24") == ["wan inet 203.0.113.2/24"], "\(after)")
        #expect(after.filter("inet 192.168.1.1/24") == ["lan inet 192.168.1.1/24"], "\(after)")
        #expect(try box.apply(Self.unbridged) == nil, "\(box.log)")
        let plain = try box.decided()
        #expect(plain.contains("lan  52:54:00:00:00:02 up") && !plain.contains("vcpe-lan"), "\(plain)")
        #expect(
            plain.filter(" inet ").filter { !$0.contains("table") } == [
                "lan inet 192.168.1.1/24", "lo inet 127.0.0.1/8", "wan inet 203.0.113.2/24",
            ], "\(plain)")
        #expect(try box.apply(BoxInNetwork.site) == nil, "\(box.log)")
        #expect(try box.decided() == before)
        for proof in try PacketTests.proofs() {
            let result = try box.probing().run(proof)
            #expect(result.passed, "\(proof.name): \(result.seen)")
        }
    }

    @Test func addressesOfOneNetworkComeAndGo() throws {
        let box = try BoxInNetwork.ready()
        let three = BoxInNetwork.site.editing(
            "203.0.113.2/24]", with: "203.0.113.2/24, 203.0.113.3/24, 203.0.113.4/24]")
        #expect(try box.apply(three) == nil)
        #expect(try box.decided().filter("inet 203").count == 3)
        #expect(try box.apply(three.editing("203.0.113.2/24, ", with: "")) == nil, "\(box.log)")
        #expect(try box.decided().filter("inet 203") == ["wan inet 203.0.113.3/24", "wan inet 203.0.113.4/24"])
        #expect(try box.apply(BoxInNetwork.site.editing("203.0.113.2/24", with: "198.51.100.2/24")) == nil)
        #expect(try box.decided().filter("wan inet ") == ["wan inet 198.51.100.2/24"], "\(box.log)")
        #expect(try box.apply(BoxInNetwork.site) == nil)
        #expect(try box.decided().filter("wan inet ") == ["wan inet 203.0.113.2/24"], "\(box.log)")
    }

    /// kill -9 at any moment of a change: the next engine brings the box to the one document or to the other, whole.
    @Test func anEngineThatFallsInAChangeLeavesNoMixture() throws {
        var random = Random(seed: 11)
        var stood = try Self.fall(60, &random)
        var falls = 60
        // Falls before and behind the change itself show nothing; how many are within it is the machine's to say.
        while stood.inside <= 5, falls < 300 {
            let more = try Self.fall(60, &random)
            falls += 60
            stood = (
                stood.first + more.first, stood.second + more.second, stood.mixtures + more.mixtures,
                stood.inside + more.inside
            )
        }
        #expect(stood.mixtures == 0 && stood.inside > 5)
        print(
            "\(falls) falls in a change: \(stood.first) times the first document stood, \(stood.second) times the second; \(stood.inside) in the middle of the transaction"
        )
    }

    /// Has an engine fall in the middle of changes between two documents that have little in common.
    static func fall(_ count: Int, _ random: inout Random) throws -> (
        first: Int, second: Int, mixtures: Int, inside: Int
    ) {
        let box = try BoxInNetwork.ready()
        let sites = [
            BoxInNetwork.site,
            swapped.editing("203.0.113.2/24", with: "198.51.100.2/24").editing(
                "to-port: 80}", with: "to-port: 81}"
            ).editing("lan-to-box", with: "nobody-to-box"),
        ]
        let states = try sites.reversed().map { site in
            #expect(try box.apply(site) == nil)
            return try box.decided()
        }
        #expect(states[0] != states[1])
        var (stood, mixtures, current, inside) = ([0, 0], 0, 0, 0)
        func isUnderWay() throws -> Bool {
            String(decoding: try FileSystem.read("\(box.folder)/run/engine/applied.now"), as: UTF8.self).contains(
                "\"settled\":false")
        }
        for round in 0..<count {
            let call = try box.say("apply", ["site": .text(sites[1 - current]), "name": "site.yaml"])
            if round % 3 == 0 {
                // Anywhere: while it plans, keeps, applies, answers.
                usleep(UInt32(random.next(60_000)))
            } else {
                // In the transaction, which takes about 15 ms here.
                let end = Clock.seconds + 2
                while Clock.seconds < end, try !isUnderWay() { usleep(200) }
                usleep(UInt32(random.next(15_000)))
            }
            box.killEngine()
            _ = call
            if try isUnderWay() { inside += 1 }
            try box.start()
            #expect(try box.ask("status")["trouble"] == nil, "\(box.log)")
            let now = try box.decided()
            if let found = [states[1], states[0]].firstIndex(of: now) {
                stood[found] += 1
                current = found
            } else {
                mixtures += 1
                Issue.record("a mixture\n\(now)\n\(box.log.suffix(2000))")
            }
        }
        return (stood[0], stood[1], mixtures, inside)
    }

    @Test func aRuleReachesWhatIsForwarded() throws {
        let rule = "{name: lan-to-box, from: lan, to: box, action: reject}"
        let box = try BoxInNetwork.ready(
            site: BoxInNetwork.site.editing(
                rule,
                with: "\(rule)\n    - {name: no-web, from: wan, to: lan, protocol: tcp, ports: [80], action: drop}")
        )
        let proof = try #require(try PacketTests.proofs().first { $0.name == "a forwarded port reaches its host" })
        #expect(try !box.probing().run(proof).passed)
        #expect(try box.ask("status")["trouble"] == nil)
        #expect(try box.apply(BoxInNetwork.site) == nil && box.probing().run(proof).passed)
    }

    /// Echo is let through where no rule says otherwise, and not where one does.
    @Test func aRuleReachesEchoToo() throws {
        let box = try BoxInNetwork.ready(
            site: BoxInNetwork.site.editing(
                "  rules:\n", with: "  rules:\n    - {name: hide, from: wan, to: box, protocol: icmp, action: drop}\n"))
        let proofs = try PacketTests.proofs()
        let (wan, lan) = (
            proofs.first { $0.name == "WAN pings the box" }, proofs.first { $0.name == "LAN pings the box" }
        )
        #expect(try !box.probing().run(try #require(wan)).passed)
        #expect(try box.probing().run(try #require(lan)).passed)
    }

    @Test func aDocumentThatCantBeKeptIsNotApplied() throws {
        let box = try BoxInNetwork.ready()
        let before = try box.decided()
        try Command("mount", ["-t", "tmpfs", "-o", "size=64k", "tmpfs", "\(box.folder)/data"]).check()
        defer { _ = try? Command("umount", ["\(box.folder)/data"]).run() }
        _ = try Command("dd", ["if=/dev/zero", "of=\(box.folder)/data/full", "bs=4k"]).run()
        let error = try box.apply(Self.swapped)
        #expect(error?.contains("No space left on device") == true, "\(error ?? "applied")")
        #expect(try box.decided() == before)
        #expect(try box.ask("show")["site"]?.text == BoxInNetwork.site)
        try FileSystem.remove("\(box.folder)/data/full")
        #expect(try box.apply(Self.swapped) == nil)
    }

    @Test func leasesOutliveAnEnginesFallAndEndInTheirTime() throws {
        let site = BoxInNetwork.site.editing("{addresses: [203.0.113.2/24]}", with: "{dhcp: true}")
        let box = try BoxInNetwork.ready(site: site)
        func lend(_ address: String, gateway: String, seconds: Int) throws {
            try box.report(
                "--seconds", "\(seconds)", "leases", "wan", "address=\(address)", "gateway=\(gateway)")
        }
        try lend("203.0.113.77/24", gateway: "203.0.113.1", seconds: 6)
        box.killEngine()
        try box.start()
        let with = try box.decided()
        #expect(
            with.contains("wan inet 203.0.113.77/24") && with.contains("default via 203.0.113.1 dev wan"), "\(box.log)")
        // The hairpin is for the address that was lent.
        #expect(with.contains("ip daddr 203.0.113.77 tcp dport 8080"), "\(with)")
        let end = Clock.seconds + 12
        while Clock.seconds < end, try box.decided().contains("203.0.113.77") { usleep(100_000) }
        let without = try box.decided()
        #expect(!without.contains("203.0.113.77") && !without.contains("default via"), "\(box.log)")
        // A lone address, its gateway beyond it.
        try lend("100.64.7.9/32", gateway: "100.64.0.1", seconds: 600)
        #expect(
            try Wait.until(10) {
                let lone = try box.decided()
                return lone.contains("wan inet 100.64.7.9/32") && lone.contains("default via 100.64.0.1 dev wan")
            }, "\(box.log)")
        // One that the site has itself.
        try lend("192.168.1.50/24", gateway: "192.168.1.254", seconds: 600)
        let refusal = "the lease 192.168.1.50/24 of wan overlaps 192.168.1.1/24: it is not used"
        #expect(Wait.until(10) { box.log.contains(refusal) }, "\(box.log)")
        #expect(try !box.decided().contains("192.168.1.50"))
        #expect(try box.ask("status")["trouble"] == nil)
    }

    @Test func aFailureThatPassesIsTriedAgain() throws {
        let box = try BoxInNetwork.ready(
            site: BoxInNetwork.site + "late: {}\n",
            plugins: ["late": "#!/bin/sh\ncat >/dev/null\n[ -e \"$0.ready\" ]\n"])
        #expect(try box.ask("status")["trouble"]?.text?.contains("plugin late publish: it ended with 1") == true)
        #expect(try !box.decided().contains("192.168.1.1/24"))
        try FileSystem.replace("\(box.folder)/plugins/late/late.ready", with: "")
        let end = Clock.seconds + 15
        while Clock.seconds < end, try box.ask("status")["trouble"] != nil { usleep(100_000) }
        #expect(try box.decided().contains("lan inet 192.168.1.1/24"), "\(box.log)")
    }

    /// A map holds on to the chains that it leads to: it must go before them.
    @Test func mapsAndTheirChainsGoTogether() throws {
        let chain =
            #"{"kind":"nftables","id":"chain leads.c","chain":{"name":"leads.c","rules":[]}}"#
        let map =
            #"{"kind":"nftables","id":"set leads.m","map":{"name":"leads.m","type":"inet_service","map":"verdict","elem":[[80,{"jump":{"target":"leads.c"}}]]}}"#
        let box = try BoxInNetwork.ready(plugins: [
            "leads":
                "#!/bin/sh\ngrep -q '\"configuration\":{\"on\"' || exit 0\n[ $1 = publish ] || printf '%s\\n' '\(chain)' '\(map)'\n"
        ])
        for _ in 0..<2 {
            #expect(try box.apply(BoxInNetwork.site + "leads: {on: true}\n") == nil)
            #expect(try box.decided().contains("80 : jump leads.c"))
            // As another engine finds it, too.
            if try box.ask("status")["trouble"] == nil {
                box.killEngine()
                try box.start()
            }
            #expect(try box.apply(BoxInNetwork.site) == nil, "\(box.log)")
            #expect(try !box.decided().contains("leads."))
            #expect(try box.apply(BoxInNetwork.site + "leads: {on: true}\n") == nil)
            #expect(try box.apply(BoxInNetwork.site) == nil, "\(box.log)")
        }
    }

    @Test func anEngineThatFindsNoTableMakesOneAtOnce() throws {
        let box = try BoxInNetwork.ready()
        box.killEngine()
        _ = try box.box.run { try Command("nft", ["delete", "table", "inet", "vcpe"]).check() }
        try FileSystem.replace("\(box.folder)/site.yaml", with: "network: {zones: [wan]}\n")
        try box.start()
        let state = try box.decided()
        #expect(state.contains("type filter hook forward priority filter; policy drop;"), "\(box.log)")
    }
}

/// Falls without end.
@Suite(.serialized) struct ChangeTorture {
    @Test func engineFallsInChanges() throws {
        var random = Random(seed: Torture.seed)
        let stood = try ChangeTests.fall(1000, &random)
        try Torture.note(
            "kill -9 of the engine in a change", checked: stood.first + stood.second + stood.mixtures,
            failed: stood.mixtures)
    }
}

extension String {
    /// The lines that hold a text.
    fileprivate func filter(_ text: String) -> [String] {
        split(separator: "\n").map(String.init).filter { $0.contains(text) }
    }
}
