import Addresses
import Documents
import Files
@testable import ImageBuilder
import Processes
import Testing

/// What `vcpe test` writes, and what a release demands of it.
@Suite struct ProofRecordTests {
    static let digests = ["manifest": "aa", "uki": "bb", "root": "cc", "raw": "dd"]
    static let built = 1_000_000_000

    static var good: ProofRecord {
        var record = ProofRecord(
            image: "box", version: "1.0", profile: "virtio", started: built + 10, ended: built + 70,
            machine: .init(
                firmware: "uefi", loaderEntry: "vcpe-1.efi", secureBoot: true, accelerator: "tcg", disk: "virtio",
                network: "virtio-net-pci"), digests: digests)
        record.controls = [.init("boots", .passed, seen: "event up", milliseconds: 20_000)]
        record.proofs = [.init("LAN <pings> \"WAN\" & back", .passed, seen: "answered")]
        for place in [Proof.Endpoint.lan, .wan] {
            record.traffic += ProbePacket.all.map {
                .init(kind: $0, from: place, sent: 100, arrived: place == .lan ? 100 : 0, leaked: 0)
            }
        }
        record.firstForwardedMilliseconds = 21_000
        return record
    }

    private func admit(_ record: ProofRecord, isSigned: Bool = true, now: Int = built + 100) -> ProofRejection.Reason? {
        do {
            try record.admit(digests: Self.digests, isSigned: isSigned, built: Self.built, now: now)
            return nil
        } catch {
            return error.reason
        }
    }

    @Test func aRecordSurvivesItsFile() throws {
        let text = Self.good.json.pretty
        #expect(try ProofRecord(JSON.parse(text)) == Self.good)
        #expect(text.contains("\"started\": \"2001-09-09T01:46:50Z\""))
        #expect(Self.good.passed && admit(Self.good) == nil)
    }

    @Test func aReleaseDemandsKindTimeAndDigests() throws {
        func changed(_ change: (inout ProofRecord) -> Void) -> ProofRecord {
            var record = Self.good
            change(&record)
            return record
        }
        for part in Self.digests.keys {
            #expect(admit(changed { $0.digests[part] = "ee" }) == .otherBuild(part))
            #expect(admit(changed { $0.digests[part] = nil }) == .otherBuild(part))
        }
        #expect(admit(changed { $0.machine.firmware = "direct" }) == .firmware("direct"))
        #expect(admit(changed { $0.machine.loaderEntry = "" }) == .firmware("uefi"))
        let insecure = changed { $0.machine.secureBoot = false }
        #expect(admit(insecure) == .withoutSecureBoot && admit(insecure, isSigned: false) == nil)
        let early = changed { $0.started = Self.built - 1 }
        #expect(admit(early) == .beforeBuild(started: Self.built - 1, built: Self.built))
        // A clock may be a few minutes off, not an hour.
        #expect(admit(Self.good, now: Self.built + 60) == nil)
        let now = Self.built - 3600
        #expect(admit(Self.good, now: now) == .time(started: Self.built + 10, ended: Self.built + 70, now: now))
        let backwards = changed { $0.ended = $0.started - 1 }
        #expect(
            admit(backwards) == .time(started: Self.built + 10, ended: Self.built + 9, now: Self.built + 100))
    }

    @Test func whatFailedKeepsARunFromPassing() {
        let changes: [(String, (inout ProofRecord) -> Void)] = [
            ("boots: event up", { $0.controls[0].status = .failed }),
            ("LAN <pings> \"WAN\" & back: answered", { $0.proofs[0].status = .skipped }),
            ("no proofs were run", { $0.proofs = [] }),
            ("no controls were run", { $0.controls = [] }),
            ("no probe packets were sent", { $0.traffic = [] }),
            ("udp/ipv4 from lan: no probe packet was sent", { $0.traffic[0].sent = 0 }),
            ("udp/ipv4 from lan: 1 of 100 leaked", { $0.traffic[0].leaked = 1 }),
            ("2 frames were not observed", { $0.missedFrames = 2 }),
        ]
        for (failure, change) in changes {
            var record = Self.good
            change(&record)
            #expect(record.failures == [failure] && !record.passed)
            #expect(admit(record) == .notPassed([failure]))
        }
    }

    @Test func aFileThatContradictsItselfIsRefused() throws {
        func reason(_ json: JSON) -> ProofRejection.Reason? {
            do { _ = try ProofRecord(json) } catch { return error.reason }
            return nil
        }
        var fields = try #require(Self.good.json.object)
        fields["proofs"] = [["name": "x", "status": "failed", "seen": "no answer", "milliseconds": 0]]
        #expect(reason(.object(fields)) == .contradiction)
        fields["format"] = 1
        #expect(reason(.object(fields)) == .format(1))
        // As the first version wrote it.
        #expect(reason(["manifest": "aa", "uki": "bb", "passed": true]) == .malformed("format"))
        for key in ["started", "machine", "controls", "traffic", "passed", "missed-frames"] {
            var fields = try #require(Self.good.json.object)
            fields[key] = "soon"
            #expect(reason(.object(fields)) != nil, "\(key)")
        }
    }

    /// By an XML parser that is not ours.
    @Test func theJUnitReportIsXML() throws {
        var record = Self.good
        record.traffic[3].leaked = 5
        record.proofs.append(.init("skipped", .skipped, seen: "the box has not booted\u{1}\n"))
        let program = """
            import sys, json, xml.etree.ElementTree as tree
            suite = tree.parse(sys.argv[1]).getroot().find("testsuite")
            print(json.dumps({"attributes": suite.attrib, "names": [c.get("name") for c in suite],
                "failed": [c.get("name") for c in suite if c.find("failure") is not None],
                "skipped": [c.find("skipped").get("message") for c in suite if c.find("skipped") is not None]}))
            """
        let folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-junit")
        defer { try? FileSystem.remove(folder) }
        try FileSystem.replace("\(folder)/report.xml", with: JUnitReport(record).xml)
        let json = try JSON.parse(Command("python3", ["-c", program, "\(folder)/report.xml"]).check().text)
        #expect(json["attributes"]?["tests"]?.text == "31" && json["attributes"]?["failures"]?.text == "1")
        #expect(json["attributes"]?["skipped"]?.text == "1")
        #expect(json["names"]?.list?[1].text == "LAN <pings> \"WAN\" & back")
        #expect(json["failed"] == ["icmp/ipv4 from lan"] && json["skipped"] == ["the box has not booted "])
    }

    @Test func proofsDecideWhatMayPass() {
        func proof(_ from: Proof.Endpoint, _ family: IPAddress.Family, _ probe: Proof.Probe, _ outcome: Proof.Outcome)
            -> Proof
        {
            Proof(
                name: "x", from: from, to: from == .lan ? .wan : .lan, family: family, probe: probe, outcome: outcome)
        }
        func isLeak(
            _ form: ProbePacket.Form, _ family: IPAddress.Family, from: Proof.Endpoint, _ proofs: [Proof] = []
        ) -> Bool {
            ProbePolicy(proofs).isLeak(.init(kind: ProbePacket(form: form, family: family), origin: from), source: nil)
        }
        #expect(!isLeak(.udp, .ipv4, from: .lan) && isLeak(.udp, .ipv4, from: .wan))
        #expect(!isLeak(.icmp, .ipv6, from: .wan) && isLeak(.icmp, .ipv4, from: .wan))
        #expect(isLeak(.icmp, .ipv6, from: .wan, [proof(.wan, .ipv6, .ping, .dropped)]))
        #expect(isLeak(.spoofed, .ipv4, from: .lan) && isLeak(.vlan, .ipv6, from: .lan))
        // A proof of one port says nothing about ours, unless all of that protocol are dropped.
        #expect(isLeak(.tcpSyn, .ipv6, from: .wan, [proof(.wan, .ipv6, .tcp(port: 443), .answered)]))
        #expect(isLeak(.tcpSyn, .ipv4, from: .lan, [proof(.lan, .ipv4, .tcp(port: 443), .dropped)]))
        #expect(!isLeak(.tcpSyn, .ipv6, from: .lan, [proof(.lan, .ipv4, .tcp(port: 443), .dropped)]))
        let mixed = [proof(.lan, .ipv4, .tcp(port: 25), .rejected), proof(.lan, .ipv4, .tcp(port: 443), .answered)]
        #expect(!isLeak(.tcpSyn, .ipv4, from: .lan, mixed))
        // One of our port does.
        let routed = proof(.wan, .ipv6, .udp(port: ProbePacket.port), .answered)
        #expect(!isLeak(.udp, .ipv6, from: .wan, [routed]) && !isLeak(.fragments, .ipv6, from: .wan, [routed]))
        #expect(isLeak(.udp, .ipv4, from: .wan, [routed]) && isLeak(.spoofed, .ipv6, from: .wan, [routed]))
    }
}
