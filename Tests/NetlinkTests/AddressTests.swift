import Addresses
import Glibc
import Netlink
import Testing

/// Addresses, and iproute2's view of them.
@Suite struct AddressTests {
    let network: TestNetwork

    init() throws { network = try TestNetwork() }

    private func ours(_ socket: RouteSocket) throws -> [InterfaceAddress] {
        try socket.addresses().filter { $0.origin == TestNetwork.origin }
    }

    private func wanted(
        _ link: Int, _ text: String, _ set: (inout InterfaceAddress) -> Void = { _ in }
    ) throws -> InterfaceAddress {
        var address = InterfaceAddress(link: link, prefix: try prefix(text), origin: TestNetwork.origin)
        set(&address)
        return address
    }

    /// What ip(8) lists, without the seconds that go by.
    /// What ip(8) shows, without lifetimes, which count down, and without an address's origin, which newer
    /// versions name.
    private func list() throws -> String {
        let words = try ip("address show dev wan").split(whereSeparator: \.isWhitespace)
            .map { $0.hasSuffix("sec") ? "N" : String($0) }
        return words.indices.filter { words[$0] != "proto" && ($0 == 0 || words[$0 - 1] != "proto") }
            .map { words[$0] }.joined(separator: " ")
    }

    @Test func eachAddressIsTheOneThatIproute2Makes() throws {
        try network.runWithLinks { socket, links in
            let (peer, peer6) = (try address("10.9.9.9"), try address("fd00::9"))
            let pairs = [
                (try wanted(links.wan, "192.0.2.1/24"), "192.0.2.1/24 brd +"),
                (try wanted(links.wan, "192.0.2.1/31"), "192.0.2.1/31"),
                (try wanted(links.wan, "192.0.2.1/32") { $0.peer = peer }, "192.0.2.1 peer 10.9.9.9/32"),
                (
                    try wanted(links.wan, "192.0.2.1/24") { $0.hasNoPrefixRoute = true },
                    "192.0.2.1/24 brd + noprefixroute"
                ),
                (
                    try wanted(links.wan, "192.0.2.1/24") {
                        $0.validLifetime = 1000
                        $0.preferredLifetime = 500
                    }, "192.0.2.1/24 brd + valid_lft 1000 preferred_lft 500"
                ),
                (try wanted(links.wan, "fd00::1/64"), "fd00::1/64 nodad"),
                (try wanted(links.wan, "fd00::1/64") { $0.detectsDuplicates = true }, "fd00::1/64"),
                (
                    try wanted(links.wan, "fd00::1/64") { $0.hasNoPrefixRoute = true },
                    "fd00::1/64 nodad noprefixroute"
                ),
                (try wanted(links.wan, "fd00::1/128") { $0.peer = peer6 }, "fd00::1 peer fd00::9/128 nodad"),
                (
                    try wanted(links.wan, "fd00::1/64") {
                        $0.validLifetime = 1000
                        $0.preferredLifetime = 0
                    }, "fd00::1/64 nodad valid_lft 1000 preferred_lft 0"
                ),
                (
                    try wanted(links.wan, "fd00::1/64") { $0.preferredLifetime = 500 },
                    "fd00::1/64 nodad valid_lft forever preferred_lft 500"
                ),
            ]
            for (address, words) in pairs {
                try socket.add(address)
                // The kernel marks an address while it looks for duplicates.
                let made = try list().replacing("tentative ", with: "")
                let read = try ours(socket)
                #expect(read.count == 1 && address.agrees(with: read[0], within: 5), "\(words): \(read)")
                try socket.delete(address)
                #expect(try ours(socket).isEmpty)
                // Not every ip(8) can name an origin.
                try ip("address add \(words) dev wan")
                #expect(try list().replacing("tentative ", with: "") == made, "\(words)")
                var unnamed = address
                unnamed.origin = 0
                let theirs = try socket.addresses(of: links.wan)
                #expect(theirs.count == 1 && unnamed.agrees(with: theirs[0], within: 5), "\(words): \(theirs)")
                for address in theirs { try socket.delete(address) }
            }
        }
    }

    @Test func lifetimesAreRenewedInPlace() throws {
        try network.runWithLinks { socket, links in
            for text in ["192.0.2.1/24", "fd00::1/64"] {
                for lifetimes in [[100, 50], [7000, 3000], [nil, nil], [600, 0]] {
                    let address = try wanted(links.wan, text) {
                        $0.validLifetime = lifetimes[0]
                        $0.preferredLifetime = lifetimes[1]
                    }
                    try socket.add(address)
                    let read = try ours(socket).filter { $0.prefix.description == text }
                    #expect(read.count == 1 && address.agrees(with: read[0], within: 5), "\(address): \(read)")
                }
            }
        }
    }

    @Test func theNormalForm() throws {
        var address = try wanted(1, "192.0.2.1/24") {
            $0.peer = $0.prefix.address
            $0.detectsDuplicates = true
            $0.preferredLifetime = 10
        }
        let plain = try wanted(1, "192.0.2.1/24")
        #expect(address.normalForm == plain)
        address.validLifetime = 5
        #expect(address.normalForm.preferredLifetime == 5)
        address.preferredLifetime = nil
        #expect(address.normalForm.preferredLifetime == 5)
        let other = try wanted(1, "fd00::1/64") {
            $0.validLifetime = Int.max
            $0.preferredLifetime = -1
        }
        #expect(other.normalForm.validLifetime == Int(UInt32.max) - 1 && other.normalForm.preferredLifetime == 0)
        #expect(other.normalForm.normalForm == other.normalForm)
    }

    @Test func lifetimesAgreeWithinSomeSeconds() throws {
        let address = try wanted(1, "fd00::1/64") { $0.validLifetime = 100 }
        var later = address.normalForm
        later.validLifetime = 98
        later.preferredLifetime = 98
        #expect(address.agrees(with: later, within: 2) && !address.agrees(with: later, within: 1))
        later.validLifetime = nil
        #expect(!address.agrees(with: later, within: 1000))
    }

    @Test func theAddressesOfOneLink() throws {
        try network.runWithLinks { socket, links in
            try socket.add(try wanted(links.wan, "192.0.2.1/24"))
            try socket.add(try wanted(links.lan, "fd00::1/64"))
            #expect(try socket.addresses(of: links.wan) == [try wanted(links.wan, "192.0.2.1/24")])
            #expect(try socket.addresses(of: links.lan) == [try wanted(links.lan, "fd00::1/64")])
        }
    }
}
