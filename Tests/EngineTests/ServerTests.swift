import CSystem
import Documents
@testable import Engine
import Files
import Glibc
import Testing

/// The sockets' state machines, without an engine.
@Suite struct ServerTests {
    private final class Client {
        let file: File

        init(_ path: String) throws {
            let descriptor = csystem_connect_unix(path, 0)
            guard descriptor >= 0 else { throw SystemError("connect", path) }
            file = File(descriptor: descriptor, path: path)
        }

        /// Sends without waiting; what the socket does not take is left out.
        func say(_ text: String) {
            let bytes = Array(text.utf8)
            _ = send(file.descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL | MSG_DONTWAIT))
        }

        /// What has arrived; nil at the end.
        func heard() -> String? {
            var buffer = [UInt8](repeating: 0, count: 1 << 16)
            let count = recv(file.descriptor, &buffer, buffer.count, Int32(MSG_DONTWAIT))
            if count == 0 || count < 0 && errno != EAGAIN { return nil }
            return String(decoding: buffer.prefix(max(0, count)), as: UTF8.self)
        }
    }

    private func withServer(_ bounds: Server.Bounds = .init(), _ body: (Server, String) throws -> Void) throws {
        let folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-socket")
        defer { try? FileSystem.remove(folder) }
        try body(try Server(path: "\(folder)/s", group: getgid(), bounds: bounds), "\(folder)/s")
    }

    /// The umask is the whole process's: a thread that listens must not change it for another, or
    /// for what that one starts.
    @Test func socketsThatAreMadeAtOnceAreTheOwnersAlone() async throws {
        let folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-socket")
        defer { try? FileSystem.remove(folder) }
        let old = umask(0o022)
        defer { umask(old) }
        let modes = await withTaskGroup(of: Set<mode_t>.self) { group in
            for thread in 0..<4 {
                group.addTask {
                    var modes: Set<mode_t> = []
                    for round in 0..<500 {
                        let path = "\(folder)/\(thread)-\(round)"
                        let listener = csystem_listen_unix(path, 0)
                        var status = stat()
                        modes.insert(listener >= 0 && lstat(path, &status) == 0 ? status.st_mode & 0o7777 : 0)
                        close(listener)
                    }
                    return modes
                }
            }
            return await group.reduce(into: Set()) { $0.formUnion($1) }
        }
        #expect(modes == [0o600])
        let left = umask(0o022)
        #expect(left == 0o022)
    }

    @Test func aRequestInPartsIsAnsweredOnce() throws {
        try withServer { server, path in
            let (client, other) = (try Client(path), try Client(path))
            client.say("{\"do\": ")
            server.step()
            #expect(server.next() == nil)
            other.say("{\"do\": \"other\"}\n")
            server.step()
            #expect(server.due == 0)
            let asked = try #require(server.next())
            #expect(asked.json["do"] == "other" && server.next() == nil)
            asked.connection.answer(["is": "answered"])
            #expect(other.heard() == "{\"is\":\"answered\"}\n")
            client.say("\"late\"}\n")
            server.step()
            let late = try #require(server.next())
            late.connection.answer([:])
            server.step()
            #expect(client.heard() == "{}\n" && client.heard() == nil)
            #expect(server.polled.count == 1)
        }
    }

    /// A client that ends its request by closing its writing side still gets the answer.
    @Test func aHalfClosedClientIsAnswered() throws {
        try withServer { server, path in
            let client = try Client(path)
            client.say("{\"do\": \"status\"}")
            shutdown(client.file.descriptor, Int32(SHUT_WR))
            server.step()
            // The end is seen with the next step, behind the bytes.
            server.step()
            let asked = try #require(server.next())
            server.step()
            #expect(asked.connection.isOpen)
            asked.connection.answer([:])
            #expect(client.heard() == "{}\n")
        }
    }

    @Test func whatIsNoRequestIsRefused() throws {
        var bounds = Server.Bounds()
        bounds.request = { _ in 100_000 }
        try withServer(bounds) { server, path in
            let (garbage, many, long) = (try Client(path), try Client(path), try Client(path))
            garbage.say("what?\n")
            many.say("[" + String(repeating: "1,", count: 20_000) + "1]\n")
            server.step()
            #expect(server.next() != nil && server.next() == nil)
            #expect(garbage.heard()?.contains("no JSON") == true)
            for _ in 0..<4 {
                long.say(String(repeating: "x", count: 40_000))
                server.step()
            }
            #expect(long.heard()?.contains("100000 bytes") == true)
        }
    }

    @Test func aRequestOfTooManyValuesIsRefused() throws {
        try withServer { server, path in
            let client = try Client(path)
            // Each costs more memory than its two bytes.
            let text = "[" + String(repeating: "1,", count: 200_000) + "1]\n"
            for part in stride(from: 0, to: text.utf8.count, by: 50_000) {
                client.say(
                    String(decoding: Array(text.utf8)[part..<min(part + 50_000, text.utf8.count)], as: UTF8.self))
                server.step()
            }
            #expect(server.next() == nil)
            #expect(client.heard()?.contains("too many values") == true)
        }
    }

    @Test func silentConnectionsMakeRoom() throws {
        var bounds = Server.Bounds()
        bounds.ofUser = 8
        try withServer(bounds) { server, path in
            let waiting = try Client(path)
            waiting.say("{\"do\": \"wait\"}\n")
            server.step()
            let asked = try #require(server.next())
            var silent: [Client] = []
            for _ in 0..<20 {
                silent.append(try Client(path))
                server.step()
            }
            #expect(server.polled.count <= 9)
            // The first of the silent ones are closed, and the one that waits for its answer is not.
            #expect(silent.first?.heard() == nil && silent.last?.heard() == "")
            asked.connection.answer([:])
            #expect(waiting.heard() == "{}\n")
        }
    }

    @Test func whoSaysNothingIsClosed() throws {
        var bounds = Server.Bounds()
        bounds.patience = 20
        try withServer(bounds) { server, path in
            let client = try Client(path)
            server.step()
            #expect(server.due ?? 0 > 0 && client.heard() == "")
            usleep(30_000)
            server.step()
            #expect(client.heard() == nil && server.due == nil)
        }
    }
}
