import CSystem
import Documents
import Glibc

/// Asks PID 1, by its socket: a message there, a message back (`docs/init.md`).
public struct InitClient {
    let socket: String

    public init(socket: String = Places().initSocket) { self.socket = socket }

    /// - Returns: PID 1's answer, as it says it.
    public func ask(_ request: String) throws -> String {
        let connection = csystem_connect_unix(socket, 1)
        guard connection >= 0 else {
            throw EngineError("PID 1 doesn't answer on \(socket): \(String(cString: strerror(errno)))")
        }
        defer { close(connection) }
        let bytes = Array(request.utf8)
        guard send(connection, bytes, bytes.count, Int32(MSG_NOSIGNAL)) == bytes.count else {
            throw EngineError("PID 1 doesn't listen: \(String(cString: strerror(errno)))")
        }
        var answer: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = recv(connection, &buffer, buffer.count, 0)
            if count < 0, errno == EINTR { continue }
            if count <= 0 { break }
            answer += buffer[..<count]
        }
        return String(decoding: answer, as: UTF8.self)
    }

    /// - Throws: what PID 1 has against it.
    public func tell(_ request: String) throws {
        let answer = try ask(request)
        guard answer == "ok\n" else {
            throw EngineError("PID 1: \(answer.split(separator: "\n").joined(separator: "; "))")
        }
    }

    /// A service as PID 1 sees it.
    public struct Service: Sendable {
        public var name: String
        public var state: String
        public var pid: Int
        /// Times that it was started again.
        public var restarts: Int
        /// Bytes.
        public var memory: Int
        /// Its own words.
        public var status: String
        /// Why it ended last without being asked to; empty for never.
        public var lastEnd = ""

        public var json: JSON {
            [
                "name": .text(name), "state": .text(state), "pid": .integer(pid), "restarts": .integer(restarts),
                "memory": .integer(memory), "status": .text(status),
            ]
        }
    }

    public func services() throws -> [Service] {
        try ask("status").split(separator: "\n").compactMap { line in
            let row = line.split(separator: "\t", omittingEmptySubsequences: false).map(String.init)
            guard row.count >= 6 else { return nil }
            return Service(
                name: row[0], state: row[1], pid: Int(row[2]) ?? 0, restarts: Int(row[3]) ?? 0,
                memory: Int(row[4]) ?? 0, status: row[5], lastEnd: row.count > 7 ? row[7] : "")
        }
    }
}

/// Tells PID 1, or whoever else started this process so, how it is (sd_notify(3)).
enum Notification {
    static func send(_ text: String) {
        guard let path = getenv("NOTIFY_SOCKET").map({ String(cString: $0) }) else { return }
        var text = text
        text.withUTF8 { _ = csystem_send_datagram(path, $0.baseAddress, $0.count) }
    }
}
