import Digests
import Files
import Glibc
import Processes
import Testing
import Transfers

@Suite final class TransfersTests {
    let folder: String

    init() throws { folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-transfers") }

    deinit { try? FileSystem.remove(folder) }

    func source(_ name: String, _ count: Int) throws -> (download: Download, bytes: [UInt8]) {
        let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ count) }
        try FileSystem.replace("\(folder)/\(name)", with: bytes)
        return (
            Download(
                url: "file://\(folder)/\(name)", path: "\(folder)/\(name).got", size: count, digest: SHA256.hash(bytes)),
            bytes
        )
    }

    @Test func manyFilesArriveWhole() throws {
        let sources = try (1...30).map { try source("f\($0)", $0 * 10_000) }
        var last: DownloadProgress?
        #expect(try Transfers.fetch(sources.map(\.download)) { last = $0 }.isEmpty)
        for (download, bytes) in sources { #expect(try FileSystem.read(download.path) == bytes) }
        #expect(last?.finishedFiles == 30 && last?.bytes == last?.totalBytes)
        #expect(try FileSystem.list(folder).filter { $0.hasSuffix(".part") } == [])
    }

    @Test func aKilledRunIsResumed() throws {
        let (download, bytes) = try source("big", 500_000)
        try FileSystem.replace(download.path + ".part", with: Array(bytes[..<200_000]))
        // Only the rest may be fetched: the source has lost its beginning.
        try File("\(folder)/big", O_RDWR).write([UInt8](repeating: 0, count: 200_000), at: 0)
        #expect(try Transfers.fetch([download]).isEmpty)
        #expect(try FileSystem.read(download.path) == bytes)
    }

    @Test func aWrongPartIsFetchedAnewOnce() throws {
        let (download, bytes) = try source("big", 500_000)
        try FileSystem.replace(download.path + ".part", with: [UInt8](repeating: 9, count: 200_000))
        #expect(try Transfers.fetch([download]).isEmpty)
        #expect(try FileSystem.read(download.path) == bytes)
    }

    @Test func wrongBytesNeverGetTheFilesName() throws {
        let (download, _) = try source("f", 1000)
        try File("\(folder)/f", O_RDWR).write([0xFF], at: 500)
        let failures = try Transfers.fetch([download])
        #expect(failures.first?.description.contains("SHA-256 is") == true)
        #expect(!FileSystem.exists(download.path) && !FileSystem.exists(download.path + ".part"))
    }

    @Test(arguments: [0, 999, 1001, 500_000])
    func anotherSizeThanPromisedIsAnError(size: Int) throws {
        let (download, _) = try source("f", 1000)
        try File("\(folder)/f", O_RDWR).resize(to: size)
        #expect(try Transfers.fetch([download]).count == 1)
        #expect(!FileSystem.exists(download.path))
    }

    @Test func missingFilesAreToldFromFailures() throws {
        let failures = try Transfers.fetch([
            Download(url: "file://\(folder)/nothing", path: "\(folder)/a"),
            Download(url: "http://127.0.0.1:1/x", path: "\(folder)/b"),
            Download(url: "file://\(folder)/x", path: "\(folder)/no/such/folder/c"),
        ])
        #expect(failures.map(\.url.last) == ["g", "x", "x"])
        #expect(failures.first?.reason == .gone)
        if case .transfer = failures[1].reason {} else { Issue.record("\(failures[1])") }
        if case .local(let text)? = failures.last?.reason { #expect(text.contains("ENOENT")) }
    }

    /// A stick may hold anything: what is not a plain file is not opened.
    @Test func aLocalFIFOIsNotWaitedFor() throws {
        let reader = Reader()
        _ = try source("a+b c", 1000)
        #expect(try reader.read("file://\(folder)/a%2Bb%20c", most: 1000).count == 1000)
        try #require(mkfifo("\(folder)/fifo", 0o644) == 0)
        // A reader of the FIFO would wait for this writer.
        let writer = try Command("sh", ["-c", "while sleep 5; do : >\(folder)/fifo; done"]).start(
            output: File("/dev/null", O_WRONLY))
        defer { writer.kill() }
        for name in ["fifo", "%66ifo", "nothing"] {
            do throws(DownloadFailure) {
                _ = try reader.read("file://\(folder)/\(name)", most: 1000)
                Issue.record("\(name) was read")
            } catch { #expect(error.reason == .gone, "\(error)") }
        }
    }

    /// A server on loopback with one file, `big`: with ranges or without, and two names that fail
    /// twice before it answers.
    func serve(_ body: (String) throws -> Void) throws {
        let script = """
            import http.server, os, sys, time
            class Handler(http.server.BaseHTTPRequestHandler):
                falls = {"/flaky": [503, 503], "/busy": [429, 408]}
                def log_message(self, *_): pass
                def do_GET(self):
                    data = open("big", "rb").read()
                    if self.path == "/gone": return self.send_error(410)
                    if self.path.startswith("/to/"):
                        self.send_response(302); self.send_header("Location", self.path[4:].replace("PORT", str(self.server.server_port)))
                        self.end_headers(); return
                    if self.path == "/trickle":
                        self.send_response(200); self.send_header("Content-Length", "1000000"); self.end_headers()
                        try:
                            while True: self.wfile.write(bytes(400)); self.wfile.flush(); time.sleep(0.2)
                        except OSError: return
                    if self.path == "/forbidden": return self.send_error(403)
                    if Handler.falls.get(self.path): return self.send_error(Handler.falls[self.path].pop())
                    part = self.headers.get("Range")
                    start = int(part.split("=")[1].split("-")[0]) if part and self.path != "/whole" else 0
                    if start >= len(data) and part: return self.send_error(416)
                    self.send_response(206 if start else 200)
                    if start: self.send_header("Content-Range", f"bytes {start}-{len(data)-1}/{len(data)}")
                    self.send_header("Content-Length", str(len(data) - start))
                    self.end_headers()
                    open("log", "a").write(f"{self.path} {start}\\n")
                    self.wfile.write(data[start:])
            server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
            open("port.new", "w").write(str(server.server_port)); os.rename("port.new", "port")
            server.serve_forever()
            """
        try FileSystem.replace("\(folder)/server.py", with: script)
        let server = try Command("sh", ["-c", "cd \(folder) && exec python3 server.py"]).start(
            output: File("\(folder)/server.log", O_RDWR | O_CREAT))
        defer { server.kill() }
        for _ in 0..<200 where !FileSystem.exists("\(folder)/port") { usleep(50_000) }
        let port = String(decoding: try FileSystem.read("\(folder)/port"), as: UTF8.self)
        try body("http://127.0.0.1:\(port)")
    }

    @Test func overHTTPAPartIsResumedAndTransientFaultsAreRetried() throws {
        let (download, bytes) = try source("big", 500_000)
        try serve { (server: String) throws in
            func fetch(_ path: String, part: Int = 0) throws -> DownloadFailure? {
                var wanted = download
                wanted.url = server + path
                wanted.path = "\(folder)/got"
                try FileSystem.remove(wanted.path)
                if part > 0 { try FileSystem.replace(wanted.path + ".part", with: Array(bytes[..<part])) }
                let failure = try Transfers.fetch([wanted]).first
                if failure == nil { #expect(try FileSystem.read(wanted.path) == bytes) }
                return failure
            }
            #expect(try fetch("/plain") == nil)
            #expect(try fetch("/resumed", part: 200_000) == nil)
            #expect(try fetch("/whole", part: 200_000) == nil)
            #expect(try fetch("/flaky") == nil)
            #expect(try fetch("/busy") == nil)
            #expect(try fetch("/gone")?.reason == .gone)
            #expect(try fetch("/forbidden")?.reason == .refused(403))
            let log = String(decoding: try FileSystem.read("\(folder)/log"), as: UTF8.self)
            #expect(log.contains("/plain 0\n/resumed 200000\n"), "\(log)")
            #expect(log.hasSuffix("/whole 0\n/flaky 0\n/busy 0\n"), "\(log)")
        }
    }

    /// A redirect leads to another web server only: to no file, no other protocol, and not round
    /// and round.
    @Test func redirectsLeadToWebServersOnly() throws {
        let (_, bytes) = try source("big", 500_000)
        try serve { (server: String) throws in
            let reader = Reader()
            func failure(_ target: String) -> DownloadFailure.Reason? {
                do throws(DownloadFailure) {
                    _ = try reader.read("\(server)/to/\(target)", most: 1 << 20)
                    return nil
                } catch { return error.reason }
            }
            #expect(try reader.read("\(server)/to/\(server)/plain", most: 1 << 20) == bytes)
            #expect(failure("file://\(folder)/big") != nil)
            #expect(failure("ftp://127.0.0.1:1/big") == .transfer("Unsupported protocol"))
            let five = String(repeating: "/to/", count: 5) + "\(server)/plain"
            #expect(try reader.read("\(server)\(five)", most: 1 << 20) == bytes)
            #expect(failure(String(repeating: "/to/", count: 6) + "\(server)/plain") != nil)
        }
    }

    /// A redirect to another server gets the options of that server, and a part is resumed there.
    @Test func aDownloadFollowsRedirects() throws {
        let (download, bytes) = try source("big", 500_000)
        try serve { (server: String) throws in
            func fetch(_ path: String, part: Int = 0) throws -> (failure: DownloadFailure?, asked: [String]) {
                var (wanted, asked): (Download, [String]) = (download, [])
                wanted.url = server + path
                wanted.path = "\(folder)/got"
                try FileSystem.remove(wanted.path)
                if part > 0 { try FileSystem.replace(wanted.path + ".part", with: Array(bytes[..<part])) }
                let failure = try Transfers.fetch(
                    [wanted], triesOfEach: 1,
                    server: { url in
                        asked.append(url)
                        return ServerOptions()
                    }
                ).first
                if failure == nil { #expect(try FileSystem.read(wanted.path) == bytes) }
                try FileSystem.remove(wanted.path + ".part")
                return (failure, asked)
            }
            let once = try fetch("/to/\(server)/plain", part: 200_000)
            #expect(once.failure == nil && once.asked == ["\(server)/to/\(server)/plain", "\(server)/plain"])
            #expect(String(decoding: try FileSystem.read("\(folder)/log"), as: UTF8.self) == "/plain 200000\n")
            #expect(try fetch(String(repeating: "/to/", count: 5) + "\(server)/plain").failure == nil)
            for path in [String(repeating: "/to/", count: 6) + "\(server)/plain", "/to/file://\(folder)/big"] {
                #expect(try fetch(path).failure?.reason == .refused(302), "\(path)")
            }
        }
    }

    @Test func aFailureShowsNoPassword() {
        let failure = DownloadFailure(url: "https://ann:secret@mirror.test:1/x@y", reason: .gone)
        #expect(failure.description == "https://mirror.test:1/x@y: the server no longer has it")
        #expect(URLUser.login(in: "https://a%40b:c:d%25@mirror.test/") == .init(user: "a@b", password: "c:d%"))
        #expect(URLUser.login(in: "https://mirror.test/x@y") == nil)
        let login = ServerOptions.Login(user: "ann", password: "secret")
        var text = "\(login) \(String(reflecting: login)) "
        dump(login, to: &text)
        #expect(!text.contains("secret"))
    }

    /// A server that sends 2 kB a second has not stalled, and may not hold up a small file for
    /// ever.
    @Test func aTrickleEndsAtTheDeadline() throws {
        _ = try source("big", 1000)
        try serve { (server: String) throws in
            let begin = time(nil)
            do throws(DownloadFailure) {
                _ = try Reader().read("\(server)/trickle", most: 1_000_000, deadline: 3)
                Issue.record("it came to an end")
            } catch { #expect(error.isTransient) }
            #expect((2...8).contains(time(nil) - begin))
        }
    }

    @Test func aFullDiskIsReported() throws {
        let (download, _) = try source("big", 3_000_000)
        let disk = "\(folder)/disk"
        try FileSystem.makeDirectory(disk)
        try Command("mount", ["-t", "tmpfs", "-o", "size=1m", "tmpfs", disk]).check()
        defer { _ = try? Command("umount", [disk]).run() }
        var full = download
        full.path = "\(disk)/big"
        let failures = try Transfers.fetch([full])
        #expect(failures.first?.description.contains("No space left on device (ENOSPC)") == true)
        #expect(!FileSystem.exists(full.path))
    }
}
