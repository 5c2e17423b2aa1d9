@testable import Engine
import Files
import Glibc
import Testing

/// The time that a box takes for true, with clocks of the test's own.
@Suite final class WallClockTests {
    private static let built = 1_790_000_000
    private static let year = 31_556_952

    /// The kernel's clocks.
    private final class Kernel {
        var (time, uptime) = (0, 10)
        var isFixed = false

        func pass(_ seconds: Int) { (time, uptime) = (time + seconds, uptime + seconds) }

        var clock: SystemClock {
            SystemClock(
                now: { self.time }, uptime: { self.uptime },
                set: { (time: Int) throws(SystemError) in
                    if self.isFixed { throw SystemError("clock_settime", "the clock", code: EPERM) }
                    self.time = time
                })
        }
    }

    private let kernel = Kernel()
    private let folder: String
    private var path: String { "\(folder)/state/clock" }

    init() throws { folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-clock") }

    deinit { try? FileSystem.remove(folder) }

    private func start(at time: Int, built: Int? = WallClockTests.built) -> WallClock {
        (kernel.time, kernel.uptime) = (time, 10)
        return WallClock(path: path, built: built, system: kernel.clock)
    }

    private var saved: Int? {
        (try? FileSystem.read(path)).flatMap { Int(String(decoding: $0, as: UTF8.self).split(separator: "\n")[0]) }
    }

    @Test func aClockOfHardwareThatCantBeRightIsSet() throws {
        let day = 86_400
        for time in [0, Self.built - day - 1, Self.built + 10 * Self.year + 1, 4_000_000_000] {
            let clock = start(at: time)
            #expect(clock.refusal == WallClock.Refusal(time: time, instead: Self.built - day))
            #expect(kernel.time == Self.built - day && clock.now == kernel.time)
        }
        for time in [Self.built - day, Self.built, Self.built + 10 * Self.year] {
            #expect(start(at: time).refusal == nil && kernel.time == time)
        }
        // The latest known time is nearer.
        try FileSystem.makeDirectory("\(folder)/state")
        try FileSystem.replace(path, with: "\(Self.built + 5000)\n")
        _ = start(at: 4_000_000_000)
        #expect(kernel.time == Self.built + 5000)
        // Unless it can't be.
        try FileSystem.replace(path, with: "4000000000\n")
        let clock = start(at: Self.built + 7)
        #expect(clock.now == Self.built + 7 && kernel.time == Self.built + 7)
    }

    @Test func aTimeSourceThatCantBeRightIsPutBack() throws {
        let clock = start(at: Self.built + 100)
        #expect(!clock.tick() && clock.refusal == nil)
        for time in [3, Self.built + 20 * Self.year] {
            let before = kernel.time
            kernel.pass(50)
            kernel.time = time
            #expect(!clock.tick(), "nobody has another time than before")
            #expect(kernel.time == before + 50)
            #expect(clock.refusal == WallClock.Refusal(time: time, instead: before + 50))
            #expect((saved ?? Self.built) < Self.built + Self.year)
        }
        // Within the range, whoever sets it is believed, also back.
        kernel.time = Self.built + Self.year
        #expect(clock.tick() && clock.now == Self.built + Self.year && saved == clock.now)
        kernel.time = Self.built + 5
        #expect(clock.tick() && clock.now == Self.built + 5 && saved == clock.now)
    }

    @Test func withoutARangeEveryTimeIsTaken() {
        let clock = start(at: 5, built: nil)
        #expect(clock.refusal == nil && kernel.time == 5)
        kernel.time = 4_000_000_000
        #expect(clock.tick() && clock.refusal == nil && clock.now == 4_000_000_000)
    }

    @Test func aClockThatNobodyMaySetIsReported() {
        let clock = start(at: Self.built)
        kernel.isFixed = true
        kernel.time = 5
        _ = clock.tick()
        #expect(clock.refusal?.time == 5 && kernel.time == 5 && clock.now >= Self.built - 86_400)
    }

    @Test func theImageSaysWhenItWasMade() throws {
        let image = "\(folder)/image"
        try FileSystem.replace(image, with: "name a b\nbuilt 2026-11-30T02:21:41Z\n")
        #expect(WallClock.built(image) == 1_796_005_301)
        try FileSystem.replace(image, with: "name a\nbuilt now\n")
        #expect(WallClock.built(image) == nil && WallClock.built("\(folder)/none") == nil)
    }
}
