import Digests
import Files
import Glibc
import Processes
import Testing
import Transfers

@Suite struct TransfersTests {
    let folder: String

    init() throws { folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-transfers") }

    func source(_ name: String, _ count: Int) throws -> (download: Download, bytes: [UInt8]) {
        let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ count) }
        try FileSystem.replace("\(folder)/\(name)", with: bytes)
        return (
            Download(
                url: "file://\(folder)/\(name)", path: "\(folder)/\(name).got", size: count, digest: SHA256.hash(bytes)),
            bytes
        )
    }

    @Test func manyFilesArriveWhole() throws {
        let sources = try (1...30).map { try source("f\($0)", $0 * 10_000) }
        var last: DownloadProgress?
        #expect(try Transfers.fetch(sources.map(\.download)) { last = $0 }.isEmpty)
        for (download, bytes) in sources { #expect(try FileSystem.read(download.path) == bytes) }
        #expect(last?.finishedFiles == 30 && last?.bytes == last?.totalBytes)
        #expect(try FileSystem.list(folder).filter { $0.hasSuffix(".part") } == [])
    }

    @Test func whatAKilledRunLeftIsTakenUp() throws {
        let (download, bytes) = try source("big", 500_000)
        try FileSystem.replace(download.path + ".part", with: Array(bytes[..<200_000]))
        // Only the rest may be fetched: the start is not there any more.
        try File("\(folder)/big", O_RDWR).write([UInt8](repeating: 0, count: 200_000), at: 0)
        #expect(try Transfers.fetch([download]).isEmpty)
        #expect(try FileSystem.read(download.path) == bytes)
    }

    @Test func aWrongPartIsFetchedAnewOnce() throws {
        let (download, bytes) = try source("big", 500_000)
        try FileSystem.replace(download.path + ".part", with: [UInt8](repeating: 9, count: 200_000))
        #expect(try Transfers.fetch([download]).isEmpty)
        #expect(try FileSystem.read(download.path) == bytes)
    }

    @Test func wrongBytesAreNeverPutInPlace() throws {
        let (download, _) = try source("f", 1000)
        try File("\(folder)/f", O_RDWR).write([0xFF], at: 500)
        let failures = try Transfers.fetch([download])
        #expect(failures.first?.description.contains("SHA-256 is") == true)
        #expect(!FileSystem.exists(download.path) && !FileSystem.exists(download.path + ".part"))
    }

    @Test(arguments: [0, 999, 1001, 500_000])
    func anotherSizeThanPromisedIsAnError(size: Int) throws {
        let (download, _) = try source("f", 1000)
        try File("\(folder)/f", O_RDWR).resize(to: size)
        #expect(try Transfers.fetch([download]).count == 1)
        #expect(!FileSystem.exists(download.path))
    }

    @Test func missingFilesAreToldFromFailures() throws {
        let failures = try Transfers.fetch([
            Download(url: "file://\(folder)/nothing", path: "\(folder)/a"),
            Download(url: "http://127.0.0.1:1/x", path: "\(folder)/b"),
            Download(url: "file://\(folder)/x", path: "\(folder)/no/such/folder/c"),
        ])
        #expect(failures.map(\.url.last) == ["g", "x", "x"])
        #expect(failures.first?.reason == .gone)
        if case .transfer = failures[1].reason {} else { Issue.record("\(failures[1])") }
        if case .local(let text)? = failures.last?.reason { #expect(text.contains("ENOENT")) }
    }

    @Test func aFullDiskIsSaidAsSuch() throws {
        let (download, _) = try source("big", 3_000_000)
        let disk = "\(folder)/disk"
        try FileSystem.makeDirectory(disk)
        try Command("mount", ["-t", "tmpfs", "-o", "size=1m", "tmpfs", disk]).check()
        defer { _ = try? Command("umount", [disk]).run() }
        var full = download
        full.path = "\(disk)/big"
        let failures = try Transfers.fetch([full])
        #expect(failures.first?.description.contains("No space left on device (ENOSPC)") == true)
        #expect(!FileSystem.exists(full.path))
    }
}
