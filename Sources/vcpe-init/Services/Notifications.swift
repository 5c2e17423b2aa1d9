import CSystem
import Glibc

/// The socket on which services say how they are (sd_notify(3)).
struct Notifications {
    static let path = "/run/vcpe/notify"
    let descriptor = csystem_notify_socket(Notifications.path)

    /// One message and who sent it, as the kernel knows; nil when none is there.
    func next() -> (sender: pid_t, text: String)? {
        var buffer = [UInt8](repeating: 0, count: 4096)
        var sender: pid_t = 0
        let count = csystem_receive_notification(descriptor, &buffer, buffer.count, &sender)
        guard count >= 0 else { return nil }
        return (sender, String(decoding: buffer[..<count], as: UTF8.self))
    }
}
