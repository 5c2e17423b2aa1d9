import Glibc

/// Time since the kernel started, suspension included (CLOCK_BOOTTIME). Setting the clock does not
/// change it.
public enum Uptime {
    public static var milliseconds: Int {
        let now = now
        return now.tv_sec * 1000 + now.tv_nsec / 1_000_000
    }

    /// Whole ones.
    public static var seconds: Int { now.tv_sec }

    private static var now: timespec {
        var now = timespec()
        clock_gettime(CLOCK_BOOTTIME, &now)
        return now
    }
}
