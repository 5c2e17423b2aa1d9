import Addresses
import Files
import Glibc
@testable import ImageBuilder
import Processes
import TestSupport
import Testing

/// Protocols that speak of connections to come: those find their way where a rule says so, and nowhere else. Clients and servers are
/// Debian's.
@Suite(.serialized) struct HelperTests {
    private let box: BoxInNetwork
    private let network: ProofNetwork

    init() throws {
        box = try BoxInNetwork.ready(site: Self.site("tcp", 21, ""))
        network = try #require(box.network)
        _ = try network.namespace(.lan).run {
            try Command("ip", ["route", "replace", "default", "via", "192.168.1.1"]).check()
        }
    }

    /// Nobody's policy lets anything through but one port.
    private static func site(_ transport: String, _ port: Int, _ helper: String) -> String {
        BoxInNetwork.site.editing(
            "{from: lan, to: wan, action: accept}", with: "{from: lan, to: wan, action: drop}"
        ).editing(
            "  rules:\n",
            with: "  rules:\n"
                + "    - {name: one, from: lan, to: wan, protocol: \(transport), ports: [\(port)]\(helper), action: accept}\n"
        )
    }

    private func start(_ place: Proof.Endpoint, _ words: String...) throws -> RunningProcess {
        let log = try File("\(box.folder)/\(words[0]).log", O_WRONLY | O_CREAT | O_TRUNC)
        return try network.namespace(place).run {
            try Command(words[0], Array(words.dropFirst())).start(output: log)
        }
    }

    private func log(_ name: String) -> String {
        (try? FileSystem.read("\(box.folder)/\(name)")).map { String(decoding: $0, as: UTF8.self) } ?? "none"
    }

    private func fetch(_ url: String, _ options: String...) throws -> Command.Result {
        try network.namespace(.lan).run { try Command("curl", ["-sS", "--max-time", "4"] + options + [url]).run() }
    }

    private func serve() throws {
        try FileSystem.makeDirectory("\(box.folder)/files")
        try FileSystem.replace("\(box.folder)/files/file", with: "what was asked for\n", mode: 0o644)
    }

    @Test func filesComeByFTP() throws {
        try serve()
        let home = "\(box.folder)/files"
        try FileSystem.replace(
            "\(box.folder)/vsftpd.conf",
            with: """
                listen=YES
                background=NO
                anonymous_enable=YES
                anon_root=\(home)
                secure_chroot_dir=\(home)
                seccomp_sandbox=NO
                write_enable=NO

                """)
        let server = try start(.wan, "vsftpd", "\(box.folder)/vsftpd.conf")
        defer { server.kill() }
        let url = "ftp://203.0.113.1/file"
        #expect(try box.apply(Self.site("tcp", 21, ", helper: ftp")) == nil)
        var passive = try fetch(url, "--ftp-pasv")
        _ = try Wait.until {
            if passive.status == 7 { passive = try fetch(url, "--ftp-pasv") }
            return passive.status != 7
        }
        #expect(passive.text == "what was asked for\n", "\(passive.errorText) \(log("vsftpd.log"))")
        // The other way round: the server calls, at an address that was translated.
        let active = try fetch(url, "--ftp-port", "-", "--disable-eprt")
        #expect(active.text == "what was asked for\n", "\(active.errorText)")
        // Without it the data find no way.
        #expect(try box.apply(Self.site("tcp", 21, "")) == nil)
        #expect(try fetch(url, "--ftp-pasv").status != 0)
    }

    /// The server answers from a port that nobody has heard of.
    @Test func filesComeByTFTP() throws {
        try serve()
        let server = try start(
            .wan, "dnsmasq", "--no-daemon", "--port=0", "--user=root", "--conf-file=/dev/null", "--enable-tftp",
            "--tftp-root=\(box.folder)/files", "--pid-file=")
        defer { server.kill() }
        let url = "tftp://203.0.113.1/file"
        #expect(try box.apply(Self.site("udp", 69, ", helper: tftp")) == nil)
        #expect(
            try Wait.until { try fetch(url).text == "what was asked for\n" },
            "\(log("dnsmasq.log"))")
        #expect(try box.apply(Self.site("udp", 69, "")) == nil)
        let without = try fetch(url)
        #expect(without.status != 0 && without.text.isEmpty, "\(without)")
    }

    /// A call from the LAN: the other side is told an address that it can reach, and what it sends there is answered.
    @Test func aCallIsHeardBySIP() throws {
        let exchange = try start(
            .wan, "sipp", "-sn", "uas", "-i", "203.0.113.1", "-p", "5060", "-nostdin", "-trace_msg", "-message_file",
            "\(box.folder)/uas")
        defer { exchange.kill() }
        let mouth = try ProofSocket(network.namespace(.wan), .ipv4, isStream: false)
        try mouth.bind(try #require(IPAddress("203.0.113.1")), port: 6000, listen: false)
        /// Whether the telephone sends back what it hears during a call of two seconds.
        func isHeard(from port: Int) throws -> Bool {
            try FileSystem.remove("\(box.folder)/uac")
            let client = try start(
                .lan, "sipp", "-sn", "uac", "203.0.113.1:5060", "-i", "192.168.1.10", "-p", "\(port)", "-m", "1", "-d",
                "2000", "-mi", "192.168.1.10", "-mp", "7078", "-rtp_echo", "-nostdin", "-timeout", "5")
            defer { client.kill() }
            let outside = try #require(IPAddress("203.0.113.2"))
            return Wait.until(4) {
                _ = mouth.send(Array("hello".utf8), to: outside, port: 7078)
                return mouth.wait(seconds: 0.1) && mouth.receive().bytes == Array("hello".utf8)
            }
        }
        #expect(try box.apply(Self.site("udp", 5060, "")) == nil)
        #expect(try !isHeard(from: 5062))
        // A connection has its helper from its first packet on.
        #expect(try box.apply(Self.site("udp", 5060, ", helper: sip")) == nil)
        #expect(try isHeard(from: 5064), "\(log("uas")) \(log("sipp.log"))")
        #expect(log("uas").contains("c=IN IP4 203.0.113.2"))
    }
}
