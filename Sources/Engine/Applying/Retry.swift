/// When something that failed is tried again: ever later, up to a minute.
struct Retry {
    /// In milliseconds of the kernel's time; nil when nothing is to be tried.
    private(set) var at: Int?
    private var delay = 0

    private static let (first, longest) = (5000, 60_000)

    /// It has failed once more.
    mutating func again() {
        delay = min(max(2 * delay, Self.first), Self.longest)
        at = Uptime.milliseconds + delay
    }
}
