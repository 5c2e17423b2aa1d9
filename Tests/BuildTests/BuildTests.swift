import Digests
import Files
import Glibc
import ImageBuilder
import Processes
import TestSupport
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
            program, arguments("\(folder)/warm", ["--relock-gone"]), environment: home
        ).check()
    }

    /// The repository's definitions, to be changed.
    func copyImages() throws -> String {
        let images = "\(folder)/images"
        try FileSystem.makeDirectory(images)
        try Command("cp", ["-r", "\(Self.repository)/images/.", images]).check()
        return images
    }

    /// Of a file's size and of all its bytes that aren't zero, with their places: a disk is mostly
    /// holes.
    func digest(_ path: String) throws -> Digest {
        let file = try File(path)
        var text = "\(try file.status().st_size)"
        for extent in try Sparse.extents(of: file, unit: 4096) {
            text += " \(extent.offset)+\(extent.count) \(SHA256.hash(try file.read(extent.count, at: extent.offset)))"
        }
        return SHA256.hash(Array(text.utf8))
    }

    func digests(_ output: String) throws -> [String: Digest] {
        let names = try FileSystem.list("\(output)/lab-minimal").filter { !$0.hasPrefix(".") && $0 != "relocked" }
        return try Dictionary(uniqueKeysWithValues: names.map { ($0, try digest("\(output)/lab-minimal/\($0)")) })
    }

    @Test func sameInputGivesSameBytesWhereverAndWheneverItIsBuilt() throws {
        try warm()
        let images = try copyImages()
        let yaml = "\(images)/lab-minimal.yaml"
        let text = String(decoding: try FileSystem.read(yaml), as: UTF8.self)
        try FileSystem.replace(yaml, with: text.editing("outputs: []", with: "outputs: [raw.zst, qcow2]"))
        try Command(
            "unshare",
            try processors(4) + [program] + arguments("\(folder)/one", ["--release"], images: images), environment: home
        ).check()
        // Another folder, umask, time zone, locale, one processor; and a cache of its own, as
        // another user has it.
        var other = home
        (other["TZ"], other["LC_ALL"], other["LANG"]) = ("Pacific/Auckland", "tr_TR.UTF-8", "tr_TR.UTF-8")
        other["XDG_CACHE_HOME"] = "\(folder)/cache"
        try FileSystem.makeDirectory("\(folder)/cache/vcpe")
        let debs = "\(home["HOME"] ?? "")/.cache/vcpe/debs"
        try Command("cp", ["-r", debs, "\(folder)/cache/vcpe/debs"]).check()
        // Another user, to whom the folder is given; one who may not read where we are has his own
        // copies.
        try Command("cp", [program, "\(Self.repository)/.build/box/vcpe-init", folder]).check()
        try Command("chmod", ["-R", "a+rX", images]).check()
        try Command("chown", ["-R", "65534:65534", folder]).check()
        other["HOME"] = folder
        let line = [
            "\(folder)/vcpe", "build", "lab-minimal", "--release", "--images", images, "--output",
            "\(folder)/two/deep er", "--box", folder,
        ].map { "'\($0)'" }
        try Command(
            "unshare",
            try processors(1) + [
                "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c",
                "umask 077; exec \(line.joined(separator: " "))",
            ], environment: other
        ).check()
        try Command("chown", ["-R", "0:0", folder]).check()
        let (one, two) = (try digests("\(folder)/one"), try digests("\(folder)/two/deep er"))
        let names = ["efi", "initramfs", "manifest", "qcow2", "raw", "raw.zst", "report", "root", "spdx.json"]
        #expect(one.keys.sorted() == names.map { "lab-minimal.\($0)" })
        #expect(one == two)
    }

    /// Arguments of unshare(1) for a program that counts so many processors: in sysfs, as
    /// sysconf(3) does, and in /proc/cpuinfo, as zstd does. An affinity alone changes neither.
    private func processors(_ count: Int) throws -> [String] {
        let place = "\(folder)/processors-\(count)"
        try FileSystem.makeDirectory(place)
        try FileSystem.replace("\(place)/online", with: count == 1 ? "0\n" : "0-\(count - 1)\n")
        let cores = (0..<count).map {
            "processor\t: \($0)\nsiblings\t: \(count)\ncpu cores\t: \(count)\nphysical id\t: 0\n\n"
        }
        try FileSystem.replace("\(place)/cpuinfo", with: cores.joined())
        let script = """
            mount --bind '\(place)/online' /sys/devices/system/cpu/online
            mount --bind '\(place)/cpuinfo' /proc/cpuinfo
            [ "$(getconf _NPROCESSORS_ONLN)" = \(count) ] && [ "$(grep -c ^processor /proc/cpuinfo)" = \(count) ]
            exec "$@"
            """
        return ["--mount", "sh", "-euc", script, "sh"]
    }

    /// Ends builds, each while a step runs, and checks that each was ended before it was done.
    ///
    /// - Parameter signal: of kill(2).
    private func endBuilds(by signal: Int32, afterEach: () throws -> Void) throws {
        // Microseconds after a step has begun: at its start, and while it writes.
        for (step, pause) in [
            ("virtio-system", 0), ("virtio-system", 400_000), ("virtio-system", 1_200_000), ("virtio-disk", 0),
            ("virtio-disk", 150_000),
        ] {
            let log = try File("\(folder)/log", O_RDWR | O_CREAT | O_TRUNC)
            let build = try Command(program, arguments("\(folder)/out", ["--explain"]), environment: home).start(
                output: log)
            func hasBegun() throws -> Bool {
                String(decoding: try log.readAll(), as: UTF8.self).contains("\(step): runs because")
            }
            #expect(try Wait.until(120, every: 0.002) { try hasBegun() || build.poll() != nil })
            usleep(UInt32(pause))
            kill(build.pid, signal)
            #expect(Wait.until(60, every: 0.005) { build.poll() != nil })
            #expect(build.poll() == 128 + signal, "\(step) after \(pause) µs")
            try afterEach()
        }
    }

    @Test func warmBuildNeedsNoNetworkAndAnUnchangedOneRunsNothing() throws {
        try warm()
        let first = try Command(
            "unshare", ["-rn", program] + arguments("\(folder)/out", ["--explain"]), environment: home
        ).check()
        #expect(first.errorText.contains("virtio-system: runs because it was not built here before"))
        let again = try Command(program, arguments("\(folder)/out", ["--explain"]), environment: home)
            .check()
        #expect(again.errorText.contains("virtio-system: unchanged\nvirtio-disk: unchanged\n"))
        // Only the modified output and those that depend on it are built again.
        try FileSystem.remove("\(folder)/out/lab-minimal/lab-minimal.raw")
        let third = try Command(program, arguments("\(folder)/out", ["--explain"]), environment: home)
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
        try FileSystem.replace(yaml, with: text + "\nfiles:\n  /etc/motd: {content: hello}\n")
        var environment = home
        environment["XDG_CACHE_HOME"] = "\(folder)/cache"
        let said = try Command(
            program, arguments("\(folder)/out", [], images: images), environment: environment
        ).check().errorText
        #expect(said.contains("virtio-system"))
        // Conversely, a .deb with the wrong SHA-256 is detected, and fetched again by the next
        // build.
        try Command("rm", ["-rf", "\(folder)/cache/vcpe/packages"]).check()
        let refused = try Command(
            program, arguments("\(folder)/other", [], images: images), environment: environment
        ).run()
        #expect(refused.status == 1 && refused.errorText.contains("had the wrong SHA-256 and was removed"))
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
        try endBuilds(by: SIGINT) {
            for place in ["\(folder)/out/lab-minimal", "\(folder)/out/lab-minimal/.steps"] {
                let names = try FileSystem.list(place)
                #expect(names.filter { $0.hasPrefix(FileSystem.temporaryPrefix) } == [])
                #expect(!names.contains("lab-minimal.raw"))
            }
        }
    }

    /// By the validator that the SPDX project publishes.
    @Test func billOfMaterialsSatisfiesItsValidator() throws {
        try warm()
        let python = try PythonEnvironment("spdx", ["spdx-tools==0.8.3"])
        let bill = "\(folder)/warm/lab-minimal/lab-minimal.spdx.json"
        let result = try Command(python.program("pyspdxtools"), ["-i", bill]).run()
        #expect(result.status == 0, "\(result.errorText.suffix(2000))")
        #expect(String(decoding: try FileSystem.read(bill), as: UTF8.self).contains("\"name\": \"systemd-boot-efi\""))
    }

    @Test func twoBuildsAtOnceMakeTheSame() throws {
        try warm()
        let log = try File("\(folder)/log", O_RDWR | O_CREAT)
        let command = Command(program, arguments("\(folder)/out", []), environment: home)
        let both = [try command.start(output: log), try command.start(output: log)]
        while both.contains(where: { $0.poll() == nil }) { usleep(20_000) }
        let said = String(decoding: try log.readAll(), as: UTF8.self)
        #expect(both.map { $0.poll() } == [0, 0], "\(said)")
        #expect(try digests("\(folder)/out") == digests("\(folder)/warm"))
    }

    @Test func killedBuildLeavesNothingHalfMade() throws {
        try warm()
        try endBuilds(by: SIGKILL) {}
        let command = Command(program, arguments("\(folder)/out", []), environment: home)
        try command.check()
        #expect(try digests("\(folder)/out") == digests("\(folder)/warm"))
        let rest = try FileSystem.list("\(folder)/out/lab-minimal").filter {
            $0.contains(".raw.") || $0.hasSuffix(".new")
        }
        #expect(rest == [])
    }
}

/// What takes minutes: both builds are of everything that runs on the box.
@Suite(.serialized) struct BuildTorture {
    /// The same wherever, whenever and under whatever mask they are built.
    @Test func boxsExecutables() throws {
        let base = try BuildTests()
        func build(_ folder: String, umask: String, zone: String) throws -> [Digest] {
            try FileSystem.makeDirectory(folder)
            for name in ["Package.swift", "ci", "Sources"] {
                try Command("cp", ["-r", "\(BuildTests.repository)/\(name)", folder]).check()
            }
            var environment = base.home
            environment["TZ"] = zone
            environment["PATH"] = getenv("PATH").map { String(cString: $0) }
            try Command("sh", ["-c", "umask \(umask); exec '\(folder)/ci/box'"], environment: environment).check()
            return try ["vcpe-init", "vcpe-box", "vcpe-updater"].map {
                SHA256.hash(try FileSystem.read("\(folder)/.build/box/\($0)"))
            }
        }
        let one = try build("\(base.folder)/one", umask: "022", zone: "UTC")
        #expect(try build("\(base.folder)/two/deeper", umask: "077", zone: "Asia/Tokyo") == one)
        try Torture.note("the box's executables, built elsewhere and otherwise", checked: one.count, failed: 0)
    }
}
