import Disks
import Documents
import Files
import Glibc
@testable import ImageBuilder
import Processes
import TestSupport
import Testing

extension BootTests {
    /// The signed image as its user tests it: by the firmware with Secure Boot and the definition's
    /// own certificate.
    @Test func theBranchOfficePassesItsProofs() async throws {
        let options = try await TestImages.branchSigned()
        let image = try BuiltImage("branch-signed", profile: "virtio", output: TestImages.output)
        let words = [
            "\(TestImages.repository)/.build/debug/vcpe", "test", "branch-signed", "--images", options.images,
            "--output",
            options.output, "--box", options.box, "--profile", "virtio", "--json", "--junit", "\(folder)/junit.xml",
        ]
        let (output, progress) = ("\(folder)/json", "\(folder)/progress")
        let process = try Command(
            "sh", ["-c", "exec \"$@\" >\(output) 2>\(progress)", "sh"] + words,
            environment: ["HOME": getenv("HOME").map { String(cString: $0) } ?? "/root"]
        ).start(output: File("\(folder)/shell", O_WRONLY | O_CREAT))
        func said() -> String {
            (try? FileSystem.read(progress)).map { String(decoding: $0, as: UTF8.self) } ?? ""
        }
        // Progress appears while the command runs, not when it ends.
        #expect(Wait.until(200) { said().contains("  ok      boots  ") || process.poll() != nil })
        #expect(process.poll() == nil, "\(said())")
        #expect(Wait.until(200) { process.poll() != nil })
        #expect(process.poll() == 0, "\(said())")
        let record = try ProofRecord(JSON.parse(FileSystem.read(output)))
        #expect(try record == ProofRecord.read("\(image.folder)/\(image.stem).proofs.json"))
        #expect(record.passed && record.proofs.count == 17, "\(record.failures)")
        #expect(record.machine.secureBoot && record.machine.loaderEntry == "vcpe-1.efi")
        #expect(try record.digests == image.digests() && record.digests.count == 4)
        #expect(record.traffic.count == 28 && record.traffic.allSatisfy { $0.sent > 0 })
        // Allowed packets of each kind were observed, so a leak of the others would have been.
        for row in record.traffic where row.from == .lan && ![.spoofed, .vlan].contains(row.kind.form) {
            #expect(row.arrived > 0, "\(row.label)")
        }
        let junit = String(decoding: try FileSystem.read("\(folder)/junit.xml"), as: UTF8.self)
        let controls = record.controls.map(\.name)
        #expect(Set(controls).isSuperset(of: ["boots", "drivers are loaded", "runs to the end"]), "\(controls)")
        #expect(junit.contains("failures=\"0\"") && junit.occurrences(of: "<testcase ") == 17 + controls.count + 28)
        print(said())
    }

    /// From the WAN into the LAN, and the LAN's own addresses on the WAN.
    @Test func aBrokenPolicyFails() async throws {
        let broken = try await TestImages.branch(site: [
            (
                "{from: lan, to: wan, action: accept}",
                "{from: lan, to: wan, action: accept}\n    - {from: wan, to: lan, action: accept}"
            )
        ])
        let bad = try prove("branch-broken", broken)
        #expect(!bad.passed && bad.controls.allSatisfy { $0.status == .passed }, "\(bad.controls)")
        let failed = bad.proofs.filter { $0.status == .failed }.map(\.name)
        #expect(
            failed.contains("WAN to LAN by TCP is dropped") && failed.contains("WAN to LAN by UDP is dropped"),
            "\(failed)")
        let leaks = bad.traffic.filter { $0.leaked > 0 && $0.from == .wan }.map(\.label)
        for kind in ["udp/ipv4", "tcp-syn/ipv4", "icmp/ipv4", "fragments/ipv4", "udp/ipv6", "fragments/ipv6"] {
            #expect(leaks.contains("\(kind) from wan"), "\(leaks)")
        }
    }

    private func prove(
        _ name: String, _ options: ImageBuild.Options, timeout: Double? = nil
    ) throws -> ProofRecord {
        let image = try BuiltImage(name, profile: "virtio", output: TestImages.output)
        let accelerator = try TestImages.accelerator(image, in: folder)
        return try ProofRun(name, options: options).run(
            in: "\(folder)/run", accelerator: accelerator, timeout: timeout
        ) { if case .note(let text) = $0 { print(text) } }
    }

    /// A box that hangs fulfils every proof that expects dropped packets.
    @Test func aBoxThatHangsFails() async throws {
        let record = try prove("branch-hanging", try await TestImages.hanging(), timeout: 25)
        #expect(!record.passed)
        #expect(record.controls.first { $0.name == "boots" }?.status == .failed, "\(record.controls)")
        #expect(record.proofs.map(\.status) == [.skipped])
        #expect(record.traffic.allSatisfy { $0.leaked == 0 })
        let written = try ProofRecord.read("\(TestImages.output)/branch-hanging/branch-hanging.proofs.json")
        #expect(written == record)
    }

    @Test func aBoxWhoseEngineNeverStartsFails() async throws {
        let record = try prove("branch-idle", try await TestImages.withoutEngine(), timeout: 60)
        #expect(!record.passed)
        #expect(record.controls.first { $0.name == "boots" }?.status == .passed, "\(record.controls)")
        #expect(record.controls.first { $0.name == "the engine is ready" }?.status == .failed, "\(record.controls)")
        #expect(record.proofs.map(\.status) == [.skipped])
    }

    /// The engine, dnsmasq and the DHCP client are killed, the clock jumps, memory runs out: PID 1
    /// restarts them, and the LAN keeps its services.
    @Test func whatCrashesIsRestartedAndPIDOneSurvives() async throws {
        let (image, options) = try await TestImages.branchDebug()
        let disk = "\(folder)/disk.raw"
        try TestImages.copy(image, to: disk)
        // As `vcpe flash --site` writes it: it becomes the operator's document.
        let site = "\(folder)/site.yaml"
        try Command("cp", ["\(TestImages.repository)/images/branch-office.site.yaml", site]).check()
        let esp = try #require(PartitionTable.read(try File(disk))["esp"])
        try Command("mcopy", ["-o", "-i", "\(disk)@@\(esp.offset)", site, "::vcpe/site.yaml"]).check()
        let run = try ProofRun("branch-debug", options: options)
        let network = try ProofNetwork(plan: run.plan, folder: folder)
        var machine = try TestImages.direct(image, disk: disk, folder: folder)
        machine.memory = 1024
        machine.networks = [
            .init(.tap(descriptor: 3), mac: try network.side(.wan).boxMAC.description),
            .init(.tap(descriptor: 4), mac: try network.side(.lan).boxMAC.description),
        ]
        machine.extra = ["-device", "i6300esb"]
        let box = try Machine(machine, in: folder, inheriting: network.taps)
        func waitFor(_ text: String, _ seconds: Double = 60) -> Bool { box.wait(forConsole: text, seconds: seconds) }
        #expect(box.wait(for: "service-ready", seconds: 120) != nil, "\(box.story)")
        #expect(box.wait(for: "coldplugged") != nil && box.wait(for: "watchdog") != nil, "\(box.story)")
        let traffic = try ProbeTraffic(network)
        let end = Clock.seconds + 60
        while Clock.seconds < end, traffic.now.firstForwarded == nil { usleep(50_000) }
        defer { traffic.stop() }
        let probing = Probing(network: network, boxOnWAN: traffic.now.source)
        func proofs(_ wanted: (Proof) -> Bool) throws {
            for proof in run.definition.proofs.filter(wanted) {
                var result = try probing.run(proof)
                let end = Clock.seconds + 30
                while !result.passed, proof.outcome == .answered, Clock.seconds < end {
                    result = try probing.run(proof)
                }
                #expect(result.passed, "\(proof.name): \(result.seen) \(box.console.suffix(1500))")
            }
        }
        try proofs { $0.from == .lan }
        // Forwarding continues during all crashes.
        let before = traffic.now.forwarded
        traffic.resetPauses()
        // dash is this image's sh, for a plugin. busybox's own shell runs busybox's programs
        // without links.
        try box.type("exec busybox sh\n")
        try box.type(
            "for p in dnsmasq dhcpcd vcpe-engine; do for i in $(pidof $p); do kill -9 $i; done; done; echo $((40+2))-killed\n"
        )
        #expect(waitFor("42-killed"))
        sleep(8)
        let flow = traffic.now
        #expect(
            flow.forwarded > before + 500 && max(flow.longestPause, Clock.seconds - flow.lastForwarded) < 1
                && flow.fromWAN == 0, "\(flow)")
        print("\(flow.forwarded - before) packets forwarded over the falls, longest pause \(flow.longestPause) s")
        try proofs { $0.from == .lan }
        // A time within ten years is believed; what can't be is put back, and the operator hears of it.
        try box.type("until vcpectl health; do sleep 1; done; echo $((40+1))-serves\n")
        #expect(waitFor("41-serves", 120), "\(box.story)")
        try box.type("date -s 2033-01-01; sleep 6; date -s 2001-01-01; sleep 6; date +%Y-$((40+3))-jumped\n")
        #expect(waitFor("2033-43-jumped"), "\(box.story)")
        try box.type("date -s 2060-01-01; sleep 6; date +%Y-$((40+3))-jumped-again; vcpectl health\n")
        #expect(waitFor("2033-43-jumped-again"), "\(box.story)")
        #expect(waitFor("clock: it was set to 2060-01-01T00:00:"), "\(box.story)")
        // A program takes all memory: the kernel kills it, and not PID 1.
        try box.type(
            "for i in 1 2 3; do dd if=/dev/zero of=/dev/null bs=500M count=1 & done; wait; echo $((40+4))-eaten\n")
        #expect(waitFor("44-eaten", 180) && box.console.contains("Out of memory"), "\(box.story)")
        // fork fails: PID 1 waits and tries again.
        try box.type(
            "i=$(pidof chronyd); echo 0 >/sys/fs/cgroup/services/pids.max; kill -9 $i; read -t 4 x; echo max >/sys/fs/cgroup/services/pids.max; echo $((40+5))-starved\n"
        )
        #expect(waitFor("45-starved", 60) && box.console.contains("(EAGAIN)"), "\(box.story)")
        try box.type("sleep 8; vcpectl services; vcpectl status; echo $((40+6))-listed\n")
        #expect(waitFor("46-listed", 60), "\(box.story)")
        try proofs { $0.from == .lan }
        // The operator's command. A plugin has ten seconds to plan, which may be too short for an
        // emulated box under load.
        try box.type("vcpectl show >/tmp/a; sed s/8080/8099/ /tmp/a >/tmp/b\n")
        try box.type("until vcpectl plan /tmp/b; do sleep 1; done; until vcpectl apply /tmp/b; do sleep 1; done\n")
        // The kernel bounds each call of a plugin.
        try box.type(
            "vcpectl plan /tmp/b >/dev/null & i=$!; g=/sys/fs/cgroup/services/engine; while kill -0 $i; do for c in $g/call-*; do echo $(cat $c/memory.max $c/memory.swap.max $c/pids.max); done; done 2>/dev/null | sort -u >/tmp/c; grep -c \"^$((512<<20)) 0 16$\" /tmp/c; echo $((40+7))-bounded; cat /tmp/c\n"
        )
        #expect(waitFor("1\r\n47-bounded", 60), "\(box.story)")
        try box.type(
            "vcpectl plan | wc -l; vcpectl plan --nftables | grep -c 8099; vcpectl counters; vcpectl log engine\n")
        try box.type(
            "sed 's/zone: wan/zone: wann/' /tmp/a | vcpectl apply -; echo it ended with $?; vcpectl stop nobody || echo refused\n"
        )
        try box.type(
            "vcpectl --help | grep -c vcpectl; vcpectl apply /tmp/a; vcpectl show | grep 8080; echo $((40+7))-done\n")
        #expect(waitFor("47-done", 120), "\(box.story)")
        let said = box.console
        for words in [
            "lan-dnsmasq", "all is applied", "the operator's document", "+ {\"chain\":{\"name\":\"nat.dnat\"",
            "is applied: 1 lines added, 1 removed", "firewall.policy.lan.wan", "is applied: planned in",
            "did you mean wan?", "it ended with 1",
            "PID 1: error there is no service nobody", "ports: 8080",
        ] { #expect(said.contains(words), "\(words) is not in \(said.suffix(6000))") }
        try proofs { $0.from == .lan }
        print(said.suffix(2500))
        try operate(box, network, traffic, proofs)
        // A commit without confirmation is rolled back after a power loss.
        try box.type(
            "vcpectl apply /tmp/b --confirm 10m --comment trial; vcpectl status; vcpectl history; echo $((40+8))-waits\n"
        )
        #expect(waitFor("48-waits") && box.console.contains("s, or it is rolled back"), "\(box.story)")
        box.kill()
        let again = try Machine(machine, in: folder, inheriting: network.taps)
        #expect(again.wait(for: "service-ready", seconds: 120) != nil, "\(again.story)")
        try again.type("exec busybox sh\n")
        try again.type("sleep 5; vcpectl show | grep 8080; vcpectl log engine; vcpectl history; echo $((40+9))-back\n")
        #expect(waitFor("49-back"), "\(again.story)")
        let after = again.console
        #expect(
            after.contains("was not confirmed: the operator's document (commit") && after.contains("ports: 8080"),
            "\(after.suffix(3000))")
        try proofs { $0.from == .lan }
        print(after.suffix(1500))
        try again.tell("system_powerdown")
        #expect(again.waitForEnd(), "\(again.story)")
    }

    /// An operator's changes while packets are forwarded: one that works and one that does not, a
    /// rollback of three commits, a hostile plugin, and one in another language.
    private func operate(
        _ box: Machine, _ network: ProofNetwork, _ traffic: ProbeTraffic, _ proofs: ((Proof) -> Bool) throws -> Void
    ) throws {
        var number = 60
        /// Types a line, and returns the console's output.
        func say(_ line: String, _ seconds: Double = 90) throws -> String {
            number += 1
            let start = box.console.count
            try box.type("\(line); echo $((1000+\(number)))-said\n")
            let end = Clock.seconds + seconds
            while Clock.seconds < end, !box.console.dropFirst(start).contains("\(1000 + number)-said") {
                usleep(100_000)
            }
            return box.console.dropFirst(start).split(whereSeparator: \.isNewline).joined(separator: "\n")
        }
        let provider = try network.side(.wan).host4
        traffic.resetPauses()
        let first = try say(
            "vcpectl set network.probes '[{name: provider, ping: \(provider)}]'; vcpectl commit --comment probed")
        #expect(first.contains("is applied: 1 lines added, 0 removed"), "\(first)")
        let health = try say("sleep 3; vcpectl health")
        for probe in ["lan.dns-lan", "network.gateway-wan", "network.provider"] {
            let line = health.split(separator: "\n").first { $0.hasPrefix(probe) }
            #expect(line?.contains(" holds ") == true, "\(probe): \(health)")
        }
        let good = try say(
            "vcpectl set 'nat.forwards[web].ports' 8081; vcpectl diff; vcpectl commit --comment good; vcpectl status")
        #expect(good.contains("+      ports: 8081") || good.contains("ports: 8081"), "\(good)")
        #expect(good.contains("all is applied") && !good.contains("watched:"), "\(good)")
        // A wrong route to the provider: the commit is rolled back, and `commit` reports it.
        let bad = try say(
            "vcpectl set network.routes '[{to: \(provider)/32, via: 192.168.1.99}]'; vcpectl commit --comment bad; echo code $?"
        )
        #expect(bad.contains("was rolled back: the probe network.") && bad.contains("code 1"), "\(bad)")
        let back = try say("vcpectl show network.routes; vcpectl history")
        #expect(back.contains("the document has nothing there") && back.contains("rolled back"), "\(back)")
        // The forwarded port has changed.
        try proofs { $0.from == .lan && $0.name != "a forwarded port is reached from the LAN" }
        // The provider was unreachable during the wrong route.
        traffic.resetPauses()
        // A rollback of three commits.
        let three = try say(
            "for port in 8082 8083; do vcpectl set 'nat.forwards[web].ports' $port; vcpectl commit; done; vcpectl history --json | grep -c '\"number\"'"
        )
        let goodCommit = try #require(
            back.split(separator: "\n").first { $0.contains(" good") }?.split(separator: " ").first.map(String.init),
            "\(back)")
        let rolled = try say("vcpectl rollback \(goodCommit); vcpectl show 'nat.forwards[web].ports'")
        #expect(rolled.contains("is applied") && rolled.contains("\n8081\n"), "\(three)\(rolled)")
        // A hostile plugin fails the change and affects no packet. RefusalTests have more cases.
        for (way, complaint) in [
            ("fork", "plugin hostile plan:"), ("steal", "plugin hostile plan: it ended with 9"),
        ] {
            let said = try say("vcpectl set hostile.way \(way); vcpectl commit; vcpectl discard; vcpectl status")
            #expect(said.contains(complaint) && said.contains("all is applied"), "\(way): \(said)")
        }
        let flow = traffic.now
        #expect(flow.longestPause < 1 && flow.fromWAN == 0, "\(flow)")
        print("operator's changes under \(flow.forwarded) packets, longest pause \(flow.longestPause) s")
        // The plugin in shell and jq opens a port to a host that knocks.
        let door = try say(
            "vcpectl set port-knock.doors '[{name: ssh, from: wan, sequence: [7000, 8000], opens: 22}]'; vcpectl commit"
        )
        #expect(door.contains("is applied"), "\(door)")
        let socket = try ProofSocket(network.namespace(.wan), .ipv4, isStream: false)
        for port in [7000, 8000] {
            #expect(try socket.send([1], to: #require(traffic.now.source), port: port) >= 0)
            usleep(300_000)
        }
        let open = try say("vcpectl port-knock open; vcpectl lan leases; vcpectl firewall hits; vcpectl network leases")
        #expect(open.contains("ssh   \(provider)") && open.contains("lan-pings-box"), "\(open)")
        #expect(open.contains("ADDRESS  MAC") || open.contains("ADDRESS"), "\(open)")
        print(open)
        try linkTypes(say)
        let clean = try say("vcpectl delete port-knock; vcpectl commit; vcpectl apply /tmp/a; vcpectl status")
        #expect(clean.contains("all is applied"), "\(clean)")
    }

    /// The types of links that most kernels of test hosts lack: made, changed where the kernel must make
    /// them anew, and removed.
    private func linkTypes(_ say: (String, Double) throws -> String) throws {
        func commit(_ lines: [String]) throws -> String {
            // The shell takes lines of 1,024 bytes at most.
            let file = lines.map { "echo '\($0),' >>/tmp/lines\n" }.joined()
            return try say(
                "rm -f /tmp/lines\n\(file)vcpectl set lines \"[$(cat /tmp/lines)]\"; vcpectl commit; sleep 3; vcpectl status",
                120)
        }
        func link(_ name: String, _ type: String, master: String? = nil) -> String {
            let master = master.map { ",\"master\":\"\($0)\"" } ?? ""
            return "{\"kind\":\"link\",\"id\":\"\(name)\",\"name\":\"\(name)\",\(type)\(master)}"
        }
        func vlans(_ link: String, _ first: Int, through last: Int? = nil, flags: String? = nil) -> String {
            let (last, flags) = (last ?? first, flags.map { ",\($0)" } ?? "")
            return
                "{\"kind\":\"bridge-vlan\",\"id\":\"\(link) \(first)-\(last)\",\"link\":\"\(link)\",\"vlans\":[\(first),\(last)]\(flags)}"
        }
        func plan(bond: String, id: Int, tag: String) -> [String] {
            ["8021q", "bonding", "vrf", "dummy", "veth", "ifb"].map { "{\"kind\":\"kernel-module\",\"id\":\"\($0)\"}" }
                + [
                    link("red", "\"vrf\":{\"table\":1000}"), link("d1", "\"dummy\":{}", master: "team"),
                    link("d2", "\"dummy\":{}", master: "team"), link("team", "\"bond\":{\"mode\":\"\(bond)\"}"),
                    link("outer", "\"vlan\":{\"parent\":\"team\",\"id\":7,\"protocol\":\"\(tag)\"}"),
                    link("inner", "\"vlan\":{\"parent\":\"outer\",\"id\":\(id),\"egress\":{\"6\":5}}", master: "red"),
                    link("v0", "\"veth\":{\"peer\":\"v1\"}"), link("v1", "\"veth\":{\"peer\":\"v0\"}", master: "sw"),
                    link("shape", "\"ifb\":{}"), link("sw", "\"bridge\":{\"vlan-filtering\":true}"),
                    vlans("v1", id, flags: "\"untagged\":true,\"default\":true"), vlans("v1", 100, through: 102),
                    vlans("sw", 100),
                    "{\"kind\":\"address\",\"id\":\"inner 198.51.100.1/24\",\"link\":\"inner\",\"address\":\"198.51.100.1/24\"}",
                    "{\"kind\":\"route\",\"id\":\"198.18.0.0/15 0 table 1000\",\"to\":\"198.18.0.0/15\","
                        + "\"via\":\"198.51.100.2\",\"link\":\"inner\",\"table\":1000,\"metric\":0}",
                ]
        }
        func shown() throws -> String {
            try say(
                "for l in red d1 team outer inner v1 shape sw; do /usr/bin/ip -c=never -d link show $l; done; /usr/bin/ip -c=never route show vrf red; /usr/bin/ip -c=never addr show inner; for l in v1 sw; do /usr/sbin/bridge -compressvlans vlan show dev $l; done",
                30)
        }
        for (bond, id, tag) in [("active-backup", 8, "802.1ad"), ("802.3ad", 9, "802.1Q"), ("802.3ad", 9, "802.1Q")] {
            let said = try commit(plan(bond: bond, id: id, tag: tag.lowercased()))
            #expect(said.contains("all is applied") && !said.contains("drift"), "\(said)")
            let seen = try shown()
            for words in [
                "vrf table 1000", "master team", "bond mode \(bond)", "vlan protocol \(tag) id 7", "id \(id) ",
                "master red", "{ 6:5 }", "198.51.100.1/24", "198.18.0.0/15 via 198.51.100.2 dev inner", "master sw",
                "vlan_filtering 1", "ifb", "\(id) PVID Egress Untagged", "100-102",
            ] { #expect(seen.contains(words), "\(words) is not in \(seen)") }
            // The kernel's own VLAN 1 is not planned.
            #expect(!seen.contains(" 1 PVID"), "\(seen)")
        }
        let gone = try say("vcpectl delete lines; vcpectl commit; vcpectl status; /usr/bin/ip -c=never -br link", 60)
        #expect(gone.contains("all is applied"), "\(gone)")
        let links = String(gone[(gone.firstRange(of: "all is applied")?.upperBound ?? gone.startIndex)...])
        for name in ["red", "team", "outer", "inner", "v0", "v1", "shape", "sw", "d1"] {
            #expect(!links.contains("\n\(name) ") && !links.contains("\n\(name)@"), "\(name): \(links)")
        }
    }
}
