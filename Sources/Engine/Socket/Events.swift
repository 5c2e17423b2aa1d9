import Documents
import Glibc
import PluginKit

/// The events of the box, as lines of JSON for clients such as a user interface or an agent.
///
/// The engine keeps the last events, so that a client that was disconnected for a while misses none:
/// each line has a cursor from which it continues. A cursor is valid for one run of the engine.
final class Events {
    /// Names this run of the engine.
    private let run = "\(getpid())-\(Uptime.milliseconds)"
    private var kept: [(number: Int, event: JSON, bytes: Int)] = []
    private var keptBytes = 0
    private var last = 0
    private var followers: [ClientConnection] = []
    /// The last state of each subject, so that only changes are events.
    private var states: [String: JSON] = [:]

    /// Events that are kept, and their bytes.
    private static let (most, mostBytes) = (1000, 4 << 20)

    var hasFollowers: Bool { followers.contains(where: \.isOpen) }

    /// Begins to send events to a connection: first those after a cursor, or, without a cursor that is
    /// known, the state of each subject.
    func follow(_ connection: ClientConnection, after cursor: String?, at time: Int) {
        followers.removeAll { !$0.isOpen }
        func send(_ event: String, _ more: [String: JSON] = [:]) {
            var entries = more
            (entries["event"], entries["time"]) = (.text(event), .integer(time))
            // Only the last line has a cursor: from the middle of the states nothing goes on.
            connection.send(event: event == "follows" ? line(.object(entries), last) : .object(entries), isState: true)
        }
        let words = (cursor ?? "").split(separator: ".").map(String.init)
        let number = words.count == 2 && words[0] == run ? Int(words[1]) : nil
        if let number, number <= last, number >= last - kept.count {
            for (at, event, _) in kept where at > number { connection.send(event: line(event, at)) }
        } else {
            if cursor != nil { send("lost") }
            for (subject, state) in states.sorted(by: { $0.key < $1.key }) { send(subject, ["state": state]) }
        }
        send("follows")
        followers.append(connection)
    }

    private func line(_ event: JSON, _ number: Int) -> JSON {
        var entries = event.object ?? [:]
        entries["cursor"] = .text("\(run).\(number)")
        return .object(entries)
    }

    /// Adds an event, and sends it to all followers.
    func add(_ event: String, _ more: [String: JSON], at time: Int) {
        var entries = more
        (entries["event"], entries["time"]) = (.text(event), .integer(time))
        last += 1
        let bytes = JSON.object(entries).line.utf8.count
        kept.append((last, .object(entries), bytes))
        keptBytes += bytes
        while kept.count > Self.most || keptBytes > Self.mostBytes { keptBytes -= kept.removeFirst().bytes }
        followers.removeAll { !$0.isOpen }
        for follower in followers { follower.send(event: line(.object(entries), last)) }
    }

    /// The state of a subject: an event when it is another than before.
    func observe(_ subject: String, _ state: JSON, at time: Int) {
        guard states[subject] != state else { return }
        states[subject] = state
        add(subject, ["state": state], at: time)
    }
}
