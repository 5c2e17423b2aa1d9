import Addresses
import Documents
import Glibc
import Netlink
import Processes
import Testing

/// A network namespace with two links, `wan` and `lan`, each the end of a veth, and iproute2 as the
/// oracle for what the kernel holds.
struct TestNetwork {
    /// The number that the routes, rules and addresses of these tests carry.
    static let origin: UInt8 = 118

    let namespace: NetworkNamespace

    init() throws { namespace = try NetworkNamespace() }

    /// Runs `body` in the namespace.
    func run(_ body: (RouteSocket) throws -> Void) throws {
        try namespace.run { try body(RouteSocket()) }
    }

    /// Runs `body` in the namespace with both links up; without IPv6 addresses that the kernel adds
    /// some time later.
    func runWithLinks(_ body: (RouteSocket, (wan: Int, lan: Int)) throws -> Void) throws {
        try run { socket in
            for name in ["wan", "lan"] {
                try socket.createLink(name, kind: "veth", data: LinkAttribute.veth(peer: "\(name)-peer"))
                for end in [name, "\(name)-peer"] {
                    try ip("link set dev \(end) addrgenmode none")
                    try socket.setLink(try index(end, socket), isUp: true)
                }
            }
            try waitForCarriers(socket)
            try body(socket, (try index("wan", socket), try index("lan", socket)))
        }
    }

    /// The kernel learns of a carrier some time later, and makes the multicast routes of IPv6 then.
    private func waitForCarriers(_ socket: RouteSocket) throws {
        try Self.wait("no multicast routes of the links") {
            try socket.routes(table: 255).filter { $0.destination.description == "ff00::/8" }.count == 4
        }
    }

    /// Waits for what the kernel does by itself.
    static func wait(_ failure: Comment, until isThere: () throws -> Bool) throws {
        for _ in 0..<500 {
            if try isThere() { return }
            usleep(10_000)
        }
        Issue.record(failure)
    }

    func index(_ name: String, _ socket: RouteSocket) throws -> Int {
        try #require(try socket.link(named: name)).index
    }
}

/// Runs ip(8) with words between blanks; in the namespace of the calling thread.
@discardableResult
func ip(_ arguments: String) throws -> String {
    try Command("ip", arguments.split(separator: " ").map(String.init)).check().text
}

func ipObjects(_ arguments: String) throws -> [JSON] {
    // Timers have a fraction, which no other number of this project has.
    let text = try ip("-j " + arguments).replacing(/:([0-9]+)\.[0-9]+([,}])/) { ":\($0.1)\($0.2)" }
    return text.isEmpty ? [] : try JSON.parse(text).list ?? []
}

func prefix(_ text: String) throws -> IPPrefix { try #require(IPPrefix(text)) }

func address(_ text: String) throws -> IPAddress { try #require(IPAddress(text)) }

/// SplitMix64: the same seed gives the same states on every machine.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var value = state
        value = (value ^ value >> 30) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ value >> 27) &* 0x94D0_49BB_1331_11EB
        return value ^ value >> 31
    }

    mutating func chance(_ percent: Int) -> Bool { Int.random(in: 0..<100, using: &self) < percent }

    mutating func pick<Element>(_ elements: [Element]) -> Element {
        elements[Int.random(in: elements.indices, using: &self)]
    }
}
