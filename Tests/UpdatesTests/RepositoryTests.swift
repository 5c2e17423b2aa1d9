import Documents
import Files
import Glibc
import Processes
@testable import Releases
import TestSupport
import Testing
import Transfers
@testable import Updates

/// Reads from several servers, through proxies and at limited rates, from servers of this machine.
@Suite(.serialized) final class RepositoryTests {
    private let folder: String
    private let server: RunningProcess
    private let ports: [Int]

    /// Four servers with `file`: one is complete; one lacks it; one fails as often as its path says
    /// before it answers; one speaks TLS. The first counts connections, and is a proxy for others.
    private static let script = """
        import http.server, socketserver, ssl, sys, threading
        body = bytes(i * 7 % 251 for i in range(400000))
        class Whole(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            connections = 0
            failures = {}
            def setup(self):
                super().setup(); type(self).connections += 1
            def log_message(self, *a): pass
            def answer(self, status, data):
                self.send_response(status); self.send_header("Content-Length", str(len(data))); self.end_headers(); self.wfile.write(data)
            def do_GET(self):
                if self.path.endswith("/connections"): return self.answer(200, str(type(self).connections).encode())
                if self.path.startswith("http://"): return self.answer(200, b"by proxy: " + self.path.encode())
                data = body
                if "Range" in self.headers:
                    a, b = self.headers["Range"][6:].split("-"); data = body[int(a):int(b) + 1]
                self.answer(206 if "Range" in self.headers else 200, data)
        class Lacks(Whole):
            def do_GET(self): self.answer(403 if self.path.startswith("/403") else 404, b"")
        class Fails(Whole):
            def do_GET(self):
                key = self.path.split("/")[1]
                left = self.failures.setdefault(key, int(key.split("-")[0])) - 1
                self.failures[key] = left
                if left >= 0: return self.answer(503, b"")
                super().do_GET()
        ports = []
        class Secure(Whole):
            def do_GET(self):
                if not self.path.startswith("/down"): return super().do_GET()
                self.send_response(302); self.send_header("Location", f"http://127.0.0.1:{ports[0]}/file")
                self.send_header("Content-Length", "0"); self.end_headers()
        class Server(socketserver.ThreadingMixIn, http.server.HTTPServer): daemon_threads = True
        for handler in (Whole, Lacks, Fails, Secure):
            server = Server(("127.0.0.1", 0), handler)
            if handler is Secure:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); context.load_cert_chain(sys.argv[1] + "/server.pem", sys.argv[1] + "/server.key")
                server.socket = context.wrap_socket(server.socket, server_side=True)
            threading.Thread(target=server.serve_forever, daemon=True).start()
            ports.append(server.server_port)
            print(server.server_port, flush=True)
        threading.Event().wait()
        """
    private static let body = (0..<400_000).map { UInt8($0 * 7 % 251) }

    init() throws {
        folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-repository")
        for name in ["server", "other"] {
            try Command(
                "openssl",
                [
                    "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=\(name)", "-addext",
                    "subjectAltName=IP:127.0.0.1", "-keyout", "\(folder)/\(name).key", "-out", "\(folder)/\(name).pem",
                ]
            ).check()
        }
        let log = try File("\(folder)/ports", O_RDWR | O_CREAT)
        server = try Command("python3", ["-c", Self.script, folder]).start(output: log)
        var ports: [Int] = []
        _ = Wait.until(20) {
            ports = String(decoding: (try? log.readAll()) ?? [], as: UTF8.self).split(separator: "\n").compactMap {
                Int($0)
            }
            return ports.count == 4
        }
        self.ports = ports
        try #require(ports.count == 4)
    }

    deinit {
        server.kill()
        while server.poll() == nil { usleep(5000) }
        try? FileSystem.remove(folder)
    }

    private func address(_ number: Int, _ path: String = "", scheme: String = "http") -> String {
        "\(scheme)://127.0.0.1:\(ports[number])\(path)"
    }

    private var pauses: [Int] = []

    private func repository(_ addresses: [String], rounds: Int = 1, options: Reader.Options = .init()) -> Repository {
        Repository(addresses, options: options, rounds: rounds) { [unowned self] in pauses.append($0) }
    }

    private func failure(_ repository: Repository) -> DownloadFailure.Reason? {
        do {
            _ = try repository.read("file", most: 1 << 20)
            return nil
        } catch { return error.reason }
    }

    @Test func aMirrorIsAskedWhereTheFirstFails() throws {
        for first in [address(1), address(2, "/9-a"), "http://127.0.0.1:1"] {
            let found = repository([first, address(0)])
            let delta = HTTPDeltaSource(found, "file")
            for start in stride(from: 0, to: 300_000, by: 50_000) {
                #expect(try delta.read(start..<start + 20_000) == Array(Self.body[start..<start + 20_000]))
            }
            #expect(pauses.isEmpty)
        }
        // If one address could not be asked, it is unknown whether the file exists.
        #expect(failure(repository([address(1)])) == .gone)
        #expect(try HTTPSource(repository([address(1)])).read("file", most: 100) == nil)
        if case .transfer? = failure(repository([address(1), "http://127.0.0.1:1"])) {
        } else {
            Issue.record("not transfer")
        }
        if case .transfer? = failure(repository(["http://127.0.0.1:1", address(1)])) {
        } else {
            Issue.record("not transfer")
        }
    }

    /// A newer root rarely exists: the first address that denies it is believed, whether others can
    /// be asked or not.
    @Test func anUnlikelyFileIsRequestedOnce() throws {
        for addresses in [[address(1), "http://127.0.0.1:1"], ["http://127.0.0.1:1", address(1, "/403")]] {
            let source = HTTPSource(repository(addresses, rounds: 6))
            #expect(try source.read("none", most: 100, isLikely: false) == nil)
            #expect(pauses.isEmpty)
        }
        let source = HTTPSource(repository(["http://127.0.0.1:1"], rounds: 2))
        #expect(throws: UpdateFailure.self) { try source.read("none", most: 100, isLikely: false) }
        #expect(pauses.count == 1)
    }

    /// A folder is a repository like any other; if it does not exist, since its stick was removed,
    /// mirrors are asked.
    @Test func aFolderIsReadLikeAServer() throws {
        try FileSystem.makeDirectory("\(folder)/stick/a")
        try FileSystem.replace("\(folder)/stick/a/file", with: Self.body)
        let stick = repository(["file://\(folder)/stick"])
        let delta = HTTPDeltaSource(stick, "a/file")
        for start in stride(from: 0, to: 300_000, by: 50_000) {
            #expect(try delta.read(start..<start + 20_000) == Array(Self.body[start..<start + 20_000]))
        }
        #expect(throws: UpdateFailure.self) { try delta.read(399_000..<401_000) }
        #expect(try HTTPSource(stick).read("a/none", most: 100) == nil)
        #expect(throws: (any Error).self) { try HTTPSource(stick).read("a/file", most: 100) }
        // A stick without a newer root denies it; without a stick and with an unreachable server it
        // is unknown.
        #expect(
            try HTTPSource(repository(["http://127.0.0.1:1", "file://\(folder)/stick"])).read("a/none", most: 100)
                == nil)
        #expect(throws: UpdateFailure.self) {
            try HTTPSource(repository(["http://127.0.0.1:1", "file://\(folder)/pulled"])).read("a/none", most: 100)
        }
        let pulled = repository(["file://\(folder)/pulled", address(0)])
        #expect(try pulled.read("file", most: 1 << 20) == Self.body)
    }

    @Test func pausesGrowAndDiffer() throws {
        #expect(try repository([address(2, "/3-b")], rounds: 6).read("file", most: 1 << 20) == Self.body)
        #expect(pauses.count == 3)
        for (pause, usual) in zip(pauses, [1000, 2000, 4000]) { #expect((usual / 2...usual * 3 / 2).contains(pause)) }
        pauses = []
        for _ in 0..<10 { #expect(failure(repository([address(2, "/99-c")], rounds: 2)) != nil) }
        #expect(Set(pauses).count > 5, "\(pauses)")
        pauses = []
        #expect(failure(repository([address(2, "/99-d")], rounds: 12)) != nil)
        #expect(pauses.count == 11 && pauses.max() ?? 0 <= 90_000)
    }

    /// Hundreds of ranges need one connection.
    @Test func oneConnectionServesManyPieces() throws {
        let found = repository([address(0)])
        func connections() throws -> Int? {
            Int(String(decoding: try found.read("connections", most: 100), as: UTF8.self))
        }
        let before = try connections()
        for start in 0..<100 { _ = try found.read("file", most: 100, range: start * 100..<start * 100 + 100) }
        #expect(try before == 1 && connections() == 1)
    }

    @Test func proxiesAndLimitsApply() throws {
        let proxied = repository(
            ["http://updates.invalid/branch"], options: .init(proxy: "http://127.0.0.1:\(ports[0])"))
        #expect(
            String(decoding: try proxied.read("file", most: 1000), as: UTF8.self)
                == "by proxy: http://updates.invalid/branch/file")
        // Five times 40 kB at 100 kB a second; after the last one there is no wait.
        var (begin, end) = (timespec(), timespec())
        clock_gettime(CLOCK_MONOTONIC, &begin)
        let slow = repository([address(0)], options: .init(bytesPerSecond: 100_000))
        for _ in 0..<5 {
            #expect(try slow.read("file", most: 40_000, range: 0..<40_000) == Array(Self.body[..<40_000]))
        }
        clock_gettime(CLOCK_MONOTONIC, &end)
        #expect(Double(end.tv_sec - begin.tv_sec) + Double(end.tv_nsec - begin.tv_nsec) / 1e9 > 1.5)
    }

    @Test func serversAreVerifiedByTheProvidersCertificates() throws {
        let secure = address(3, scheme: "https")
        #expect(
            try repository([secure], options: .init(trustAnchors: "\(folder)/server.pem")).read("file", most: 1 << 20)
                == Self.body)
        #expect(failure(repository([secure], options: .init(trustAnchors: "\(folder)/other.pem"))) != nil)
        #expect(failure(repository([secure])) != nil)
        // A redirect does not lead from TLS to plain text.
        let down = repository([secure + "/down"], options: .init(trustAnchors: "\(folder)/server.pem"))
        #expect(failure(down) == .transfer("Unsupported protocol"))
    }

    /// The client's limits hold for a length that an online key has signed, too.
    @Test func aSignedLengthIsBounded() throws {
        let key = try SigningKey.make()
        let one = ReleaseRepository.Keys([key.publicKey], threshold: 1)
        let session = SigningSession.unattended(KeyFolder([key]))
        let roles = Dictionary(uniqueKeysWithValues: TrustedMetadata.topLevel.map { ($0, one) })
        let now = time(nil)
        _ = try ReleaseRepository.make(
            "\(folder)/updates", roles: roles, channel: "stable", channelKeys: one, signing: session, now: now)
        let path = "\(folder)/updates/metadata/timestamp.json"
        var timestamp = try SignedDocument("timestamp", file: path)
        var meta = timestamp.signed["meta"]?["snapshot.json"]?.object ?? [:]
        for (field, value, reason) in [
            ("length", 1 << 50, UpdateFailure.Reason.tooLong), ("version", Int.max, .unavailable),
        ] as [(String, Int, UpdateFailure.Reason)] {
            let before = meta
            meta[field] = .integer(value)
            timestamp.signed["meta"] = ["snapshot.json": .object(meta)]
            timestamp.renew(version: timestamp.version + 1, expires: UTC.text(of: now + 86_400))
            _ = try timestamp.sign([key.identifier], KeyFolder([key]))
            try FileSystem.replace(path, with: timestamp.bytes)
            meta = before
            let trusted = "\(folder)/\(field)"
            try UpdateClient.initialize(
                trusted, root: try FileSystem.read("\(folder)/updates/metadata/1.root.json"))
            var client = try UpdateClient(
                folder: trusted, source: HTTPSource(repository(["file://\(folder)/updates/metadata"])), now: now)
            do throws(UpdateFailure) {
                try client.refresh()
                Issue.record("\(field) was accepted")
            } catch { #expect(error.reason == reason) }
        }
        // The version of the metadata itself: the next one would overflow.
        timestamp.renew(version: .max, expires: UTC.text(of: now + 86_400))
        _ = try timestamp.sign([key.identifier], KeyFolder([key]))
        #expect(throws: UpdateFailure.self) {
            _ = try Metadata(timestamp.bytes, name: "timestamp", type: "timestamp")
        }
    }
}
