import Addresses
import Documents
import Files
import Glibc
@testable import ImageBuilder
import Processes
import TestSupport
import Testing

/// Who is in groups and lists, by what gets through: members come and go, and no rule is touched.
@Suite(.serialized) struct FeedTests {
    private static let site = BoxInNetwork.site.editing(
        "    - {from: lan, to: wan, action: accept}\n  rules:\n",
        with: """
                - {from: any, to: any, action: drop}
              devices:
                - {name: laptop, addresses: [192.168.1.20]}
                - {name: old-phone, addresses: [192.168.1.21], until: 2026-01-01}
              users:
                - {name: joe, devices: [laptop]}
              groups:
                - {name: staff, members: [joe, old-phone, 192.168.1.64/27]}
                - {name: quarantine, isolated: true}
              sets:
                - {name: blocklist, fed: true, members: [192.0.2.0/24]}
                - {name: updates, members: [www.example.test]}
              rules:
                - {name: named, from: lan, to: wan, source: [192.168.1.30], destination: ["@updates"], action: accept}
                - {name: listed, from: any, to: any, destination: ["@blocklist"], action: drop}
                - {name: staff, from: lan, to: wan, source-groups: [staff], protocol: udp, action: accept}

            """
    ).editing(
        "firewall:\n",
        with: """
              resolvers: [203.0.113.1]
              routes:
                - {to: 0.0.0.0/0, via: 203.0.113.1}
            firewall:

            """)

    private let box: BoxInNetwork
    private let network: ProofNetwork

    init() throws {
        box = try BoxInNetwork(site: Self.site)
        try box.start(users: ["vcpe-names:x:950:950::/nonexistent:/bin/false"])
        try box.connect()
        network = try #require(box.network)
        let end = Clock.seconds + 5
        while Clock.seconds < end, try !box.state().contains("192.168.1.1/24") { usleep(50_000) }
        for host in [20, 21, 30, 70, 99] { try ip(.lan, "addr replace 192.168.1.\(host)/24 dev lan") }
        try ip(.lan, "route replace default via 192.168.1.1")
        try ip(.wan, "addr replace 198.51.100.9/32 dev wan")
    }

    private func ip(_ place: Proof.Endpoint, _ words: String) throws {
        _ = try network.namespace(place).run { try Command("ip", words.split(separator: " ").map(String.init)).check() }
    }

    /// Whether a datagram of a host of the LAN arrives in the WAN.
    private func arrives(_ from: String, to: String = "203.0.113.1", port: Int = 6000) throws -> Bool {
        let (source, target) = (try #require(IPAddress(from)), try #require(IPAddress(to)))
        let server = try ProofSocket(network.namespace(.wan), .ipv4, isStream: false)
        try server.bind(target, port: port, listen: false)
        let client = try ProofSocket(network.namespace(.lan), .ipv4, isStream: false)
        try client.bind(source, port: 0, listen: false)
        for _ in 0..<3 {
            _ = client.send([1], to: target, port: port)
            if server.wait(seconds: 0.3) { return true }
        }
        return false
    }

    /// Runs a command that must succeed.
    @discardableResult private func done(_ words: String...) throws -> String {
        let result = try box.run(words)
        #expect(result.status == 0, "\(words.joined(separator: " ")): \(result.errorText)")
        return result.text
    }

    private func rules() throws -> String {
        try box.box.run { try Command("nft", ["-a", "list", "table", "inet", "vcpe"]).check().text }.split(
            separator: "\n"
        )
        .filter { $0.contains("# handle") && !$0.contains("set ") && !$0.contains("elements") }.joined(separator: "\n")
    }

    @Test func membersComeAndGoAndNoRuleIsTouched() throws {
        #expect(try arrives("192.168.1.20") && arrives("192.168.1.70"))
        #expect(try !arrives("192.168.1.99") && !arrives("192.168.1.21"))
        let before = try rules()
        // An operator's guest, for a time: the kernel ends it, whether or not an engine is there.
        let added = try box.vcpectl("feed", "firewall.group.staff", "add", "192.168.1.99", "--for", "4s")
        #expect(
            added.status == 0 && added.text == "firewall.group.staff has 1 members beside the site's\n",
            "\(added.errorText)")
        #expect(try arrives("192.168.1.99", port: 6001))
        let shown = try box.vcpectl("feed", "firewall.group.staff").text
        #expect(
            shown.contains("192.168.1.99") && shown.contains("operators") && shown.contains("192.168.1.64/27"),
            "\(shown)")
        #expect(try rules() == before)
        box.killEngine()
        #expect(try arrives("192.168.1.99", port: 6002))
        sleep(4)
        #expect(try !arrives("192.168.1.99", port: 6003))
        try box.start(users: ["vcpe-names:x:950:950::/nonexistent:/bin/false"])
        #expect(try !arrives("192.168.1.99", port: 6004))
        #expect(try arrives("192.168.1.20", port: 6005))
        // For good, over a fall of the engine, and out again.
        try done("feed", "firewall.group.staff", "add", "192.168.1.99")
        box.killEngine()
        try box.start(users: ["vcpe-names:x:950:950::/nonexistent:/bin/false"])
        #expect(try arrives("192.168.1.99", port: 6006))
        try done("feed", "firewall.group.staff", "remove", "192.168.1.99")
        #expect(try !arrives("192.168.1.99", port: 6007))
        // What the site says is no operator's to take out, and what is no member is none.
        let planned = try box.vcpectl("feed", "firewall.group.staff", "remove", "192.168.1.64/27")
        #expect(planned.status == 1 && planned.errorText.contains("by the site's document"), "\(planned.errorText)")
        let wrong = try box.vcpectl("feed", "firewall.group.staff", "add", "192.168.1.300")
        #expect(wrong.status == 1 && wrong.errorText.contains("line 1: \"192.168.1.300\""), "\(wrong.errorText)")
        let nothing = try box.vcpectl("feed", "firewall.group.staff", "add", "")
        #expect(nothing.status == 1 && nothing.errorText.contains("no member to add"), "\(nothing.errorText)")
        let strange = try box.vcpectl("feed", "firewall.group.stuff", "add", "192.168.1.30")
        #expect(strange.errorText.contains("did you mean firewall.group.staff"), "\(strange.errorText)")
        let mac = try box.vcpectl("feed", "firewall.blocked", "add", "02:00:00:00:00:01")
        #expect(mac.errorText.contains("takes ipv4_addr, ipv6_addr"), "\(mac.errorText)")
    }

    @Test func quarantineAndBlocksCutWhatIsEstablished() throws {
        let (lan, wan) = (try network.namespace(.lan), try network.namespace(.wan))
        let target = try #require(IPAddress("203.0.113.1"))
        let server = try ProofSocket(wan, .ipv4, isStream: false)
        try server.bind(target, port: 6100, listen: false)
        let client = try ProofSocket(lan, .ipv4, isStream: false)
        try client.bind(try #require(IPAddress("192.168.1.20")), port: 0, listen: false)
        func goesOn() -> Bool {
            for _ in 0..<3 {
                _ = client.send([1], to: target, port: 6100)
                if server.wait(seconds: 0.3) {
                    let seen = server.receive()
                    if let peer = seen.peer { _ = server.send([2], to: peer, port: seen.port) }
                    guard client.wait(seconds: 1) else { return false }
                    _ = client.receive()
                    return true
                }
            }
            return false
        }
        #expect(goesOn())
        try done("feed", "firewall.group.quarantine", "add", "192.168.1.20", "--for", "10m")
        #expect(!goesOn())
        try done("feed", "firewall.group.quarantine", "remove", "192.168.1.20")
        #expect(goesOn())
        let said = try done("firewall", "block", "192.168.1.20", "90s")
        #expect(said == "192.168.1.20 is blocked for 90s\n")
        #expect(!goesOn())
        let list = try done("firewall", "blocked")
        #expect(list.contains("192.168.1.20  operator  in "), "\(list)")
        let explained = try box.vcpectl(
            "explain", "--from", "192.168.1.20", "--to", "203.0.113.1", "--protocol", "udp", "--port", "6100",
            "--in", "lan")
        #expect(explained.text.contains("firewall: blocked") && explained.text.contains("dropped"), "\(explained)")
        try done("firewall", "unblock", "192.168.1.20")
        #expect(goesOn())
        #expect(try box.vcpectl("history").text.split(separator: "\n").count <= 2)
        #expect(try box.vcpectl("firewall", "block", "192.168.1.20", "soon").errorText.contains("is no time"))
    }

    @Test func aListOfAHundredThousandNetworksIsLoadedAndChangedByItsElements() throws {
        var text = ""
        for i in 0..<100_000 { text += "\(20 + i >> 15).\(i >> 7 & 255).\(i & 127).0/24\n" }
        try FileSystem.replace("\(box.folder)/list.txt", with: text)
        let loaded = try box.vcpectl("feed", "firewall.set.blocklist", "load", "\(box.folder)/list.txt")
        #expect(loaded.text == "firewall.set.blocklist has 100000 members beside the site's\n", "\(loaded.errorText)")
        try done("feed", "firewall.group.staff", "add", "192.168.1.99")
        #expect(try arrives("192.168.1.99", to: "198.51.100.9", port: 6200))
        try done("feed", "firewall.set.blocklist", "add", "198.51.100.0/24")
        #expect(try !arrives("192.168.1.99", to: "198.51.100.9", port: 6201))
        try done("feed", "firewall.set.blocklist", "remove", "198.51.100.0/24")
        #expect(try arrives("192.168.1.99", to: "198.51.100.9", port: 6202))
        let feeds = try box.vcpectl("feeds").text
        #expect(feeds.contains("firewall.set.blocklist") && feeds.contains("100000"), "\(feeds)")
        // One line that is none, and the list stays as it was.
        try FileSystem.replace("\(box.folder)/list.txt", with: text + "20.0.0.0/33\n")
        let wrong = try box.vcpectl("feed", "firewall.set.blocklist", "load", "\(box.folder)/list.txt")
        #expect(wrong.status == 1 && wrong.errorText.contains("line 100001: \"20.0.0.0/33\""), "\(wrong.errorText)")
        #expect(try box.vcpectl("feeds").text == feeds)
        // Ten million are more than anybody meant.
        let many = String(repeating: "198.18.0.1\n", count: 10_000_000)
        try FileSystem.replace("\(box.folder)/list.txt", with: many)
        let tooMany = try box.vcpectl("feed", "firewall.set.blocklist", "load", "\(box.folder)/list.txt")
        #expect(tooMany.status == 1 && tooMany.errorText.contains("are allowed"), "\(tooMany.errorText)")
        #expect(try box.vcpectl("feeds").text == feeds)
    }

    @Test func domainNamesAreAsTheProvidersServerSays() throws {
        let known = ProofNetwork.knownName.address
        #expect(try !arrives("192.168.1.30", to: known, port: 6300))
        // As PID 1 would start it.
        try FileSystem.replace("\(box.folder)/resolv.conf", with: "nameserver 203.0.113.1\n")
        try Command("ln", ["-sf", "vcpe-box", "\(box.folder)/resolve-names"]).check()
        let log = try File("\(box.folder)/names.log", O_WRONLY | O_CREAT | O_TRUNC)
        let service = try box.box.run {
            try Command(
                "unshare",
                [
                    "--mount", "sh", "-c",
                    "mount --bind \(box.folder)/resolv.conf /etc/resolv.conf && exec setpriv --reuid 950 --regid 950 --clear-groups \"$0\" \"$@\"",
                    "\(box.folder)/resolve-names", "\(box.folder)/run/firewall/names.conf",
                    "\(box.folder)/run/firewall/names",
                ]
            ).start(output: log)
        }
        defer { service.kill() }
        let end = Clock.seconds + 10
        var isThere = false
        while Clock.seconds < end, !isThere { isThere = try arrives("192.168.1.30", to: known, port: 6301) }
        let said = (try? FileSystem.read("\(box.folder)/names.log")).map { String(decoding: $0, as: UTF8.self) }
        #expect(isThere, "\(said ?? "") \(box.log)")
        #expect(try !arrives("192.168.1.30", to: "203.0.113.1", port: 6302))
        let shown = try done("firewall", "names")
        #expect(shown.contains("www.example.test          1\n") && !shown.contains("nobody"), "\(shown)")
        // A name that nobody knows is said, with the rule's others as they were.
        let other = Self.site.editing("www.example.test]", with: "www.example.test, nobody.example.invalid]")
        #expect(try box.apply(other) == nil)
    }
}
