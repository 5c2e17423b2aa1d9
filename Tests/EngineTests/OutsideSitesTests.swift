@testable import Engine
import Files
import Glibc
import Processes
import Testing

@Suite struct OutsideSitesTests {
    /// A disk is in /sys before it can be opened, and a look may fall between the two.
    @Test func aDiskThatCannotBeOpenedYetIsReadLater() throws {
        let folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-sites")
        defer { try? FileSystem.remove(folder) }
        var places = Places()
        (places.run, places.devices, places.image) = (folder, "\(folder)/dev", "\(folder)/image")
        places.firmwareSite = "\(folder)/none"
        for folder in [places.state, places.devices] { try FileSystem.makeDirectory(folder) }
        let names = try FileSystem.list("/sys/class/block")
        let name = try #require(names.first, "this machine has no disk")
        var sites = OutsideSites(places: places)

        /// What a look reads: names, and whether they could be.
        func look() throws -> [String: Bool] {
            var seen: [String: Bool] = [:]
            for source in sites.appeared() {
                guard case .disk(let name, _) = source else { continue }
                do {
                    _ = try sites.read(source)
                    seen[name] = true
                } catch {
                    sites.retry(source)
                    seen[name] = false
                }
            }
            return seen
        }
        #expect(try look() == Dictionary(uniqueKeysWithValues: names.map { ($0, false) }))
        try File("\(places.devices)/\(name)", O_RDWR | O_CREAT).resize(to: 1 << 20)
        #expect(try look()[name] == true)
        #expect(try look()[name] == nil)
        // One that never can be opened is not tried for ever.
        for _ in 0..<8 { #expect(try look().count == names.count - 1) }
        #expect(try look() == [:])
    }
}
