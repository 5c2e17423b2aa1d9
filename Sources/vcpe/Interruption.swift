import CSystem
import Files
import Glibc

/// Handles SIGINT, SIGTERM and SIGHUP: removes unfinished files, then terminates the process by the
/// signal. The kernel terminates its children with it (``Children``).
enum Interruption {
    nonisolated(unsafe) private static var pipeEnds: (reading: Int32, writing: Int32) = (-1, -1)

    /// Handles the three signals from now on.
    static func watch() {
        var (reading, writing): (Int32, Int32) = (-1, -1)
        guard csystem_blocking_pipe(&reading, &writing) == 0 else { return }
        pipeEnds = (reading, writing)
        var thread = pthread_t()
        // A separate thread removes the files: a handler may only call async-signal-safe functions
        // (signal-safety(7)), and other threads may be blocked.
        let started = pthread_create(
            &thread, nil,
            { _ in
                var number: UInt8 = 0
                while read(Interruption.pipeEnds.reading, &number, 1) != 1 {}
                FileSystem.removeUnfinished()
                signal(Int32(number), SIG_DFL)
                kill(getpid(), Int32(number))
                return nil
            }, nil)
        guard started == 0 else { return }
        for number in [SIGINT, SIGTERM, SIGHUP] {
            signal(number) { number in
                var byte = UInt8(truncatingIfNeeded: number)
                _ = write(Interruption.pipeEnds.writing, &byte, 1)
            }
        }
    }
}
