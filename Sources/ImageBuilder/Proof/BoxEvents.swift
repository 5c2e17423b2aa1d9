import Documents
import Files

/// The events that PID 1 of a box has sent to the virtio port `org.vcpe.events` (`docs/boot.md`).
struct BoxEvents {
    /// The file that QEMU writes them to.
    let path: String

    /// In their order. A line that is still being written is left out.
    var all: [JSON] {
        let bytes = (try? FileSystem.read(path)) ?? []
        return bytes.split(separator: UInt8(ascii: "\n")).compactMap { try? JSON.parse($0) }
    }

    func first(_ name: String) -> JSON? { all.first { $0["event"]?.text == name } }

    /// Versions that booted, in their order.
    var versions: [String] {
        all.filter { $0["event"]?.text == "up" }.compactMap { $0["version"]?.text }
    }

    /// The last boot was marked good.
    var isGood: Bool {
        let events = all
        let up = events.lastIndex { $0["event"]?.text == "up" } ?? 0
        return events[up...].contains { $0["event"]?.text == "good" }
    }

    /// A service has told PID 1 that it is ready.
    func isReady(_ service: String) -> Bool {
        all.contains { $0["event"]?.text == "service-ready" && $0["name"]?.text == service }
    }

    /// The last event, for a message about a box that does not boot.
    var last: String {
        guard let event = all.last, let name = event["event"]?.text else { return "no event" }
        let details = ["reason", "name"].compactMap { event[$0]?.text }.filter { !$0.isEmpty }
        return "the last event is \(name)" + (details.first.map { ": \($0)" } ?? "")
    }
}
