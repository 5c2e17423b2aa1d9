import CSystem
import Documents
import Files
import Glibc

/// Asks the engine, from another program of the box.
public struct EngineClient {
    /// Bytes of a request of those who may change something.
    public static let largestRequest = Server.largestRequest(of: .administrator)

    let socket: String

    public init(socket: String = Places().socket) { self.socket = socket }

    public func ask(_ request: JSON) throws -> JSON {
        var answer: JSON?
        try ask(request) { line in
            answer = line
            return false
        }
        guard let answer else { throw EngineError("the engine gave no answer") }
        return answer
    }

    /// Tells the engine of a login; the session lasts until the file is closed. An engine that does
    /// not answer keeps no user out.
    ///
    /// - Parameter command: of a session for one command, its first word: the others may be secret.
    /// - Throws: why the user gets no session.
    public func session(command: String? = nil) throws -> File? {
        let connection = csystem_connect_unix(socket, 0)
        guard connection >= 0 else { return nil }
        let file = File(descriptor: connection, path: socket)
        let request = JSON.object(["do": "session", "command": command.map { .text(String($0.prefix(32))) }])
        let line = Array((request.line + "\n").utf8)
        guard send(connection, line, line.count, Int32(MSG_NOSIGNAL)) == line.count else { return nil }
        // The engine looks at the process: it must not be gone by then.
        var polled = pollfd(fd: connection, events: Int16(POLLIN), revents: 0)
        guard poll(&polled, 1, Self.patienceOfLogins) > 0 else { return nil }
        var answer = [UInt8](repeating: 0, count: 4096)
        let count = recv(connection, &answer, answer.count, Int32(MSG_DONTWAIT))
        if count > 0, let error = try? JSON.parse(Array(answer[..<count]))["error"]?.text { throw EngineError(error) }
        return file
    }

    /// - Throws: why the engine would refuse a request of the caller.
    public func demand(_ request: String) throws {
        if let error = try ask(["do": "may", "request": .text(request)])["error"]?.text { throw EngineError(error) }
    }

    /// In milliseconds.
    private static let patienceOfLogins: Int32 = 10_000

    /// Sends a request that is answered by many lines.
    ///
    /// - Parameter take: is given each line; false for no more.
    public func ask(_ request: JSON, _ take: (JSON) throws -> Bool) throws {
        let connection = csystem_connect_unix(socket, 0)
        guard connection >= 0 else {
            throw EngineError("the engine doesn't answer on \(socket): \(String(cString: strerror(errno)))")
        }
        let file = File(descriptor: connection, path: socket)
        let bytes = Array((request.line + "\n").utf8)
        var done = 0
        while done < bytes.count {
            let count = send(file.descriptor, Array(bytes[done...]), bytes.count - done, Int32(MSG_NOSIGNAL))
            if count < 0, errno == EINTR { continue }
            // The engine may have refused a long request already: its answer says why.
            if count < 0, errno == EPIPE || errno == ECONNRESET { break }
            guard count > 0 else { throw SystemError("send", socket) }
            done += count
        }
        var received: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = recv(file.descriptor, &buffer, buffer.count, 0)
            if count < 0, errno == EINTR { continue }
            if count <= 0 { break }
            received += buffer[..<count]
            // Searched in what is new only: an answer may have megabytes.
            guard buffer[..<count].contains(UInt8(ascii: "\n")) else { continue }
            var lines = received.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
            received = Array(lines.removeLast())
            for line in lines where try !take(JSON.parse(line)) { return }
        }
        if !received.isEmpty { throw EngineError("the engine's answer has no end") }
    }
}
