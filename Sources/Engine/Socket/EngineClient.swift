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
