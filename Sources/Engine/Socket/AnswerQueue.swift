import Glibc

/// Requests whose answers take a thread: get-data, and plugins' commands. One is answered at a
/// time, that of the highest role first; those of callers that are gone are dropped.
final class AnswerQueue {
    private struct Waiting {
        var connection: ClientConnection
        /// Begins the work. What it needs is read then, so that a request that waits keeps nothing.
        var begin: (Background) throws -> Void
        var failed: (any Error) -> Void
    }

    private let background = Background()
    private var waiting: [Waiting] = []

    /// - Parameters:
    ///   - begin: has the background do the work and answers with its result.
    ///   - failed: is told why the work could not be begun.
    func add(
        _ connection: ClientConnection, _ begin: @escaping (Background) throws -> Void,
        failed: @escaping (any Error) -> Void
    ) {
        waiting.append(Waiting(connection: connection, begin: begin, failed: failed))
    }

    // MARK: - In the engine's loop

    var polled: [pollfd] { background.polled }

    func step() {
        background.step()
        waiting.removeAll { !$0.connection.isOpen }
        guard !background.isBusy, let next = waiting.removeHighest(by: \.connection.rank) else { return }
        do { try next.begin(background) } catch { next.failed(error) }
    }

    /// When there is something to do though nothing came, in milliseconds of the kernel's time.
    var due: Int? { waiting.isEmpty || background.isBusy ? nil : 0 }
}

extension Array {
    /// Removes the first of the elements with the highest rank.
    mutating func removeHighest(by rank: (Element) -> Int) -> Element? {
        guard let highest = map(rank).max(), let index = firstIndex(where: { rank($0) == highest }) else { return nil }
        return remove(at: index)
    }
}
