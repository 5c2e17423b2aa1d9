import Files
import Glibc
import Processes
import TestSupport
import Testing
import Transfers

@testable import ImageBuilder

/// Where packages come from: the host's sources and proxies, and a snapshot archive.
@Suite final class SourcesTests {
    let folder: String

    init() throws { folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-sources") }

    deinit { try? FileSystem.remove(folder) }

    @Test func sourcesOfOneLineAreRead() {
        let text = """
            # deb http://comment/debian trixie main
            deb http://one/debian trixie main # deb http://no/debian
            deb [ arch=amd64 signed-by=/usr/share/keyrings/x.gpg ] https://two/debian trixie main
            deb [arch=amd64] http://three/debian trixie main
            deb-src http://source/debian trixie main
            \tdeb\thttp://four/debian\ttrixie main
            """
        #expect(
            AptSources.uris(lines: text) == [
                "http://one/debian", "https://two/debian", "http://three/debian", "http://four/debian",
            ])
    }

    @Test func sourcesOfParagraphsAreReadWithTheirContinuations() {
        let text = """
            # A comment
            Types: deb deb-src
            URIs: http://one/debian
             http://two/debian
            # in between
            \thttp://three/debian
            Suites: trixie

            types: deb
            uris:
             https://four/debian
            Enabled: yes

            Types: deb
            URIs: http://off/debian
            Enabled: no

            Enabled: false
            Types: deb
            URIs: http://off-too/debian
              
            Types: deb-src
            URIs: http://source/debian
            """
        #expect(
            AptSources.uris(deb822: text) == [
                "http://one/debian", "http://two/debian", "http://three/debian", "https://four/debian",
            ])
    }

    @Test func proxiesAreThoseOfAptAndOfTheEnvironment() throws {
        let apt = """
            APT "";
            Acquire::http::Proxy::direct.example "DIRECT";
            Acquire::http::Proxy::a.inside.example "http://not:1";
            Acquire::https::Proxy::own.example "http://own:1";
            """
        let http = "\(apt)\nAcquire::http::Proxy \"http://apt:3128\";"
        let environment = ["https_proxy": "http://environment:8080", "no_proxy": "localhost, .inside.example"]
        let proxies = Proxies(.init(dump: apt)) { environment[$0] }
        // The options of https default to those of http, before the environment's.
        let ofApt = Proxies(.init(dump: http)) { environment[$0] }
        #expect(ofApt.proxy(for: "http://mirror.example/debian/x") == "http://apt:3128")
        #expect(ofApt.proxy(for: "https://mirror.example/debian/x") == "http://apt:3128")
        let one = Proxies(.init(dump: "")) { ["http_proxy": "http://environment:1"][$0] }
        #expect(one.proxy(for: "https://mirror.example/debian/x") == "http://environment:1")
        #expect(proxies.proxy(for: "https://mirror.example/debian/x") == "http://environment:8080")
        #expect(proxies.proxy(for: "http://direct.example:80/debian") == "")
        #expect(proxies.proxy(for: "https://user@own.example/debian") == "http://own:1")
        #expect(proxies.proxy(for: "https://a.inside.example/debian") == "")
        #expect(proxies.proxy(for: "http://a.inside.example/debian") == "")
        #expect(proxies.proxy(for: "https://outside.example/debian") == "http://environment:8080")
        #expect(Proxies(.init(dump: "")) { _ in nil }.proxy(for: "http://mirror.example/") == nil)
        // A program that apt asks for each address.
        try FileSystem.replace(
            "\(folder)/detect", with: "#!/bin/sh\ncase $1 in *one*) echo http://detected:1;; *) echo DIRECT;; esac\n",
            mode: 0o755)
        let detected = Proxies(.init(dump: "Acquire::http::Proxy-Auto-Detect \"\(folder)/detect\";\n")) { _ in nil
        }
        #expect(detected.proxy(for: "http://one/debian") == "http://detected:1")
        #expect(detected.proxy(for: "http://two/debian") == "")
        // Not one of https, nor a kind of proxy that apt does not have.
        #expect(detected.proxy(for: "https://one/debian") == nil)
        try FileSystem.replace("\(folder)/detect", with: "#!/bin/sh\necho ftp://detected:1\n", mode: 0o755)
        #expect(detected.proxy(for: "http://one/debian") == nil)
    }

    /// apt starts the detector once for a scheme and a host, with the URL of the first file.
    @Test func aDetectorIsAskedOnceForEachHost() throws {
        let script = "#!/bin/sh\necho \"$@\" >> '\(folder)/asked'\necho http://127.0.0.1:1\n"
        try FileSystem.replace("\(folder)/detect", with: script, mode: 0o755)
        let apt = HostApt(
            dump: "Acquire::http::Proxy-Auto-Detect \"\(folder)/detect\";\n", logins: AptLogins()
        ) { _ in nil }
        let urls = ["http://one.test/x", "http://one.test/y", "http://one.test:81/z", "http://two.test/x"]
        let failures = try NetworkNamespace().run {
            try apt.fetch(urls.enumerated().map { Download(url: $1, path: "\(folder)/file\($0)") })
        }
        #expect(failures.count == urls.count)
        let asked = String(decoding: try FileSystem.read("\(folder)/asked"), as: UTF8.self)
        #expect(asked == "http://one.test/x\nhttp://two.test/x\n")
    }

    // MARK: - Pins

    /// As apt 2.6 and 3.0 print it.
    static let policy = """
        Package files:
         100 /tmp/status
             release a=now
         500 http://vendor.example/debian trixie/main amd64 Packages
             release v=1,o=Vendor, Inc,a=stable,n=trixie,l=Vendor,c=main,b=amd64
             origin vendor.example
         500 http://mirror.example/debian trixie-backports/main amd64 Packages
             release o=Debian Backports,a=stable-backports,n=trixie-backports,l=Debian Backports,c=main,b=amd64
             origin mirror.example
         500 http://mirror.example/debian trixie/main amd64 Packages
             release v=13.2,o=Debian,a=stable,n=trixie,l=Debian,c=main,b=amd64
             origin mirror.example
         500 file:/srv/flat ./ Packages
             release c=
         500 file:/own ./ Packages
             release o=vcpe,l=debs,c=
        Pinned packages:
        """

    private func source(_ name: String, _ url: String, _ suites: [String], pin: Int? = nil) -> PackageSource {
        PackageSource(
            name: name, urls: [url], suites: suites, components: suites == ["./"] ? [] : ["main"], keyring: nil,
            pins: pin.map { [.init(packages: [], priority: $0)] } ?? [])
    }

    @Test func aPinSelectsTheIndexesOfItsArchiveAlone() throws {
        let main = source("main", "http://mirror.example/debian", ["trixie", "trixie-updates"])
        let sources = [
            main, source("backports", "http://user:secret@mirror.example/debian/", ["trixie-backports"], pin: 990),
            source("vendor", "http://vendor.example/debian", ["trixie"], pin: 500),
            source("debs", "file:/own", ["./"], pin: 995),
            source("flat", "file:///srv/flat", ["./"]),
        ]
        let text = try ArchivePolicy(Self.policy).preferences(sources)
        #expect(
            text == """
                Package: *
                Pin: release o=Debian Backports,a=stable-backports,n=trixie-backports,l=Debian Backports,c=main
                Pin-Priority: 990

                Package: *
                Pin: release a=stable,n=trixie,l=Vendor,c=main
                Pin-Priority: 500

                Package: *
                Pin: release o=vcpe,l=debs
                Pin-Priority: 995


                """)
        // Every suite of an archive is pinned.
        let both = source("both", "http://mirror.example/debian", ["trixie", "trixie-backports"], pin: 1)
        #expect(
            try ArchivePolicy(Self.policy).preferences([both]).occurrences(of: "Pin: release") == 2)
        // Without Release fields the server's name selects, as long as no other archive is there.
        let flat = source("flat", "file:/srv/flat", ["./"], pin: 7)
        #expect(try ArchivePolicy(Self.policy).preferences([flat, main]).contains("Pin: origin \"\"\nPin-Priority: 7"))
        let failure = thrown(BuildFailure.self) {
            _ = try ArchivePolicy(Self.policy).preferences([flat, source("debs", "file:/own", ["./"])])
        }
        #expect(failure?.message.contains("the archive flat from debs") == true, "\(String(describing: failure))")
    }

    @Test func theIndexesOfAVersionAreRead() {
        let policy = ArchivePolicy(
            """
            tool:
              Installed: (none)
              Candidate: 1:2~bpo
              Version table:
                 1:2~bpo 990
                    990 http://mirror.example/debian trixie-backports/main amd64 Packages
             *** 1.0 500
                    500 http://mirror.example/debian trixie/main amd64 Packages
                    100 /var/lib/dpkg/status
            other:
              Installed: (none)
              Candidate: 1.0
              Version table:
                 1.0 500
                    500 file:/own ./ Packages
            """)
        let url = "http://mirror.example/debian"
        #expect(policy.versions["tool 1:2~bpo"] == [.init(url: url, place: "trixie-backports/main")])
        #expect(policy.versions["tool 1.0"] == [.init(url: url, place: "trixie/main")])
        #expect(policy.versions["other 1.0"] == [.init(url: "file:/own", place: "./")])
        #expect(policy.indexes.isEmpty)
    }

    @Test func timesAreReadAndWritten() {
        let seconds = SnapshotTime.seconds("Sat, 14 Nov 2026 10:11:12 UTC")
        #expect(seconds == 1_794_651_072)
        #expect(seconds.map { SnapshotTime.text($0) } == "20261114T101112Z")
        #expect(SnapshotTime.seconds("yesterday") == nil)
    }

    /// A server that answers as Debian's snapshot service does: it has imports of some times, and
    /// redirects every other time to the one before.
    static let server = """
        import http.server, re, sys
        # Archive and time of each import, with the date of its InRelease: before the import, as a mirror's is.
        imports = {
            "debian": [("20261114T030000Z", "Sat, 14 Nov 2026 02:11:12 UTC"),
                       ("20261114T091500Z", "Sat, 14 Nov 2026 08:11:12 UTC"),
                       ("20261114T151500Z", "Sat, 14 Nov 2026 14:11:12 UTC")],
            "debian-security": [("20261113T220000Z", "Fri, 13 Nov 2026 21:30:00 UTC"),
                                ("20261114T120000Z", "Sat, 14 Nov 2026 11:30:00 UTC")],
        }
        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *words): pass
            def do_GET(self):
                match = re.fullmatch(r"/archive/([a-z-]+)/(\\\\d{8}T\\\\d{6}Z)/(.*)", self.path)
                if not match or match[1] not in imports: return self.send_error(404)
                earlier = [i for i in imports[match[1]] if i[0] <= match[2]]
                if not earlier: return self.send_error(404)
                time, date = earlier[-1]
                if time != match[2]:
                    self.send_response(302)
                    self.send_header("Location", "/archive/%s/%s/%s" % (match[1], time, match[3]))
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                body = ("Origin: Debian\\\\nDate: %s\\\\n" % date).encode() if match[3].endswith("/InRelease") else b""
                if not body: return self.send_error(404)
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 8080), Handler)
        print("ready", flush=True)
        server.serve_forever()
        """.replacing("\\\\", with: "\\")

    @Test func aSnapshotArchiveIsAskedForTheFirstStateThatHasTheLocksPackages() throws {
        let network = try NetworkNamespace()
        let log = try File("\(folder)/log", O_RDWR | O_CREAT)
        try FileSystem.replace("\(folder)/server.py", with: Self.server)
        let path = getenv("PATH").map { String(cString: $0) } ?? "/usr/bin:/bin"
        let python = Command("python3", ["\(folder)/server.py"], environment: ["PATH": path])
        let server = try network.run { try python.start(output: log) }
        defer { server.kill() }
        for _ in 0..<400 where try log.size() == 0 { usleep(25_000) }
        func mirrors(_ dates: [String: String]) throws -> Mirrors {
            try network.run {
                try SnapshotArchive("http://127.0.0.1:8080/").mirrors(dates: dates, folder: folder)
            }
        }
        let security = "Fri, 13 Nov 2026 21:30:00 UTC"
        // The InRelease of 08:11 came with the import of 09:15; the time itself leads to that of
        // 03:00.
        let found = try mirrors([
            "trixie": "Sat, 14 Nov 2026 08:11:12 UTC", "trixie-updates": "Sat, 14 Nov 2026 02:11:12 UTC",
            "trixie-security": security,
        ])
        #expect(found.main == "http://127.0.0.1:8080/archive/debian/20261114T101112Z")
        #expect(found.security == "http://127.0.0.1:8080/archive/debian-security/20261113T223000Z")
        // One that the archive has not yet.
        #expect(throws: BuildFailure.self) {
            try mirrors(["trixie": "Sat, 14 Nov 2026 20:11:12 UTC", "trixie-security": security])
        }
        // A server that is not there is another matter.
        server.kill()
        while server.poll() == nil { usleep(5_000) }
        let failure = thrown(BuildFailure.self) {
            try mirrors(["trixie": "Sat, 14 Nov 2026 08:11:12 UTC", "trixie-security": security])
        }
        #expect(failure?.message.contains("http://127.0.0.1:8080/archive/debian/20261114T081112Z") == true)
    }
}
