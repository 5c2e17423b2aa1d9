import CSystem
import Glibc

/// `poweroff` and `reboot`.
enum StopRequest {
    /// As sysvinit's programs say it to PID 1.
    static let powerOffSignal = SIGUSR2
    static let rebootSignal = SIGTERM

    /// Asks PID 1: by its socket, which tells it who asks, or where that does not answer by a
    /// signal.
    static func send(powerOff: Bool) -> Int32 {
        if let answer = ask(powerOff ? "poweroff" : "reboot") {
            if answer.hasPrefix("ok") { return 0 }
            Console.say(answer)
            return 1
        }
        if kill(1, powerOff ? powerOffSignal : rebootSignal) == 0 { return 0 }
        Console.say("\(Failure("kill", "PID 1"))")
        return 1
    }

    /// PID 1's answer; nil for none.
    private static func ask(_ request: String) -> String? {
        let connection = csystem_connect_unix(ControlSocket.path, 1)
        guard connection >= 0 else { return nil }
        defer { close(connection) }
        let bytes = Array(request.utf8)
        guard Glibc.send(connection, bytes, bytes.count, Int32(MSG_NOSIGNAL)) == bytes.count else { return nil }
        var polled = pollfd(fd: connection, events: Int16(POLLIN), revents: 0)
        guard poll(&polled, 1, 5000) > 0 else { return nil }
        var buffer = [UInt8](repeating: 0, count: 4096)
        let count = recv(connection, &buffer, buffer.count, 0)
        return count > 0 ? String(decoding: buffer[..<count], as: UTF8.self) : nil
    }
}
