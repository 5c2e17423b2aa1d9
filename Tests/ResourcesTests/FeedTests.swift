@testable import Engine
import Files
import Glibc
import PluginKit
import Testing

/// Files that fill sets.
@Suite(.serialized) struct FeedFileTests {
    /// F_SETLEASE of fcntl.h, a macro that is not imported.
    private static let setLease: Int32 = 1024

    /// A write lease makes open(2) fail with EWOULDBLOCK for as long as it is held (fcntl(2)).
    @Test func aFileThatCouldNotBeReadOnceIsReadAgain() throws {
        let folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-feed")
        defer { try? FileSystem.remove(folder) }
        var places = Places()
        places.data = folder
        try FileSystem.makeDirectory("\(folder)/vcpe/feeds")
        let path = "\(folder)/vcpe/feeds/firewall.blocked"
        try FileSystem.replace(path, with: "192.0.2.7\n")
        let (feed, feeds) = (FeedResource("firewall.blocked", sets: []), FeedFiles(places: places))
        // The kernel asks the holder to give the lease up, also after the test's end.
        _ = signal(SIGIO, SIG_IGN)
        do {
            let holder = try File(path, O_RDONLY)
            #expect(fcntl(holder.descriptor, Self.setLease, Int32(F_WRLCK)) == 0)
            #expect(feeds.members(of: feed).members.isEmpty)
            _ = fcntl(holder.descriptor, Self.setLease, Int32(F_UNLCK))
        }
        #expect(feeds.members(of: feed).members.map(\.name) == ["192.0.2.7"])
    }
}
