import Glibc

/// Waiting for what comes by itself.
public enum Wait {
    /// Waits until something is so; false when the seconds are over.
    public static func until(_ seconds: Double = 10, every pause: Double = 0.05, isDone: () throws -> Bool) rethrows
        -> Bool
    {
        func now() -> Double {
            var time = timespec()
            clock_gettime(CLOCK_MONOTONIC, &time)
            return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
        }
        let end = now() + seconds
        while now() < end {
            if try isDone() { return true }
            usleep(UInt32(pause * 1e6))
        }
        return try isDone()
    }
}
