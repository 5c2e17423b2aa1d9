import Files
import Glibc

/// Ctrl-C and its like: what is half made is removed, then the process ends as the signal wants it.
enum Interruption {
    nonisolated(unsafe) private static var pipeEnds: (reading: Int32, writing: Int32) = (-1, -1)

    /// Takes care of SIGINT, SIGTERM and SIGHUP from now on.
    static func watch() {
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else { return }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        pipeEnds = (ends[0], ends[1])
        var thread = pthread_t()
        // A thread of its own: a handler may do next to nothing, and other threads may be deep in work.
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
