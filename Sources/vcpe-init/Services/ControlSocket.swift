import CSystem
import Callers
import Clocks
import Glibc

/// The socket for requests to PID 1: a message, and a message back.
struct ControlSocket {
    static let path = "/run/vcpe/init.sock"
    /// Callers at a time; one more takes the place of the oldest.
    private static let most = 16

    let listener = csystem_listen_unix(ControlSocket.path, 1)
    private var connections: [Int32] = []
    /// Without a descriptor left for a caller, PID 1 accepts none until then.
    private(set) var deafUntil = 0

    func isConnection(_ descriptor: Int32) -> Bool { connections.contains(descriptor) }

    /// Takes the callers that wait; each is watched by `epoll` from then on.
    mutating func accept(_ epoll: Int32) {
        for _ in 0..<Self.most {
            let connection = csystem_accept(listener)
            if connection < 0 {
                if errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS {
                    csystem_epoll_remove(epoll, listener)
                    deafUntil = Uptime.milliseconds + 200
                }
                return
            }
            if connections.count >= Self.most, let oldest = connections.first { drop(oldest, epoll) }
            connections.append(connection)
            csystem_epoll_add(epoll, connection)
        }
    }

    mutating func listenAgain(_ epoll: Int32) {
        deafUntil = 0
        csystem_epoll_add(epoll, listener)
    }

    /// The request on a connection and its caller; nil when there is none yet. A caller that hung
    /// up is dropped.
    mutating func request(_ connection: Int32, _ epoll: Int32) -> (text: String, caller: Caller)? {
        var buffer = [UInt8](repeating: 0, count: 4096)
        let count = recv(connection, &buffer, buffer.count, Int32(MSG_DONTWAIT))
        guard count > 0 else {
            // Nothing to read is no end: the event may be older than the connection, of a service's
            // log that had the same descriptor and was closed while earlier events were handled.
            if count == 0 || errno != EAGAIN && errno != EINTR { drop(connection, epoll) }
            return nil
        }
        return (String(decoding: buffer[..<count], as: UTF8.self), Caller(connection: connection))
    }

    /// Sends the answer, if the caller takes it now, and closes the connection.
    mutating func answer(_ connection: Int32, _ text: String, _ epoll: Int32) {
        var text = text
        // A message must fit the socket's buffer.
        for part in stride(from: 0, to: text.utf8.count, by: 32_768) {
            text.withUTF8 { bytes in
                let count = min(32_768, bytes.count - part)
                _ = send(connection, bytes.baseAddress.map { $0 + part }, count, Int32(MSG_NOSIGNAL | MSG_DONTWAIT))
            }
        }
        drop(connection, epoll)
    }

    mutating func drop(_ connection: Int32, _ epoll: Int32) {
        csystem_epoll_remove(epoll, connection)
        close(connection)
        connections.removeAll { $0 == connection }
    }
}
