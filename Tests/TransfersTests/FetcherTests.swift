import CSystem
import Files
import Glibc
import Processes
import Testing
@testable import Transfers

/// Reading by another process: the same as by this one, and never more than was asked for.
@Suite final class FetcherTests {
    private let folder: String
    private var server: RunningProcess?
    private var port = 0

    init() throws { folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-fetcher") }

    deinit {
        server?.kill()
        while server?.poll() == nil, server != nil { usleep(1000) }
        try? FileSystem.remove(folder)
    }

    /// A server with ranges, in python.
    private func serve(_ files: [String: [UInt8]]) throws {
        for (name, bytes) in files { try FileSystem.replace("\(folder)/\(name)", with: bytes) }
        let program = """
            import http.server, os, re
            class Handler(http.server.SimpleHTTPRequestHandler):
                def do_GET(self):
                    try: data = open("\(folder)" + self.path, "rb").read()
                    except OSError: return self.send_error(404)
                    found = re.match(r"bytes=(\\d+)-(\\d+)", self.headers.get("Range", ""))
                    if self.path == "/denied": return self.send_error(403)
                    if found:
                        a, b = int(found[1]), int(found[2])
                        if a >= len(data): return self.send_error(416)
                        self.send_response(206); data = data[a:b + 1]
                    else: self.send_response(200)
                    self.send_header("Content-Length", str(len(data))); self.end_headers(); self.wfile.write(data)
                def log_message(self, *arguments): pass
            s = http.server.HTTPServer(("127.0.0.1", 0), Handler)
            open("\(folder)/port.new", "w").write(str(s.server_port)); os.rename("\(folder)/port.new", "\(folder)/port")
            s.serve_forever()
            """
        server = try Command("/usr/bin/python3", ["-c", program]).start(output: File("/dev/null", O_WRONLY))
        for _ in 0..<500 where !FileSystem.exists("\(folder)/port") { usleep(10_000) }
        port = Int(String(decoding: try FileSystem.read("\(folder)/port"), as: UTF8.self)) ?? 0
    }

    /// A listening socket, each of whose connections a thread serves.
    private func listen(_ serve: @escaping @Sendable (Int32) -> Void) throws -> String {
        let path = "\(folder)/socket\(Int.random(in: 0..<1 << 30))"
        let listener = csystem_listen_unix(path, 0)
        try #require(listener >= 0)
        let work = Unmanaged.passRetained(
            Work {
                while true {
                    var polled = pollfd(fd: listener, events: Int16(POLLIN), revents: 0)
                    _ = poll(&polled, 1, -1)
                    let connection = accept(listener, nil, nil)
                    guard connection >= 0 else { continue }
                    serve(connection)
                    close(connection)
                }
            })
        var thread = pthread_t()
        pthread_create(
            &thread, nil,
            { context in
                if let context { Unmanaged<Work>.fromOpaque(context).takeRetainedValue().body() }
                return nil
            }, work.toOpaque())
        pthread_detach(thread)
        return path
    }

    private final class Work: Sendable {
        let body: @Sendable () -> Void
        init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    }

    private func reason(_ body: () throws -> [UInt8]) -> DownloadFailure.Reason? {
        do {
            _ = try body()
            return nil
        } catch { return (error as? DownloadFailure)?.reason }
    }

    @Test func itReadsAsThisProcessDoes() throws {
        let bytes = (0..<300_000).map { UInt8(truncatingIfNeeded: $0 &* 31 >> 2) }
        try serve(["file": bytes, "denied": [1], "empty": []])
        let options = Reader.Options(proxy: "", stallTime: 20)
        let remote = RemoteReader(options, socket: try listen { Fetcher.serve($0) })
        let local = Reader(options)
        let base = "http://127.0.0.1:\(port)"
        for (name, most, range) in [
            ("file", 300_000, nil), ("empty", 10, nil), ("file", 300_000, 0..<1), ("file", 300_000, 299_990..<300_000),
            ("file", 300_000, 5000..<200_000),
        ] as [(String, Int, Range<Int>?)] {
            let read = try remote.read("\(base)/\(name)", most: most, range: range)
            let wanted = try local.read("\(base)/\(name)", most: most, range: range)
            #expect(read == wanted)
            #expect(name == "empty" || read == Array(bytes[range ?? 0..<300_000]))
        }
        for (name, most, range) in [
            ("none", 10, nil), ("denied", 10, nil), ("file", 299_999, nil), ("file", 400_000, 299_990..<300_010),
        ] as [(String, Int, Range<Int>?)] {
            let found = reason { try remote.read("\(base)/\(name)", most: most, range: range) }
            let wanted = reason { try local.read("\(base)/\(name)", most: most, range: range) }
            #expect(found != nil && found == wanted)
        }
        // Another process's files are none of a server's.
        #expect(reason { try remote.read("ftp://127.0.0.1/x", most: 10) } != nil)
        #expect(try remote.read("file://\(folder)/denied", most: 10) == [1])
    }

    /// One that was taken over: whatever it says is a failure, and soon.
    @Test(arguments: ["ok 11\n", "ok -1\n", "ok 3\nab", "what\n", "", "ok 99999999999999999999\n", "refused\n"])
    func aHostileFetcherIsAFailure(answer: String) throws {
        let bytes = Array(answer.utf8)
        let path = try listen { connection in
            var request = [UInt8](repeating: 0, count: 4096)
            _ = recv(connection, &request, 4096, 0)
            _ = send(connection, bytes, bytes.count, Int32(MSG_NOSIGNAL))
        }
        let remote = RemoteReader(Reader.Options(), socket: path)
        #expect(reason { try remote.read("http://127.0.0.1/x", most: 10) } != nil)
    }

    @Test func aRequestIsWhatItWas() throws {
        let requests = [
            FetchRequest(
                url: "https://a.example/x", most: 10, range: 3..<9, deadline: 5, options: .init(proxy: "http://p:1")),
            FetchRequest(url: "http://a/ b", most: 0, range: nil, deadline: nil, options: .init(bytesPerSecond: 7)),
        ]
        for request in requests {
            let lines = request.text.split(separator: "\n", omittingEmptySubsequences: true).map(String.init)
            #expect(FetchRequest(lines) == request)
        }
        #expect(FetchRequest(["url x", "most 99999999999"]) == nil && FetchRequest(["url x"]) == nil)
        #expect(FetchRequest(["url x", "most 1", "range 5 5"]) == nil && FetchRequest(["url x", "most -1"]) == nil)
    }
}
