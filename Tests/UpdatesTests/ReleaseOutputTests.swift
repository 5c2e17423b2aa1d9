import Files
import Glibc
import Processes
@testable import Releases
import TestSupport
import Testing
import Updates

/// What a release is made from: the outputs of one build, for one architecture, in files that boxes
/// accept.
@Suite final class ReleaseOutputTests {
    private let folder: String

    init() throws { folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-outputs") }

    deinit { try? FileSystem.remove(folder) }

    /// A build locks its output folder exclusively; meanwhile no release is made. Several releases
    /// may be made at once.
    @Test func aReleaseAndABuildKeepEachOtherAway() throws {
        let build = try Command("flock", ["-x", "\(folder)/.lock", "sleep", "2"]).start(
            output: File("/dev/null", O_WRONLY))
        defer { build.kill() }
        let isLocked = try Wait.until {
            try Command("flock", ["-n", "-s", "\(folder)/.lock", "true"]).run().status != 0
        }
        #expect(isLocked)
        var waits = 0
        let first = try OutputLock(folder) { waits += 1 }
        #expect(waits == 1)
        let second = try OutputLock(folder) { waits += 1 }
        #expect(waits == 1)
        #expect(try Command("flock", ["-n", "-x", "\(folder)/.lock", "true"]).run().status != 0)
        withExtendedLifetime((first, second)) {}
    }

    @Test func theLockEndsWithItsValue() throws {
        do { withExtendedLifetime(try OutputLock(folder)) {} }
        #expect(try Command("flock", ["-n", "-x", "\(folder)/.lock", "true"]).run().status == 0)
    }

    /// By the machine type of the PE header, which the firmware itself goes by.
    @Test func theArchitectureIsThatOfTheKernelImage() throws {
        let path = "\(folder)/uki.efi"
        func write(machine: [UInt8], at place: Int = 128, signature: String = "PE\0\0") throws {
            var bytes = [UInt8](repeating: 0, count: 256)
            bytes.replaceSubrange(0..<2, with: "MZ".utf8)
            bytes[60] = UInt8(place)
            bytes.replaceSubrange(place..<place + 4, with: signature.utf8)
            bytes.replaceSubrange(place + 4..<place + 6, with: machine)
            try FileSystem.replace(path, with: bytes)
        }
        for (machine, name) in [([0x64, 0x86], "amd64"), ([0x64, 0xAA], "arm64"), ([0x64, 0x50], "riscv64")]
            as [([UInt8], String)]
        {
            try write(machine: machine)
            #expect(try Architecture.name(ofUKI: path) == name)
        }
        try write(machine: [0x34, 0x12])
        #expect(throws: ReleaseFailure.self) { try Architecture.name(ofUKI: path) }
        try write(machine: [0x64, 0x86], signature: "NE\0\0")
        #expect(throws: ReleaseFailure.self) { try Architecture.name(ofUKI: path) }
        try FileSystem.replace(path, with: "MZ")
        #expect(throws: ReleaseFailure.self) { try Architecture.name(ofUKI: path) }
    }

    /// A patch whose index boxes would refuse is not made: they use blocks then.
    @Test func aPatchThatBoxesWouldRefuseIsNotMade() throws {
        var random = Random(seed: 7)
        let bytes = (0..<40 * VerityLayout.blockSize).map { _ in UInt8(random.next(256)) }
        try FileSystem.replace("\(folder)/new", with: bytes)
        let (new, path) = (try File("\(folder)/new"), "\(folder)/patch")
        #expect(try PatchDelta.make(from: nil, to: new, path: path, level: 1))
        let index = try #require(try PatchDelta.index(of: File(path)))
        let slot = try File("\(folder)/slot", O_RDWR | O_CREAT)
        var delta = try PatchDelta(
            name: "patch", source: HTTPDeltaSource(Repository(["file://\(folder)"]), "patch"), bytes: bytes.count,
            index: index)
        try delta.install(into: slot, from: slot)
        #expect(try slot.readAll() == bytes)
        try FileSystem.remove(path)
        #expect(try !PatchDelta.make(from: nil, to: new, path: path, level: 1, mostIndex: 20))
        #expect(!FileSystem.exists(path))
    }
}
