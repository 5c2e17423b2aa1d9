import Files
import Glibc
import Processes
import Testing
import Transfers

@testable import ImageBuilder

/// Mirrors that demand a login or a client certificate: builds reach them as apt does.
@Suite final class HostAptTests {
    let folder: String

    init() throws { folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-mirror") }

    deinit { try? FileSystem.remove(folder) }

    /// The examples of apt_auth.conf(5), and the cases of apt's own tests.
    @Test(arguments: [
        ("example.org", true), ("https://example.org", true), ("example.org/deb", true), ("example.org/debian/", true),
        ("https://example.org/debian", true), ("example.org:443", false), ("example.org/deb/", false),
        ("example.org/ubuntu", false), ("example.orga", false), ("example.net", false), ("http://example.org", false),
    ])
    func machinesMatchAsInAPT(machine: String, isFound: Bool) {
        let entry = "machine \(machine) login apt password debian"
        for text in [entry, entry.replacing(" login", with: "\n\tlogin").replacing(" password", with: "\npassword")] {
            let logins = AptLogins(files: ["machine other.org login no password no\n", text])
            let secure = logins.login(for: "https://example.org/debian/dists")
            let plain = logins.login(for: "http://example.org/debian/dists")
            #expect(secure?.user == (isFound ? "apt" : nil), "\(machine)")
            #expect(plain?.user == (machine.hasPrefix("http:") ? "apt" : nil), "\(machine)")
        }
        let ports = AptLogins(files: ["machine example.org:81 login apt password debian"])
        #expect(ports.login(for: "https://example.org:81/debian")?.password == "debian")
        #expect(ports.login(for: "https://example.org:82/debian") == nil)
    }

    /// Two servers on loopback, 127.0.0.1:4443 and 127.0.0.2:4443, with a certificate of their own
    /// authority. The first demands a client certificate and a login, and redirects /away to the
    /// second, which writes down the logins that it gets.
    private static let server = """
        import base64, http.server, ssl, threading
        wanted = "Basic " + base64.b64encode(b"ann:secret").decode()
        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_): pass
            def finish(self):
                super().finish()
                # Debian 13's apt takes an end without close_notify (RFC 8446, 6.1) for a truncation.
                try: self.connection.unwrap()
                except OSError: pass
            def do_GET(self):
                name = self.server.server_address[0]
                login = self.headers.get("Authorization")
                with open("log", "a") as log: log.write("%s %s %s\\n" % (name, self.path, login))
                if name == "127.0.0.1" and login != wanted:
                    return self.send_error(401)
                if self.path == "/away":
                    self.send_response(302)
                    self.send_header("Location", "https://127.0.0.2:4443/file")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                self.send_response(200)
                self.send_header("Content-Length", "4")
                self.end_headers()
                self.wfile.write(b"file")
        for name in ["127.0.0.1", "127.0.0.2"]:
            server = http.server.ThreadingHTTPServer((name, 4443), Handler)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain("server.pem", "server.key")
            if name == "127.0.0.1":
                context.verify_mode = ssl.CERT_REQUIRED
                context.load_verify_locations("ca.pem")
            server.socket = context.wrap_socket(server.socket, server_side=True)
            threading.Thread(target=server.serve_forever).start()
        print("ready", flush=True)
        """

    private func serve(_ body: () throws -> Void) throws {
        try FileSystem.replace("\(folder)/server.py", with: Self.server)
        try FileSystem.replace("\(folder)/names", with: "subjectAltName=IP:127.0.0.1,IP:127.0.0.2\n")
        let script = """
            cd '\(folder)'
            openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=ca -keyout ca.key -out ca.pem
            for name in server client; do
                openssl req -newkey rsa:2048 -nodes -subj /CN=$name -keyout $name.key -out $name.csr
                openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \\
                    -extfile names -out $name.pem
            done
            chmod 755 .
            """
        try Command("sh", ["-ec", script]).check()
        let network = try NetworkNamespace()
        let output = try File("\(folder)/output", O_RDWR | O_CREAT)
        let path = getenv("PATH").map { String(cString: $0) } ?? "/usr/bin:/bin"
        let python = Command("sh", ["-c", "cd '\(folder)' && exec python3 server.py"], environment: ["PATH": path])
        let server = try network.run { try python.start(output: output) }
        defer { server.kill() }
        for _ in 0..<400 where try output.size() == 0 { usleep(25_000) }
        try network.run { try body() }
    }

    private var dump: String {
        """
        Acquire::https::127.0.0.1::SslCert "\(folder)/client.pem";
        Acquire::https::SslKey::127.0.0.1 "\(folder)/client.key";
        Acquire::https::CAInfo "\(folder)/ca.pem";
        """
    }

    private let logins = AptLogins(files: ["machine 127.0.0.1:4443 login ann password secret\n"])

    private func apt(_ dump: String, _ logins: AptLogins) -> HostApt {
        HostApt(dump: dump, logins: logins) { _ in nil }
    }

    private func fetch(_ path: String, _ apt: HostApt) throws -> DownloadFailure? {
        let file = "\(folder)/got"
        try FileSystem.remove(file)
        let failure = try apt.fetch([Download(url: "https://127.0.0.1:4443\(path)", path: file)]).first
        #expect(FileSystem.exists(file) == (failure == nil))
        return failure
    }

    @Test func aMirrorGetsTheLoginAndTheCertificateOfAPT() throws {
        try serve {
            #expect(try fetch("/file", apt(dump, logins)) == nil)
            #expect(try fetch("/file", apt(dump, AptLogins()))?.reason == .refused(401))
            for option in ["SslCert", "CAInfo"] {
                let without = dump.split(separator: "\n").filter { !$0.contains(option) }.joined(separator: "\n")
                let failure = try #require(try fetch("/file", apt(without, logins)))
                #expect(failure.isTransient && !failure.description.contains("secret"), "\(option): \(failure)")
            }
            // The second server has a login of its own, or none.
            try FileSystem.remove("\(folder)/log")
            #expect(try fetch("/away", apt(dump, logins)) == nil)
            var both = logins
            both.files.append("machine 127.0.0.2 login bob password other\n")
            #expect(try fetch("/away", apt(dump, both)) == nil)
            let log = String(decoding: try FileSystem.read("\(folder)/log"), as: UTF8.self)
            let second = log.split(separator: "\n").filter { $0.hasPrefix("127.0.0.2") }
            #expect(second == ["127.0.0.2 /file None", "127.0.0.2 /file Basic Ym9iOm90aGVy"])
        }
    }

    /// apt itself reads what the builder writes for it, and its process has no password.
    @Test func aptGetsTheSameConfiguration() throws {
        try serve {
            let place = "\(folder)/private"
            try FileSystem.makeDirectory(place)
            let text = try apt(dump, logins).configuration(in: place)
            #expect(!text.contains("secret"))
            var status = stat()
            #expect(stat("\(place)/auth.conf.d/1000.conf", &status) == 0 && status.st_mode & 0o777 == 0o600)
            let own = "APT::Sandbox::User \"\";\nDir::Etc::main \"/dev/null\";\nDir::Etc::parts \"/dev/null\";\n"
            try FileSystem.replace("\(place)/apt.conf", with: own + text + "\n")
            let helper = Command(
                "/usr/lib/apt/apt-helper", ["download-file", "https://127.0.0.1:4443/file", "\(folder)/byapt"],
                environment: ["APT_CONFIG": "\(place)/apt.conf"])
            let result = try helper.run()
            #expect(result.status == 0, "\(result.text)\(result.errorText)")
            #expect(try FileSystem.read("\(folder)/byapt") == Array("file".utf8))
        }
    }

    @Test func theHostsFilesAreReadAsAPTDoes() throws {
        let parts = "\(folder)/etc/auth.conf.d"
        try FileSystem.makeDirectory(parts)
        try FileSystem.replace("\(folder)/etc/auth.conf", with: "machine one.test login a password first\n")
        try FileSystem.replace("\(parts)/b.conf", with: "machine one.test login b password second\n")
        try FileSystem.replace("\(parts)/c.conf", with: "machine two.test login c password third\n")
        try FileSystem.replace("\(parts)/d", with: "machine three.test login d password fourth\n")
        try FileSystem.replace("\(folder)/apt.conf", with: "Dir::Etc \"\(folder)/etc\";\n")
        setenv("APT_CONFIG", "\(folder)/apt.conf", 1)
        defer { unsetenv("APT_CONFIG") }
        let logins = HostApt.ofHost().logins
        #expect(logins.login(for: "https://one.test/x")?.user == "a")
        #expect(logins.login(for: "https://two.test/x")?.user == "c")
        #expect(logins.login(for: "https://three.test/x") == nil)
    }

    /// Arguments are in /proc for all users, and definitions and locks in a repository.
    @Test func aURLWithAPasswordIsRefusedWithoutShowingIt() throws {
        let failure = thrown(BuildFailure.self) { try Mirrors.refuseLogin(in: "https://ann:secret@mirror.test/debian") }
        #expect(failure?.description.contains("https://mirror.test/debian") == true)
        #expect(failure?.description.contains("secret") == false)
        var text = ""
        Swift.dump(apt(dump, logins), to: &text)
        #expect(!text.contains("secret"))
        let script = "#!/bin/sh\necho \"$@\" > '\(folder)/asked'\n"
        try FileSystem.replace("\(folder)/detect", with: script, mode: 0o755)
        let detector = "Acquire::https::Proxy-Auto-Detect \"\(folder)/detect\";"
        _ = apt(detector, logins).proxies.proxy(for: "https://ann:secret@mirror.test/debian")
        let asked = String(decoding: try FileSystem.read("\(folder)/asked"), as: UTF8.self)
        #expect(asked == "https://mirror.test/debian\n")
    }
}
