import Addresses
import Files
import Glibc
import Netlink
import Processes
import Testing

/// A router between `lan` (10.0.0.0/8, fd00:1::/32) and `wan` (198.51.100.0/24, 2001:db8::/32) in a
/// network namespace of its own, with connections that conntrack(8) writes.
struct RouterNetwork {
    private let namespace: NetworkNamespace

    init() throws {
        namespace = try NetworkNamespace()
        let lines = ["lan", "wan"].map {
            "ip link add \($0) type veth peer name far-\($0); ip link set \($0) up; ip link set far-\($0) up"
        }
        let routes = [
            "ip route add 10.0.0.0/8 dev lan", "ip route add 198.51.100.0/24 dev wan",
            "ip -6 route add fd00:1::/32 dev lan", "ip -6 route add 2001:db8::/32 dev wan",
        ]
        try namespace.run { _ = try Command("sh", ["-ec", (lines + routes).joined(separator: "\n")]).check() }
    }

    func run(_ body: (RouteSocket) throws -> Void) throws {
        try namespace.run { try body(RouteSocket()) }
    }

    /// The words of `conntrack -I` for an answered connection over UDP.
    static func connection(_ number: Int, to port: Int, _ more: String = "") -> String {
        "-I -s \(source(number)) -d 198.51.100.\(number % 250 + 1) -p udp --sport \(1024 + number % 60_000) "
            + "--dport \(port) -t 600 -u SEEN_REPLY \(more)\n"
    }

    static func source(_ number: Int) -> String { "10.\(number >> 16).\(number >> 8 & 255).\(number & 255)" }

    /// Has conntrack(8) do what lines say, one command each.
    func load(_ lines: String) throws {
        let folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-connections")
        defer { try? FileSystem.remove(folder) }
        try FileSystem.replace("\(folder)/lines", with: lines)
        try Command("conntrack", ["--load-file", "\(folder)/lines"]).check()
    }

    /// Connections over UDP that conntrack(8) lists, by their ports.
    func ports(_ ports: [Int]) throws -> [Int] {
        try ports.map { try listed("-p", "udp", "--dport", "\($0)") }
    }

    /// Connections that conntrack(8) lists.
    func listed(_ arguments: String...) throws -> Int {
        try Command("conntrack", ["-L"] + arguments).check().text.split(separator: "\n").count
    }
}
