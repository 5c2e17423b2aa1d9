import CSystem
import Files
import Glibc
import Synchronization

/// Exchanges two names in a folder as fast as a thread can, until it is stopped: a service whose user
/// owns the folder, and that tries to lead root elsewhere.
final class Swapper: Sendable {
    private let folder: File
    private let (first, second): (String, String)
    private let isStopped = Atomic(false)
    private let isDone = Atomic(false)
    private let count = Atomic(0)

    /// Exchanges so far.
    var exchanges: Int { count.load(ordering: .relaxed) }

    init(_ folder: String, _ first: String, _ second: String) throws {
        self.folder = try File(folder, O_RDONLY | O_DIRECTORY)
        (self.first, self.second) = (first, second)
        var thread = pthread_t()
        let code = pthread_create(
            &thread, nil,
            { swapper in
                if let swapper { Unmanaged<Swapper>.fromOpaque(swapper).takeRetainedValue().run() }
                return nil
            }, Unmanaged.passRetained(self).toOpaque())
        guard code == 0 else { throw SystemError("pthread_create", folder, code: code) }
        pthread_detach(thread)
    }

    private func run() {
        while !isStopped.load(ordering: .relaxed) {
            // One of the names may be missing for a moment.
            if csystem_exchange(folder.descriptor, first, second) == 0 { count.add(1, ordering: .relaxed) }
        }
        isDone.store(true, ordering: .releasing)
    }

    func stop() {
        isStopped.store(true, ordering: .relaxed)
        while !isDone.load(ordering: .acquiring) { usleep(1000) }
    }
}
