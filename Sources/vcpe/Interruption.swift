import CSystem
import Files
import Glibc

/// SIGINT, SIGTERM and SIGHUP: unfinished files are removed, then the process ends by the signal.
/// The kernel ends its children with it (``Children``).
enum Interruption {
    nonisolated(unsafe) private static var pipeEnds: (reading: Int32, writing: Int32) = (-1, -1)

    /// Handles the three signals from now on.
    static func watch() {
        var (reading, writing): (Int32, Int32) = (-1, -1)
        guard csystem_blocking_pipe(&reading, &writing) == 0 else { return }
        pipeEnds = (reading, writing)
        var thread = pthread_t()
        // A thread of its own: a handler may call next to nothing (signal-safety(7)), and other
        // threads may be busy.
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
