import Digests
import Documents
import Files
import Glibc
import ImageBuilder
import Processes
import Testing

/// Builds whose inputs, cache or outputs are damaged, signed, foreign, or used by another process.
extension BuildTests {
    /// A folder of definitions with one that extends an image of the repository and asks for the
    /// same packages.
    private func extended(_ name: String, of base: String, _ more: String) throws -> String {
        let images = try copyImages()
        try FileSystem.replace("\(images)/\(name).yaml", with: "name: \(name)\nextends: \(base)\n\(more)")
        for kind in ["lock", "effects"] {
            try FileSystem.replace("\(images)/\(name).\(kind)", with: try FileSystem.read("\(images)/\(base).\(kind)"))
        }
        return images
    }

    private func build(_ name: String, _ images: String, _ output: String, box: String = ".build/box") -> Command {
        Command(
            program,
            [
                "build", name, "--images", images, "--output", output, "--box",
                box.hasPrefix("/") ? box : "\(Self.repository)/\(box)", "--profile", "virtio",
            ], environment: home)
    }

    @Test func aSignedImageIsTheSameTwiceAndItsSignatureIsValid() throws {
        try warm()
        let keys = "secure-boot: {key: db.key, certificate: db.pem}\n"
        let images = try extended("signed", of: "lab-minimal", keys)
        for name in ["db", "other"] {
            try Command(
                "openssl",
                [
                    "req", "-new", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "\(images)/\(name).key", "-out",
                    "\(images)/\(name).pem", "-days", "30", "-subj", "/CN=\(name)",
                ]
            ).check()
        }
        for output in ["one", "two"] { try build("signed", images, "\(folder)/\(output)").check() }
        for name in ["efi", "raw", "manifest"] {
            let digests = try ["one", "two"].map { try digest("\(folder)/\($0)/signed/signed.\(name)") }
            #expect(digests[0] == digests[1], "\(name)")
        }
        func verify(_ certificate: String, _ file: String) throws -> Int32 {
            try Command("sbverify", ["--cert", "\(images)/\(certificate).pem", file]).run().status
        }
        let uki = "\(folder)/one/signed/signed.efi"
        #expect(try verify("db", uki) == 0)
        #expect(try verify("other", uki) != 0)
        var bytes = try FileSystem.read(uki)
        bytes[bytes.count / 2] ^= 1
        try FileSystem.replace("\(folder)/changed.efi", with: bytes)
        #expect(try verify("db", "\(folder)/changed.efi") != 0)
        // Keys that can't sign are errors of the definition's line.
        try Command("openssl", ["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "\(images)/ec.key"])
            .check()
        try Command(
            "openssl",
            ["rsa", "-aes128", "-passout", "pass:x", "-in", "\(images)/db.key", "-out", "\(images)/locked.key"]
        ).check()
        for (key, certificate, column) in [
            ("none.key", "db.pem", 20), ("ec.key", "db.pem", 20), ("locked.key", "db.pem", 20),
            ("db.pem", "db.pem", 20),
            ("db.key", "other.pem", column(of: "other.pem")), ("db.key", "db.key", column(of: "db.key")),
        ] {
            try FileSystem.replace(
                "\(images)/signed.yaml",
                with: "name: signed\nextends: lab-minimal\nsecure-boot: {key: \(key), certificate: \(certificate)}\n")
            let refused = try build("signed", images, "\(folder)/three").run()
            #expect(refused.status == 1)
            #expect(refused.errorText.contains("\(images)/signed.yaml:3:\(column)"), "\(refused.errorText)")
        }
    }

    /// Of the certificate behind a key of six characters.
    private func column(of certificate: String) -> Int { "secure-boot: {key: db.key, certificate: ".count + 1 }

    /// A third party's plugin, by its program: a static one, so that no package is needed.
    private func foreignPlugin(_ images: String, code: String) throws {
        let place = "\(images)/foreign"
        try FileSystem.makeDirectory(place)
        let manifest: JSON = [
            "name": "foreign", "version": "1.0.0", "summary": "Of a test", "contract": 1, "key": "foreign",
            "yang": "vcpe-foreign.yang", "features": [["name": "base"]], "resources": ["file"],
        ]
        try FileSystem.replace("\(place)/manifest.json", with: manifest.pretty)
        try FileSystem.replace("\(place)/vcpe-foreign.yang", with: "module vcpe-foreign {}\n")
        let literal = manifest.line.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"")
        try FileSystem.replace(
            "\(folder)/foreign.c",
            with: """
                #include <fcntl.h>
                #include <signal.h>
                #include <stdio.h>
                #include <string.h>
                #include <sys/mount.h>
                #include <sys/stat.h>
                #include <unistd.h>
                int main(int count, char **words) {
                    if (count > 1 && strcmp(words[1], "describe") == 0) puts("\(literal)");
                    \(code)
                    return 0;
                }

                """)
        try Command("cc", ["-static", "-o", "\(place)/foreign", "\(folder)/foreign.c"]).check()
    }

    /// What no plugin may find, each with an exit code of its own.
    private static let hostility = """
            kill(-1, SIGKILL);
            if (getpid() > 2) return 10;
            if (getuid() != 64999 || geteuid() != 64999 || getgid() != 64999) return 11;
            if (setuid(0) == 0) return 12;
            if (open("/etc/passwd", O_RDONLY) >= 0 || open("/root", O_RDONLY) >= 0) return 13;
            if (open("/usr/lib/x", O_WRONLY | O_CREAT, 0600) >= 0) return 14;
            if (mknod("/tmp/sda", S_IFBLK | 0600, 8 << 8) == 0) return 15;
            if (mount("none", "/tmp", "tmpfs", 0, "") == 0 || chroot("/") == 0) return 16;
            if (open("/dev/mem", O_RDONLY) >= 0 || open("/dev/kmsg", O_RDONLY) >= 0) return 17;
            if (access("/usr/lib/vcpe/plugins/foreign/manifest.json", R_OK) != 0) return 18;
        """

    @Test func aForeignPluginIsConfinedWhetherRootOrAUserBuilds() throws {
        let images = try extended("foreign-box", of: "branch-office", "plugins: [./foreign]\n")
        try foreignPlugin(images, code: Self.hostility)
        let root = try build("foreign-box", images, "\(folder)/root").run()
        #expect(root.status == 0, "\(root.errorText)")
        // A user's, by user namespaces alone: with a cache, a home and executables of his own.
        try FileSystem.makeDirectory("\(folder)/cache/vcpe")
        try Command("cp", ["-r", "\(home["HOME"] ?? "")/.cache/vcpe/debs", "\(folder)/cache/vcpe/debs"]).check()
        try Command("cp", ["-r", "\(Self.repository)/.build/box", "\(folder)/box"]).check()
        try Command("cp", [program, folder]).check()
        try Command("chown", ["-R", "65534:65534", folder]).check()
        var command = build("foreign-box", images, "\(folder)/user", box: "\(folder)/box")
        command.arguments =
            ["--reuid=65534", "--regid=65534", "--clear-groups", "\(folder)/vcpe"] + command.arguments
        command.program = "setpriv"
        (command.environment["HOME"], command.environment["XDG_CACHE_HOME"]) = (folder, "\(folder)/cache")
        let user = try command.run()
        #expect(user.status == 0, "\(user.errorText)")
        #expect(
            try digest("\(folder)/user/foreign-box/foreign-box.raw")
                == digest("\(folder)/root/foreign-box/foreign-box.raw"))
        // That the plugin was run at all.
        try foreignPlugin(images, code: "return 23;")
        let refused = try build("foreign-box", images, "\(folder)/root").run()
        #expect(refused.status == 1 && refused.errorText.contains("plugin foreign describe: it ended with 23"))
    }

    /// A document whose plan needs programs that the image lacks would fail on the box.
    @Test func aDocumentThatTheImageCannotApplyIsNeitherAcceptedNorFlashed() throws {
        let images = try copyImages()
        let base = String(decoding: try FileSystem.read("\(images)/branch-office.site.yaml"), as: UTF8.self)
        let lines = base.split(separator: "\n", omittingEmptySubsequences: false).count
        let document = "\(folder)/ssh.site.yaml"
        try FileSystem.replace(document, with: base + "system:\n  ssh: {interfaces: [lan]}\n")
        func check(_ image: String, _ path: String) throws -> Command.Result {
            try Command(
                program,
                [
                    "site", "check", path, "--image", image, "--images", images, "--box",
                    "\(Self.repository)/.build/box",
                ],
                environment: home
            ).run()
        }
        try build("branch-office", images, "\(folder)/out").check()
        let good = try check("branch-office", "\(images)/branch-office.site.yaml")
        #expect(good.status == 0, "\(good.errorText)")
        let refused = try check("branch-office", document)
        #expect(refused.status == 1)
        for program in ["/usr/sbin/sshd", "/usr/bin/ssh-keygen"] {
            #expect(
                refused.errorText.contains("\(document):\(lines + 1):") && refused.errorText.contains(program),
                "\(refused.errorText)")
        }
        // Nor is it written anywhere.
        let disk = "\(folder)/disk"
        try File(disk, O_RDWR | O_CREAT).resize(to: 4 << 30)
        let device = try Command("losetup", ["--find", "--show", disk]).check().text.filter { $0 != "\n" }
        defer { _ = try? Command("losetup", ["-d", device]).run() }
        func flash(_ more: String...) throws -> Command.Result {
            try Command(
                program,
                [
                    "flash", "branch-office", "--to", device, "--output", "\(folder)/out", "--images", images, "--box",
                    "\(Self.repository)/.build/box", "--yes",
                ] + more, environment: home
            ).run()
        }
        let notFlashed = try flash("--site", document)
        #expect(notFlashed.status == 1 && notFlashed.errorText.contains("\(document):"), "\(notFlashed.errorText)")
        try FileSystem.replace("\(folder)/nonsense.yaml", with: "nonsense: 1\n")
        #expect(try flash("--site", "\(folder)/nonsense.yaml").status == 1)
        #expect(try Sparse.extents(of: File(disk), unit: 4096).isEmpty)
        let flashed = try flash("--site", "\(images)/branch-office.site.yaml")
        #expect(flashed.status == 0, "\(flashed.errorText)")
        // Where the definition is of another version, or not there, only on request.
        let yaml = "\(images)/branch-office.yaml"
        let text = String(decoding: try FileSystem.read(yaml), as: UTF8.self)
        try FileSystem.replace(
            yaml,
            with: text.split(separator: "\n", omittingEmptySubsequences: false).map {
                $0.hasPrefix("version:") ? "version: \"99\"" : String($0)
            }.joined(separator: "\n"))
        #expect(try flash("--site", "\(images)/branch-office.site.yaml").status == 1)
        #expect(try flash("--site", "\(images)/branch-office.site.yaml", "--unchecked-site").status == 0)
    }

    @Test func aSecondBuildTellsForWhomItWaits() throws {
        try warm()
        try FileSystem.makeDirectory("\(folder)/out/lab-minimal")
        let ready = try File("\(folder)/ready", O_RDWR | O_CREAT)
        let first = try Command(
            "flock", ["--no-fork", "\(folder)/out/lab-minimal/.lock", "sh", "-c", "echo; exec sleep 600"]
        ).start(output: ready)
        while try ready.size() == 0 { usleep(5_000) }
        let log = try File("\(folder)/log", O_RDWR | O_CREAT)
        let second = try build("lab-minimal", "\(Self.repository)/images", "\(folder)/out").start(output: log)
        func said() throws -> String { String(decoding: try log.readAll(), as: UTF8.self) }
        for _ in 0..<2000 where try !said().contains("waiting for process \(first.pid) ") { usleep(10_000) }
        let waiting = try said()
        #expect(waiting.contains("waiting for process \(first.pid) (sleep 600)"), "\(waiting)")
        #expect(second.poll() == nil)
        first.kill()
        for _ in 0..<6000 where second.poll() == nil { usleep(10_000) }
        let last = try said()
        #expect(second.poll() == 0, "\(last)")
    }

    @Test func aDamagedCacheIsNeverInAnImage() throws {
        try warm()
        // A cache of its own, with everything unpacked.
        let cache = "\(folder)/cache/vcpe"
        try FileSystem.makeDirectory(cache)
        try Command("cp", ["-r", "\(home["HOME"] ?? "")/.cache/vcpe/debs", "\(cache)/debs"]).check()
        var command = build("lab-minimal", "\(Self.repository)/images", "\(folder)/one")
        command.environment["XDG_CACHE_HOME"] = "\(folder)/cache"
        try command.check()
        let whole = try digest("\(folder)/one/lab-minimal/lab-minimal.raw")
        // One byte in the middle of the largest file of each section.
        for section in ["packages", "modules", "initramfs"] {
            let files = try FileSystem.list("\(cache)/\(section)").filter { !$0.hasSuffix(".mark") }
            let largest = try #require(
                try files.map { "\(cache)/\(section)/\($0)" }.max { try Size.of($0) < Size.of($1) })
            let file = try File(largest, O_RDWR)
            let place = try file.size() / 2
            try file.write([try file.read(1, at: place)[0] ^ 1], at: place)
            var again = build("lab-minimal", "\(Self.repository)/images", "\(folder)/\(section)")
            again.environment["XDG_CACHE_HOME"] = "\(folder)/cache"
            let first = try again.run()
            // Made anew at once, or refused, removed, and made anew by the next build.
            if first.status != 0 {
                #expect(first.errorText.contains(largest) && !FileSystem.exists(largest), "\(first.errorText)")
                try again.check()
            }
            #expect(try digest("\(folder)/\(section)/lab-minimal/lab-minimal.raw") == whole, "\(section)")
        }
    }

    /// An attacker who writes to the cache, as a review did: other bytes of /etc/protocols with the
    /// index for them, one byte more behind the compressed initramfs, and a compressor and a loader
    /// of his own.
    @Test func aPoisonedCacheChangesNoImageAndRunsNothing() throws {
        try warm()
        let cache = "\(folder)/cache/vcpe"
        try FileSystem.makeDirectory(cache)
        try Command("cp", ["-r", "\(home["HOME"] ?? "")/.cache/vcpe/debs", "\(cache)/debs"]).check()
        func build(_ output: String) throws -> Digest {
            var command = self.build("lab-minimal", "\(Self.repository)/images", "\(folder)/\(output)")
            command.environment["XDG_CACHE_HOME"] = "\(folder)/cache"
            try command.check()
            return try digest("\(folder)/\(output)/lab-minimal/lab-minimal.raw")
        }
        let whole = try build("one")
        let manifest = try FileSystem.read("\(folder)/one/lab-minimal/lab-minimal.manifest")
        let words = try #require(
            String(decoding: manifest, as: UTF8.self).split(separator: "\n").first { $0.hasSuffix(" /etc/protocols") }
        ).split(separator: " ")
        let (recorded, size) = (Hex.bytes(words[3]) ?? [], try #require(Int(words[4])))
        // Both in the one file of the package.
        let line = Array("# Internet (IP) protocols\n".utf8)
        var poisoned = 0
        for name in try FileSystem.list("\(cache)/packages") {
            let path = "\(cache)/packages/\(name)"
            var bytes = try FileSystem.read(path)
            guard bytes.count < 1 << 20, let index = bytes.firstRange(of: recorded),
                let start = bytes.firstRange(of: line)?.lowerBound
            else { continue }
            bytes[start + 2] ^= 0x20
            bytes.replaceSubrange(index, with: SHA256.hash(bytes[start..<start + size]).bytes)
            try FileSystem.replace(path, with: bytes)
            poisoned += 1
        }
        #expect(poisoned == 1)
        for name in try FileSystem.list("\(cache)/initramfs") where !name.hasSuffix(".mark") {
            try File("\(cache)/initramfs/\(name)", O_WRONLY | O_APPEND).append([0])
        }
        for tools in try FileSystem.list("\(cache)/tools") {
            for program in ["usr/bin/zstd", "usr/bin/mcopy", "usr/lib64/ld-linux-x86-64.so.2"] {
                let path = "\(cache)/tools/\(tools)/\(program)"
                guard FileSystem.exists(path) else { continue }
                try FileSystem.remove(path)
                try FileSystem.replace(path, with: "#!/bin/sh\necho ran >>'\(folder)/evil'\n", mode: 0o755)
            }
        }
        #expect(try build("two") == whole)
        #expect(!FileSystem.exists("\(folder)/evil"))
    }
}
