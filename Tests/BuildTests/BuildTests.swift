import Digests
import Files
import Glibc
import ImageBuilder
import Processes
import Testing

/// Whole builds by the command, of lab-minimal: with a warm cache, so that each takes a second.
@Suite(.serialized) final class BuildTests {
    let folder: String

    static let repository = "/" + #filePath.split(separator: "/").dropLast(3).joined(separator: "/")

    init() throws { folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-build") }

    deinit { try? FileSystem.remove(folder) }

    /// The command line of a build into `output`.
    func arguments(_ output: String, _ more: [String] = [], images: String = "\(repository)/images") -> [String] {
        ["build", "lab-minimal", "--images", images, "--output", output, "--box", "\(Self.repository)/.build/box"]
            + more
    }

    var program: String { "\(Self.repository)/.build/debug/vcpe" }

    var home: [String: String] { ["HOME": getenv("HOME").map { String(cString: $0) } ?? "/root"] }

    /// Fills the cache, so that the tests behind it need no network.
    func warm() throws {
        try Command(
            program, arguments("\(folder)/warm", ["--raw-only", "--relock-gone"]), environment: home
        ).check()
    }

    /// The repository's definitions, to be changed.
    func copyImages() throws -> String {
        let images = "\(folder)/images"
        try FileSystem.makeDirectory(images)
        try Command("cp", ["-r", "\(Self.repository)/images/.", images]).check()
        return images
    }

    /// Of a file's size and of all its bytes that aren't zero, with their places: a disk is mostly holes.
    func digest(_ path: String) throws -> Digest {
        let file = try File(path)
        var text = "\(try file.status().st_size)"
        for extent in try Sparse.extents(of: file, unit: 4096) {
            text += " \(extent.offset)+\(extent.count) \(SHA256.hash(try file.read(extent.count, at: extent.offset)))"
        }
        return SHA256.hash(Array(text.utf8))
    }

    func digests(_ output: String) throws -> [String: Digest] {
        let names = try FileSystem.list("\(output)/lab-minimal").filter { !$0.hasPrefix(".") }
        return try Dictionary(uniqueKeysWithValues: names.map { ($0, try digest("\(output)/lab-minimal/\($0)")) })
    }

    @Test func sameInputGivesSameBytesWhereverAndWheneverItIsBuilt() throws {
        try warm()
        let images = try copyImages()
        let yaml = "\(images)/lab-minimal.yaml"
        let text = String(decoding: try FileSystem.read(yaml), as: UTF8.self)
        try FileSystem.replace(yaml, with: text.replacing("outputs: []", with: "outputs: [raw.zst, qcow2]"))
        try Command(program, arguments("\(folder)/one", images: images), environment: home).check()
        // Another folder, umask, time zone, locale, one processor; and a cache of its own, as another user has it.
        var other = home
        (other["TZ"], other["LC_ALL"], other["LANG"]) = ("Pacific/Auckland", "tr_TR.UTF-8", "tr_TR.UTF-8")
        other["XDG_CACHE_HOME"] = "\(folder)/cache"
        try FileSystem.makeDirectory("\(folder)/cache/vcpe")
        let debs = "\(home["HOME"] ?? "")/.cache/vcpe/debs"
        try Command("cp", ["-r", debs, "\(folder)/cache/vcpe/debs"]).check()
        // Another user, to whom the folder is given; one who may not read where we are has his own copies.
        try Command("cp", [program, "\(Self.repository)/.build/box/vcpe-init", folder]).check()
        try Command("chmod", ["-R", "a+rX", images]).check()
        try Command("chown", ["-R", "65534:65534", folder]).check()
        other["HOME"] = folder
        let line = [
            "\(folder)/vcpe", "build", "lab-minimal", "--images", images, "--output", "\(folder)/two/deep er", "--box",
            folder,
        ].map { "'\($0)'" }
        try Command(
            "setpriv",
            [
                "--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c",
                "umask 077; exec taskset -c 0 \(line.joined(separator: " "))",
            ], environment: other
        ).check()
        try Command("chown", ["-R", "0:0", folder]).check()
        let (one, two) = (try digests("\(folder)/one"), try digests("\(folder)/two/deep er"))
        #expect(one.count == 10 || one.count == 9, "\(one.keys.sorted())")
        #expect(one == two)
        #expect(one.keys.contains("lab-minimal.raw.zst") && one.keys.contains("lab-minimal.qcow2"))
    }

    @Test func theBoxsExecutablesAreTheSameWhereverTheyAreBuilt() throws {
        func build(_ folder: String, umask: String, zone: String) throws -> Digest {
            try FileSystem.makeDirectory(folder)
            for name in ["Package.swift", "ci", "Sources"] {
                try Command("cp", ["-r", "\(Self.repository)/\(name)", folder]).check()
            }
            var environment = home
            environment["TZ"] = zone
            environment["PATH"] = getenv("PATH").map { String(cString: $0) }
            try Command("sh", ["-c", "umask \(umask); exec '\(folder)/ci/box'"], environment: environment).check()
            return SHA256.hash(try FileSystem.read("\(folder)/.build/box/vcpe-init"))
        }
        let one = try build("\(folder)/one", umask: "022", zone: "UTC")
        #expect(try build("\(folder)/two/deeper", umask: "077", zone: "Asia/Tokyo") == one)
    }

    @Test func warmBuildNeedsNoNetworkAndAnUnchangedOneRunsNothing() throws {
        try warm()
        let first = try Command(
            "unshare", ["-rn", program] + arguments("\(folder)/out", ["--raw-only", "--explain"]), environment: home
        ).check()
        #expect(first.errorText.contains("virtio-system: runs because it was never made here"))
        let again = try Command(program, arguments("\(folder)/out", ["--raw-only", "--explain"]), environment: home)
            .check()
        #expect(again.errorText.contains("virtio-system: unchanged\nvirtio-disk: unchanged\n"))
        // What was touched is made again, and only that and what follows from it.
        try FileSystem.remove("\(folder)/out/lab-minimal/lab-minimal.raw")
        let third = try Command(program, arguments("\(folder)/out", ["--raw-only", "--explain"]), environment: home)
            .check().errorText
        #expect(third.contains("virtio-system: unchanged\nvirtio-disk: runs because lab-minimal.raw is missing"))
    }

    @Test func aChangedFileUnpacksNothing() throws {
        try warm()
        let images = try copyImages()
        // The packages themselves are gone; only their unpacked form is there.
        let cache = "\(home["HOME"] ?? "")/.cache/vcpe"
        for name in ["packages", "tools", "modules", "initramfs"] {
            try FileSystem.makeDirectory("\(folder)/cache/vcpe")
            try Command("cp", ["-r", "\(cache)/\(name)", "\(folder)/cache/vcpe/"]).check()
        }
        try FileSystem.makeDirectory("\(folder)/cache/vcpe/debs")
        for name in try FileSystem.list("\(cache)/debs") {
            try FileSystem.replace("\(folder)/cache/vcpe/debs/\(name)", with: "")
        }
        let yaml = "\(images)/lab-minimal.yaml"
        let text = String(decoding: try FileSystem.read(yaml), as: UTF8.self)
        try FileSystem.replace(yaml, with: text + "files:\n  /etc/motd: {content: hello}\n")
        var environment = home
        environment["XDG_CACHE_HOME"] = "\(folder)/cache"
        let said = try Command(
            program, arguments("\(folder)/out", ["--raw-only"], images: images), environment: environment
        ).check().errorText
        #expect(said.contains("virtio-system"))
        // The other way round, a .deb that is not what its name says is found, and fetched anew the next time.
        try Command("rm", ["-rf", "\(folder)/cache/vcpe/packages"]).check()
        let refused = try Command(
            program, arguments("\(folder)/other", ["--raw-only"], images: images), environment: environment
        ).run()
        #expect(refused.status == 1 && refused.errorText.contains("was not what its name says and is removed"))
    }

    @Test func anotherProfileThanTheOneBuiltIsNotTakenForIt() throws {
        try warm()
        let result = try Command(
            program, ["run", "lab-minimal", "--output", "\(folder)/warm", "--profile", "x86-server"], environment: home
        ).run()
        #expect(result.status == 1)
        #expect(result.errorText.contains("lab-minimal for x86-server is not built in"), "\(result.errorText)")
    }

    @Test func interruptedBuildLeavesNothing() throws {
        try warm()
        let log = try File("\(folder)/log", O_RDWR | O_CREAT)
        let command = Command(program, arguments("\(folder)/out"), environment: home)
        for pause in stride(from: 300_000, through: 1_500_000, by: 300_000) {
            let build = try command.start(output: log)
            usleep(UInt32(pause))
            kill(build.pid, SIGINT)
            while build.poll() == nil { usleep(5_000) }
            #expect([0, 128 + SIGINT].contains(build.poll() ?? -1))
            for place in ["\(folder)/out/lab-minimal", "\(folder)/out/lab-minimal/.steps"]
            where FileSystem.exists(place) {
                #expect(try FileSystem.list(place).filter { $0.hasPrefix(FileSystem.temporaryPrefix) } == [])
            }
        }
    }

    /// By the validator that the SPDX project publishes.
    @Test func billOfMaterialsSatisfiesItsValidator() throws {
        try warm()
        let environment = "\(home["HOME"] ?? "")/.cache/vcpe-tests/spdx"
        if !FileSystem.exists("\(environment)/bin/pyspdxtools") {
            try Command("python3", ["-m", "venv", environment]).check()
            var variables = home
            for name in ["PIP_INDEX_URL", "PIP_CONFIG_FILE", "http_proxy", "https_proxy", "PIP_CERT", "SSL_CERT_FILE"] {
                variables[name] = getenv(name).map { String(cString: $0) }
            }
            try Command("\(environment)/bin/pip", ["install", "-q", "spdx-tools==0.8.3"], environment: variables)
                .check()
        }
        let bill = "\(folder)/warm/lab-minimal/lab-minimal.spdx.json"
        let result = try Command("\(environment)/bin/pyspdxtools", ["-i", bill]).run()
        #expect(result.status == 0, "\(result.errorText.suffix(2000))")
        #expect(String(decoding: try FileSystem.read(bill), as: UTF8.self).contains("\"name\": \"systemd-boot-efi\""))
    }

    @Test func twoBuildsAtOnceMakeTheSame() throws {
        try warm()
        let log = try File("\(folder)/log", O_RDWR | O_CREAT)
        let command = Command(program, arguments("\(folder)/out", ["--raw-only"]), environment: home)
        let both = [try command.start(output: log), try command.start(output: log)]
        while both.contains(where: { $0.poll() == nil }) { usleep(20_000) }
        let said = String(decoding: try log.readAll(), as: UTF8.self)
        #expect(both.map { $0.poll() } == [0, 0], "\(said)")
        #expect(try digests("\(folder)/out") == digests("\(folder)/warm"))
    }

    @Test func killedBuildLeavesNothingHalfMade() throws {
        try warm()
        let log = try File("\(folder)/log", O_RDWR | O_CREAT)
        let command = Command(program, arguments("\(folder)/out", ["--raw-only"]), environment: home)
        for pause in stride(from: 50_000, through: 1_000_000, by: 190_000) {
            let build = try command.start(output: log)
            usleep(UInt32(pause))
            build.kill()
            while build.poll() == nil { usleep(5_000) }
        }
        try command.check()
        #expect(try digests("\(folder)/out") == digests("\(folder)/warm"))
        let rest = try FileSystem.list("\(folder)/out/lab-minimal").filter {
            $0.contains(".raw.") || $0.hasSuffix(".new")
        }
        #expect(rest == [])
    }

    /// A lock that names a version which the mirror has no more.
    func goneLock() throws -> String {
        let images = try copyImages()
        let path = "\(images)/lab-minimal.lock"
        let lines = String(decoding: try FileSystem.read(path), as: UTF8.self).split(separator: "\n").map { line in
            guard line.contains("{name: netbase,") else { return String(line) }
            return "  - {name: netbase, version: \"6.1\", architecture: all, size: 12345, "
                + "sha256: \(SHA256.hash(Array("gone".utf8))), archive: main, path: \"pool/main/n/netbase/netbase_6.1_all.deb\"}"
        }
        try FileSystem.replace(path, with: lines.joined(separator: "\n") + "\n")
        return images
    }

    @Test func whatTheMirrorForgotIsNamedAndRelockedAlone() throws {
        try warm()
        let images = try goneLock()
        let before = try FileSystem.read("\(images)/lab-minimal.lock")
        let refused = try Command(
            program, arguments("\(folder)/out", ["--raw-only"], images: images), environment: home
        )
        .run()
        #expect(refused.status == 1)
        #expect(refused.errorText.contains("  netbase 6.1\n") && refused.errorText.contains("--relock-gone"))
        #expect(try FileSystem.read("\(images)/lab-minimal.lock") == before)
        let relocked = try Command(
            program, arguments("\(folder)/out", ["--raw-only", "--relock-gone"], images: images), environment: home
        ).check().errorText
        let moved = relocked.split(separator: "\n").filter { $0.hasPrefix("relocked: ") }
        #expect(moved.count == 1 && moved.first?.contains("virtio: netbase 6.1 → ") == true, "\(relocked)")
    }

    @Test func snapshotArchiveIsAskedForTheLocksTime() throws {
        try warm()
        let cache = Cache(root: "\(home["HOME"] ?? "")/.cache/vcpe")
        let lock = try #require(try Lock.read("\(Self.repository)/images/lab-minimal.lock"))
        let time = try #require(SnapshotTime.latest(of: Array(lock.dates.values)))
        for package in lock.packages {
            let archive = package.archive == .main ? "debian" : "debian-security"
            let path = "\(folder)/snapshot/archive/\(archive)/\(time)/\(package.path)"
            try FileSystem.makeDirectory(FileSystem.parent(of: path) ?? "/")
            try FileSystem.replace(path, with: try FileSystem.read(cache.package(package.digest)))
        }
        var environment = home
        environment["XDG_CACHE_HOME"] = "\(folder)/empty"
        // Without network: all of it comes from the archive.
        try Command(
            "unshare",
            ["-rn", program] + arguments("\(folder)/out", ["--raw-only", "--snapshot", "file://\(folder)/snapshot"]),
            environment: environment
        ).check()
        #expect(try digests("\(folder)/out") == digests("\(folder)/warm"))
    }

    @Test func aptsReasonComesWithTheLineThatAsked() throws {
        let images = try copyImages()
        let yaml = "\(images)/lab-minimal.yaml"
        let text = String(decoding: try FileSystem.read(yaml), as: UTF8.self)
        try FileSystem.replace(yaml, with: text.replacing("  - netbase", with: "  - netbase\n  - no-such-package"))
        let lock = try FileSystem.read("\(images)/lab-minimal.lock")
        let result = try Command(program, ["lock", "lab-minimal", "--images", images], environment: home).run()
        #expect(result.status == 1)
        #expect(result.errorText.contains("lab-minimal.yaml:17:5: packages[5]: apt can't install no-such-package"))
        #expect(result.errorText.contains("Unable to locate package no-such-package"), "\(result.errorText)")
        #expect(try FileSystem.read("\(images)/lab-minimal.lock") == lock)
    }

    @Test func aSiteIsCheckedWithoutABox() throws {
        let images = try copyImages()
        func run(_ words: [String]) throws -> Command.Result {
            try Command(
                program, words + ["--images", images, "--box", "\(Self.repository)/.build/box"], environment: home
            ).run()
        }
        let build = try run([
            "build", "branch-office", "--profile", "virtio", "--raw-only", "--relock-gone", "--output", "\(folder)/out",
        ])
        #expect(build.status == 0, "\(build.errorText)")
        let check = ["--image", "branch-office", "--profile", "virtio"]
        let site = "\(images)/branch-office.site.yaml"
        let good = try run(["site", "check", site] + check)
        #expect(good.status == 0 && good.text.contains("service       lan-dnsmasq"), "\(good.errorText)")
        #expect(good.text.contains("\(site) can be applied: "))
        let json = try run(["site", "check", site, "--json"] + check).text
        #expect(json.contains("\"nftables\": [") && json.contains("\"remarks\": []"))
        let text = String(decoding: try FileSystem.read(site), as: UTF8.self)
        try FileSystem.replace(site, with: text.replacing("zone: wan\n", with: "zone: wann\n"))
        let bad = try run(["site", "check", site] + check)
        #expect(bad.status == 1 && bad.text.isEmpty)
        #expect(
            bad.errorText.contains(
                "site.yaml:6:13: network.interfaces[0].zone: there is no zone \"wann\"; did you mean wan?"))
        // An image whose own site can't be planned is none.
        let built = try digest("\(folder)/out/branch-office/branch-office.raw")
        let words = ["build", "branch-office", "--profile", "virtio", "--raw-only", "--output", "\(folder)/out"]
        let refused = try run(words)
        #expect(refused.status == 1 && refused.errorText.contains("the site can't be applied"), "\(refused.errorText)")
        #expect(try digest("\(folder)/out/branch-office/branch-office.raw") == built)
        // Nor is one with a plugin that nobody knows.
        let definition = "\(images)/branch-office.yaml"
        let plugins = String(decoding: try FileSystem.read(definition), as: UTF8.self)
        try FileSystem.replace(definition, with: plugins.replacing("[network, firewall", with: "[network, firewal"))
        let unknown = try run(words)
        #expect(
            unknown.status == 1 && unknown.errorText.contains("branch-office.yaml:8:20")
                && unknown.errorText.contains("did you mean firewall?"), "\(unknown.errorText)")
    }

    @Test func runSaysWhatItLacks() throws {
        try warm()
        let run = [program, "run", "lab-minimal", "--output", "\(folder)/warm"]
        let noFirmware = try Command(
            "unshare", ["-m", "sh", "-c", "mount -t tmpfs none /usr/share/OVMF; exec \(run.joined(separator: " "))"],
            environment: home
        ).run()
        #expect(noFirmware.status == 1 && noFirmware.errorText.contains("try: apt-get install ovmf"))
        let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(listener) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let listening = withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(listener, $0, length) == 0 && listen(listener, 1) == 0 && getsockname(listener, $0, &length) == 0
            }
        }
        try #require(listening)
        let port = UInt16(bigEndian: address.sin_port)
        let busy = try Command(program, Array(run.dropFirst()) + ["--forward", "\(port):22"], environment: home).run()
        #expect(
            busy.status == 1 && busy.errorText.contains("port \(port) of this host is not free"), "\(busy.errorText)")
        #expect(busy.errorText.contains("Address already in use (EADDRINUSE)"))
    }

    @Test func flashRefusesWhatIsTooSmallOrInUse() throws {
        try warm()
        func flash(_ device: String) throws -> String {
            let arguments = ["flash", "lab-minimal", "--output", "\(folder)/warm", "--to", device, "--yes"]
            let result = try Command(program, arguments, environment: home).run()
            #expect(result.status == 1)
            return result.errorText
        }
        func loop(_ size: Int) throws -> String {
            let path = "\(folder)/disk-\(size)"
            try File(path, O_RDWR | O_CREAT).resize(to: size)
            return try Command("losetup", ["--find", "--show", path]).check().text.filter { $0 != "\n" }
        }
        let small = try loop(64 << 20)
        defer { _ = try? Command("losetup", ["--detach", small]).run() }
        #expect(try flash(small).contains("it has 67.1 MB, the image needs 2.8 GB"))
        let large = try loop(3 << 30)
        defer { _ = try? Command("losetup", ["--detach", large]).run() }
        try Command("mke2fs", ["-q", large]).check()
        try FileSystem.makeDirectory("\(folder)/mounted")
        try Command("mount", [large, "\(folder)/mounted"]).check()
        defer { _ = try? Command("umount", ["\(folder)/mounted"]).run() }
        #expect(try flash(large).contains("\(large) is in use: mounted at \(folder)/mounted"))
    }

    @Test func budgetsNameTheOffender() throws {
        try warm()
        let images = try copyImages()
        let yaml = "\(images)/lab-minimal.yaml"
        let text = String(decoding: try FileSystem.read(yaml), as: UTF8.self)
        try FileSystem.replace(yaml, with: text.replacing("vcpe-init: 8 MB", with: "root: 1 MB"))
        let result = try Command(program, arguments("\(folder)/out", ["--raw-only"], images: images), environment: home)
            .run()
        #expect(result.status == 1)
        #expect(result.errorText.contains("budgets.virtio.root") && result.errorText.contains("the budget is 1.0 MB"))
        #expect(result.errorText.contains("the largest are linux-image-"), "\(result.errorText)")
        // The other way round, the report says where the bytes are.
        let report = String(
            decoding: try FileSystem.read("\(folder)/out/lab-minimal/lab-minimal.report"), as: UTF8.self)
        #expect(report.contains("The ten largest packages:") && report.contains("Left out: "))
    }

    @Test func buildsAreComparedByPackageFileAndSize() throws {
        try warm()
        let images = try copyImages()
        let yaml = "\(images)/lab-minimal.yaml"
        try FileSystem.replace(
            yaml,
            with: String(decoding: try FileSystem.read(yaml), as: UTF8.self)
                + "files:\n  /etc/added: {content: hello}\n  /etc/protocols: {absent: true}\n")
        try Command(program, arguments("\(folder)/out", ["--raw-only"], images: images), environment: home).check()
        let names = [
            "\(folder)/warm/lab-minimal/lab-minimal.manifest", "\(folder)/out/lab-minimal/lab-minimal.manifest",
        ]
        let text = try Command(program, ["diff"] + names, environment: home).check().text
        #expect(text.contains("  + /etc/added file 644 0:0 5 B"), "\(text)")
        #expect(text.contains("  - /etc/protocols file 644 0:0"))
        #expect(
            try Command(program, ["diff", names[0], names[0]], environment: home).check().text == "no difference\n")
    }

    @Test func eventsAreJSONOnRequest() throws {
        try warm()
        let text = try Command(program, arguments("\(folder)/out", ["--raw-only", "--json"]), environment: home).check()
            .text
        let lines = text.split(separator: "\n")
        #expect(lines.allSatisfy { $0.hasPrefix("{\"") && $0.hasSuffix("}") })
        #expect(lines.contains { $0.contains("\"event\":\"finished\"") && $0.contains("\"step\":\"virtio-disk\"") })
        #expect(lines.last?.contains("\"event\":\"done\"") == true)
    }

    @Test func unwritableOutputAndFullDiskAreSaid() throws {
        try warm()
        let disk = "\(folder)/disk"
        try FileSystem.makeDirectory(disk)
        try Command("mount", ["-t", "tmpfs", "-o", "size=30m", "tmpfs", disk]).check()
        defer { _ = try? Command("umount", [disk]).run() }
        let full = try Command(program, arguments(disk, ["--raw-only"]), environment: home).run()
        #expect(full.status == 1 && full.errorText.contains("No space left on device (ENOSPC)"), "\(full.errorText)")
        #expect(try FileSystem.list("\(disk)/lab-minimal").filter { !$0.hasPrefix(".") } == [])
        try Command("mount", ["-o", "remount,ro", disk]).check()
        let readOnly = try Command(program, arguments(disk, ["--raw-only"]), environment: home).run()
        #expect(readOnly.status == 1 && readOnly.errorText.contains("Read-only file system (EROFS)"))
    }
}
