import CSystem
import Glibc

/// The socket of syslog(3): most daemons report by it why they don't start. A message goes to the
/// log of the service that sent it. A log daemon of the image replaces the socket when it starts.
struct SystemLog {
    static let path = "/dev/log"
    /// The log of what no service sent.
    static let others = "syslog"
    let descriptor: Int32

    init() {
        // Ten messages by default: a sender waits when they are not read at once. It counts when a
        // socket is made.
        Text.write("512\n", to: "/proc/sys/net/unix/max_dgram_qlen")
        descriptor = csystem_notify_socket(SystemLog.path)
    }

    /// The next message without its priority and time (RFC 3164), and its sender as the kernel
    /// reports it; nil when there is none.
    func next() -> (sender: pid_t, text: [UInt8])? {
        var buffer = [UInt8](repeating: 0, count: 8192)
        var sender: pid_t = 0
        let count = csystem_receive_notification(descriptor, &buffer, buffer.count, &sender)
        guard count >= 0 else { return nil }
        return (sender, Self.text(buffer[..<count]))
    }

    /// `<30>Dec  1 04:20:16 nginx[7]: text` as `nginx[7]: text` and a line's end; control
    /// characters as blanks.
    static func text(_ message: ArraySlice<UInt8>) -> [UInt8] {
        var rest = message
        if rest.first == UInt8(ascii: "<"), let end = rest.prefix(6).firstIndex(of: UInt8(ascii: ">")) {
            rest = rest[(end + 1)...]
        }
        let time = Array(rest.prefix(16))
        if time.count == 16, time[3] == 0x20, time[6] == 0x20, time[9] == 0x3A, time[12] == 0x3A, time[15] == 0x20 {
            rest = rest.dropFirst(16)
        }
        while let last = rest.last, last == 0 || last == 0x0A { rest = rest.dropLast() }
        return rest.map { $0 < 0x20 || $0 == 0x7F ? 0x20 : $0 } + [0x0A]
    }
}
