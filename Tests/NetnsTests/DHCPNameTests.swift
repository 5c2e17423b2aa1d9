import Addresses
import Documents
import Files
import Glibc
@testable import ImageBuilder
import Processes
import Testing

/// A DHCP client's name for itself, and what the box's DNS makes of it: dnsmasq with the file of
/// plugin lan.
@Suite(.serialized) final class DHCPNameTests {
    private let folder: String
    private let (box, host): (NetworkNamespace, NetworkNamespace)
    private let server: RunningProcess

    init() throws {
        folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-dhcp")
        (box, host) = (try NetworkNamespace(), try NetworkNamespace())
        let (box, host) = (box, host)
        try box.run {
            try Command("ip", ["link", "add", "lan", "type", "veth", "peer", "name", "eth", "netns", host.path]).check()
            try Command("ip", ["addr", "add", "192.168.1.1/24", "dev", "lan"]).check()
            try Command("ip", ["link", "set", "lan", "up"]).check()
        }
        try host.run {
            try Command("ip", ["addr", "add", "192.168.1.50/24", "dev", "eth"]).check()
            try Command("ip", ["link", "set", "eth", "up"]).check()
        }
        // The plan's file: a case of the plugin.
        let plan = "\(BoxInNetwork.repository)/Sources/Plugins/LAN/cases/branch.plan"
        let lines = try FileSystem.read(plan).split(separator: UInt8(ascii: "\n")).map { try JSON.parse($0) }
        let file = try #require(lines.first { $0["path"]?.text?.hasSuffix("dnsmasq.conf") == true })
        let content = try #require(file["content"]?.text)
        try FileSystem.replace(
            "\(folder)/dnsmasq.conf", with: content.replacing("/data/lan/leases", with: "\(folder)/leases"))
        server = try box.run { [folder] in
            let log = try File("\(folder)/log", O_WRONLY | O_CREAT)
            return try Command("/usr/sbin/dnsmasq", ["--conf-file=\(folder)/dnsmasq.conf", "--user=root"]).start(
                output: log)
        }
    }

    deinit {
        server.kill()
        try? FileSystem.remove(folder)
    }

    /// The address that the box's DNS has for a name.
    private func resolve(_ name: String) throws -> IPAddress? {
        let query = DNSQuery(name: name)
        let socket = try ProofSocket(host, .ipv4, isStream: false)
        _ = socket.send(query.bytes, to: try #require(IPAddress("192.168.1.1")), port: 53)
        guard socket.wait(seconds: 3) else { return nil }
        return query.address(in: socket.receive().bytes)
    }

    @Test func namesThatMeanSomethingAreNotTakenFromClients() throws {
        // The name of a host of its own is taken: the server works.
        let address = try #require(try DHCPProbe(namespace: host, link: "eth", hostName: "laptop").requestAddress())
        #expect(try resolve("laptop.example.lan") == address)
        for name in ["wpad", "WPAD", "isatap", "localhost", "printer", "wpad.example.lan", "branch"] {
            #expect(
                try DHCPProbe(namespace: host, link: "eth", hostName: name).requestAddress() == address, "\(name)")
            let label = String(name.split(separator: ".")[0])
            #expect(try resolve("\(label).example.lan") != address, "\(name)")
            #expect(try resolve(label) != address, "\(name)")
        }
        #expect(try resolve("printer.example.lan") == IPAddress("192.168.1.20"))
    }
}
