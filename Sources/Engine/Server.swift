import CSystem
import Documents
import Files
import Glibc
import PluginKit

/// Who asks the engine, by the socket's own word.
struct Caller {
    let user: uid_t
    /// Nil for one who may ask nothing.
    let role: Role?

    init(connection: Int32) {
        user = csystem_peer(connection)
        if user == 0 || user == geteuid() {
            role = .administrator
        } else {
            // As he logged in, and as the box knows him now: whoever was taken away, or may less since, has no more than that.
            let now = Self.groups(of: user)
            role =
                Role.allCases.filter {
                    csystem_peer_in_group(connection, UInt32($0.group.number)) == 1
                        && now.contains(gid_t($0.group.number))
                }.max()
        }
    }
}

extension Caller {
    /// Those that the name service knows of.
    private static func groups(of user: uid_t) -> Set<gid_t> {
        guard let entry = getpwuid(user)?.pointee else { return [] }
        var groups = [gid_t](repeating: 0, count: 256)
        var count = Int32(groups.count)
        let name = String(cString: entry.pw_name)
        guard getgrouplist(name, entry.pw_gid, &groups, &count) >= 0 else { return [entry.pw_gid] }
        return Set(groups.prefix(Int(count)))
    }
}

/// The engine's local socket: a connection, a line of JSON, a line back.
final class Server {
    let descriptor: Int32

    /// Milliseconds that a request may take to arrive, and an answer to be taken: one slow caller must not stop the engine.
    private static let patience = 2000

    init(path: String) throws {
        descriptor = csystem_listen_unix(path, 0)
        guard descriptor >= 0 else { throw SystemError("bind", path) }
        // Whoever may do more may look as well: all that have a role belong to this group.
        guard chown(path, uid_t.max, gid_t(Role.readOnly.group.number)) == 0, chmod(path, 0o660) == 0 else {
            throw SystemError("chown", path)
        }
    }

    deinit { close(descriptor) }

    /// Takes one connection and answers it.
    func serve(_ answer: (JSON, Caller) -> JSON) {
        let connection = accept(descriptor, nil, nil)
        guard connection >= 0 else {
            // Without a descriptor left, the caller waits with us.
            if errno == EMFILE || errno == ENFILE { usleep(50_000) }
            return
        }
        defer { close(connection) }
        _ = fcntl(connection, F_SETFD, FD_CLOEXEC)
        // Whoever has the box restart is answered before PID 1 ends the engine for it.
        var (ends, before) = (sigset_t(), sigset_t())
        sigemptyset(&ends)
        sigaddset(&ends, SIGTERM)
        pthread_sigmask(SIG_BLOCK, &ends, &before)
        defer { pthread_sigmask(SIG_SETMASK, &before, nil) }
        guard let request = read(connection) else { return }
        let reply: JSON
        do {
            reply = answer(try JSON.parse(request), Caller(connection: connection))
        } catch {
            reply = ["error": .text("the request is no JSON: \(error)")]
        }
        let bytes = Array((reply.line + "\n").utf8)
        var done = 0
        let end = Uptime.milliseconds + Self.patience
        while done < bytes.count {
            var polled = pollfd(fd: connection, events: Int16(POLLOUT), revents: 0)
            guard poll(&polled, 1, Int32(max(0, end - Uptime.milliseconds))) > 0 else { return }
            let count = send(connection, Array(bytes[done...]), bytes.count - done, Int32(MSG_NOSIGNAL | MSG_DONTWAIT))
            if count < 0, errno == EINTR || errno == EAGAIN { continue }
            if count <= 0 { return }
            done += count
        }
    }

    private func read(_ connection: Int32) -> [UInt8]? {
        var request: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        let end = Uptime.milliseconds + Self.patience
        while request.last != UInt8(ascii: "\n") {
            var polled = pollfd(fd: connection, events: Int16(POLLIN), revents: 0)
            guard poll(&polled, 1, Int32(max(0, end - Uptime.milliseconds))) > 0 else { return nil }
            let count = recv(connection, &buffer, buffer.count, 0)
            if count < 0, errno == EINTR { continue }
            if count <= 0 { return request.isEmpty ? nil : request }
            request += buffer[..<count]
            if request.count > EngineClient.largestRequest { return nil }
        }
        return request
    }
}

/// Asks the engine, from another program of the box.
public struct EngineClient {
    /// Bytes.
    public static let largestRequest = 64 << 20

    let socket: String

    public init(socket: String = Places().socket) { self.socket = socket }

    public func ask(_ request: JSON) throws -> JSON {
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
            guard count > 0 else { throw SystemError("send", socket) }
            done += count
        }
        var answer: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        while answer.last != UInt8(ascii: "\n") {
            let count = recv(file.descriptor, &buffer, buffer.count, 0)
            if count < 0, errno == EINTR { continue }
            if count <= 0 { break }
            answer += buffer[..<count]
        }
        guard !answer.isEmpty else { throw EngineError("the engine gave no answer") }
        return try JSON.parse(answer)
    }
}
