import Digests
import Documents
import Files
import Glibc
import Processes
import Testing

/// The command as its user has it: arguments in; files, messages and exit codes out.
@Suite final class CommandTests {
    let folder: String

    init() throws { folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-command") }

    deinit { try? FileSystem.remove(folder) }

    static let repository = "/" + #filePath.split(separator: "/").dropLast(3).joined(separator: "/")

    /// The executable that stands beside the tests'.
    static var program: String {
        get throws {
            for name in ["debug", "release"] where FileSystem.exists("\(repository)/.build/\(name)/vcpe") {
                return "\(repository)/.build/\(name)/vcpe"
            }
            throw SystemError("open", "\(repository)/.build/debug/vcpe", code: ENOENT)
        }
    }

    func vcpe(_ arguments: String..., environment: [String: String] = [:]) throws -> Command.Result {
        var environment = environment
        environment["HOME"] = environment["HOME"] ?? folder
        return try Command(Self.program, arguments, environment: environment).run()
    }

    /// A folder of definitions with one of its own.
    func definition(_ text: String, name: String = "box") throws -> String {
        let images = "\(folder)/images"
        try FileSystem.makeDirectory("\(images)/profiles")
        try FileSystem.replace(
            "\(images)/profiles/virtio.yaml",
            with: try FileSystem.read("\(Self.repository)/images/profiles/virtio.yaml"))
        try FileSystem.replace("\(images)/\(name).yaml", with: text)
        return images
    }

    static let good = """
        name: box
        version: "1"
        base: {suite: trixie, architecture: amd64}
        profiles: [virtio]

        """

    @Test func everyCommandTeachesWhatItDoes() throws {
        for command in ["lock", "build", "test", "run", "flash", "site", "cache", "diff"] {
            let help = try vcpe(command, "--help")
            #expect(help.status == 0)
            #expect(help.text.contains("OVERVIEW:") && help.text.contains("USAGE: vcpe \(command)"))
        }
        #expect(try vcpe("bild").status == 64)
        #expect(try vcpe("help", "build").status == 0)
        #expect(try vcpe("release").text.contains("SUBCOMMANDS:"))
    }

    @Test func everyProblemOfADefinitionIsShownAtOnce() throws {
        let images = try definition(
            """
            name: box
            version: "1"
            base: {suite: trixi, architecture: amd64}
            profiles: [virtio]
            packges: [nftables]
            partitions:
              root: 3 bytes
            files:
              /etc/../passwd: {content: x}
              /etc/motd: {content: a, link: b}
            services:
              web: {command: [nginx]}
            debug: yes

            """)
        let result = try vcpe("build", "box", "--images", images)
        #expect(result.status == 1)
        let expected = [
            "box.yaml:3:15: base.suite: found \"trixi\"; did you mean trixie?",
            "box.yaml:5:1: packges: unknown key; did you mean packages?",
            "box.yaml:7:9: partitions.root: found \"3 bytes\"", "/etc/../passwd: found",
            "files./etc/motd: content and link together", "services.web.command: \"nginx\" is not an absolute path",
            "box.yaml:13:8: debug: found \"yes\"; allowed is true or false",
        ]
        for text in expected { #expect(result.errorText.contains(text), "\(text)\n\(result.errorText)") }
        #expect(!FileSystem.exists("out/box"))
    }

    @Test func unknownNamesAreAnsweredWithTheNearOnes() throws {
        let images = try definition(Self.good.replacing("[virtio]", with: "[virtoi]"))
        #expect(try vcpe("build", "boxx", "--images", images).errorText.contains("vcpe … box"))
        let profile = try vcpe("build", "box", "--images", images).errorText
        #expect(profile.contains("box.yaml:4:12") && profile.contains("did you mean virtio?"))
        let extends = try definition("extends: bxo\n" + Self.good, name: "box")
        #expect(try vcpe("build", "box", "--images", extends).errorText.contains("did you mean box?"))
        let circle = try definition("extends: box\n" + Self.good, name: "box")
        #expect(try vcpe("build", "box", "--images", circle).errorText.contains("extends itself"))
    }

    @Test(arguments: [
        "a: &a [x]\nb: *a\nc: *nothing\n", "\u{0}\u{1}binary", "- 1\n- 2\n", "name: [\n", "a: 1\na: 2\n", "",
        "&a a: *a\n", String(repeating: "[", count: 1000),
    ])
    func yamlOfAllWrongKindsIsAnErrorWithAPlace(text: String) throws {
        let images = try definition(text)
        let result = try vcpe("build", "box", "--images", images)
        #expect(result.status == 1)
        #expect(result.errorText.contains("box.yaml:"), "\(result.errorText)")
    }

    /// In less processor time than reading its nodes would take, however busy the host is.
    @Test func hugeDefinitionIsRefusedQuickly() throws {
        let images = try definition(Self.good + "packages:\n")
        try Command("sh", ["-ec", "yes '  - some-package' | head -c 100M >> '\(images)/box.yaml'"]).check()
        let result = try Command(
            "prlimit", ["--cpu=2", try Self.program, "build", "box", "--images", images], environment: ["HOME": folder]
        ).run()
        #expect(result.status == 1)
        #expect(
            result.errorText.hasPrefix("error: \(images)/box.yaml:1:1: ") && result.errorText.contains(" 4194304 "),
            "\(result.errorText)")
    }

    @Test func missingAndStaleLocksSayWhatToDo() throws {
        let images = try definition(Self.good)
        #expect(try vcpe("build", "box", "--images", images).errorText.contains("try: vcpe lock box"))
        let lock = String(decoding: try FileSystem.read("\(Self.repository)/images/lab-minimal.lock"), as: UTF8.self)
        try FileSystem.replace("\(images)/box.lock", with: lock)
        let stale = try vcpe("build", "box", "--images", images).errorText
        #expect(stale.contains("virtio: the lock has e2fsprogs, the definition no longer requires it"), "\(stale)")
        try FileSystem.replace("\(images)/box.lock", with: lock.replacing("e2fsprogs", with: "e3fsprogs"))
        #expect(try vcpe("build", "box", "--images", images).errorText.contains("edited by hand"))
    }

    @Test func runAndFlashRefuseWhatCantWork() throws {
        #expect(try vcpe("run", "box", "--output", folder).errorText.contains("try: vcpe build box"))
        #expect(
            try vcpe("flash", "box", "--output", folder, "--to", "/dev/null").errorText
                .contains("is not a block device"))
        let noQEMU = try vcpe("run", "box", "--output", folder, environment: ["PATH": "/nonexistent"])
        #expect(noQEMU.errorText.contains("apt-get install qemu-system-x86"))
    }

    @Test func cacheIsShownAndPruned() throws {
        try FileSystem.makeDirectory("\(folder)/cache/vcpe/debs")
        let name = "\(folder)/cache/vcpe/debs/\(SHA256.hash([]).hex).deb"
        try FileSystem.replace(name, with: [UInt8](repeating: 1, count: 8192))
        let environment = ["XDG_CACHE_HOME": "\(folder)/cache"]
        #expect(try vcpe("cache", environment: environment).text.contains("debs        1 files, 8.2 kB"))
        #expect(try vcpe("cache", "--prune", environment: environment).text == "freed 0 B\n")
        #expect(FileSystem.exists(name))
        #expect(try vcpe("cache", "--prune", "--days", "0", environment: environment).text == "freed 8.2 kB\n")
        #expect(!FileSystem.exists(name))
    }

    /// A command that waits for a program of its own: apt-config, which is one that never ends
    /// here.
    private func waitingCommand() throws -> (vcpe: RunningProcess, child: pid_t) {
        let images = try definition(Self.good)
        try FileSystem.makeDirectory("\(folder)/bin")
        try FileSystem.remove("\(folder)/pid")
        try FileSystem.replace(
            "\(folder)/bin/apt-config", with: "#!/bin/sh\necho $$ > \(folder)/pid\nexec sleep 600\n", mode: 0o755)
        let command = Command(
            try Self.program, ["lock", "box", "--images", images],
            environment: ["HOME": folder, "PATH": "\(folder)/bin:/usr/bin:/bin"])
        let vcpe = try command.start(output: File("\(folder)/log", O_RDWR | O_CREAT))
        var child: pid_t?
        for _ in 0..<1000 where child == nil {
            usleep(10_000)
            let text = (try? FileSystem.read("\(folder)/pid")).map { String(decoding: $0, as: UTF8.self) } ?? ""
            if text.hasSuffix("\n") { child = pid_t(text.dropLast()) }
        }
        guard let child else { throw SystemError("open", "\(folder)/pid", code: ENOENT) }
        return (vcpe, child)
    }

    @Test(arguments: [SIGTERM, SIGINT, SIGHUP, SIGKILL])
    func aSignalToTheCommandAloneEndsItsPrograms(number: Int32) throws {
        let (vcpe, child) = try waitingCommand()
        #expect(kill(child, 0) == 0)
        kill(vcpe.pid, number)
        for _ in 0..<500 where vcpe.poll() == nil { usleep(10_000) }
        #expect(vcpe.poll() == 128 + number)
        // It may be a zombie until its new parent has taken note of its end.
        func isAlive() -> Bool {
            let state = (try? File("/proc/\(child)/stat").read(200, at: 0)).map { String(decoding: $0, as: UTF8.self) }
            return state.map { !$0.contains(") Z ") } ?? false
        }
        for _ in 0..<500 where isAlive() { usleep(10_000) }
        #expect(!isAlive())
        kill(child, SIGKILL)
    }

    @Test func unknownImagesAreNotOfferedSiteDocuments() throws {
        let images = try definition(Self.good)
        try FileSystem.replace("\(images)/box.site.yaml", with: "lan: {}\n")
        let said = try vcpe("build", "other", "--images", images).errorText
        #expect(said.contains("known are box\n") || said.hasSuffix("known are box"), "\(said)")
    }

    @Test func aFailedBuildIsAnEventWithItsPlace() throws {
        let images = try definition(Self.good + "packges: []\n")
        let result = try vcpe("build", "box", "--images", images, "--json")
        #expect(result.status == 1)
        let last = try JSON.parse(try #require(result.text.split(separator: "\n").last).utf8)
        #expect(last["event"]?.text == "failed")
        let problem = try #require(last["problems"]?.list?.first)
        #expect(problem["file"]?.text == "\(images)/box.yaml" && problem["line"]?.integer == 5)
        #expect(problem["path"]?.text == "packges")
        let missing = try vcpe("build", "other", "--images", images, "--json")
        let event = try JSON.parse(try #require(missing.text.split(separator: "\n").last).utf8)
        #expect(event["event"]?.text == "failed" && event["message"]?.text?.contains("other") == true)
    }

    @Test func buildsAreComparedByManifestFolderAndName() throws {
        for (name, text) in [("a", "one"), ("b", "two")] {
            let place = "\(folder)/\(name)/box/box"
            try FileSystem.makeDirectory("\(folder)/\(name)/box")
            var lines = "image box 1 virtio\nroot-hash 00\n"
            for (output, algorithm) in [("root", "sha256"), ("efi", "sha256"), ("raw", "sparse-sha256")] {
                try FileSystem.replace("\(place).\(output)", with: output == "raw" ? "" : text)
                // Of an empty file: its size alone.
                let digest = SHA256.hash(output == "raw" ? [UInt8](repeating: 0, count: 8) : Array(text.utf8))
                lines += "output \(output) \(output == "raw" ? 0 : text.utf8.count) \(algorithm) \(digest.hex)\n"
            }
            lines += "file 755 0:0 \(SHA256.hash(Array(text.utf8)).hex) 3 - one /bin/\(name)\n"
            try FileSystem.replace(
                "\(place).manifest", with: lines + "end sha256 \(SHA256.hash(Array(lines.utf8)).hex)\n")
        }
        for (one, two) in [
            ("\(folder)/a/box", "\(folder)/b/box"), ("\(folder)/a/box/", "\(folder)/b/box/box.manifest"),
        ] {
            let result = try vcpe("diff", one, two)
            #expect(result.status == 0, "\(result.errorText)")
            #expect(result.text.contains("- /bin/a") && result.text.contains("+ /bin/b"), "\(result.text)")
        }
        #expect(try vcpe("diff", "box", "\(folder)/b/box", "--output", "\(folder)/b").text == "no difference\n")
        #expect(try vcpe("diff", "other", "box", "--output", "\(folder)/b").errorText.contains("vcpe build other"))
        // A file beside a manifest that is not the manifest's.
        try FileSystem.replace("\(folder)/a/box/box.root", with: "owe")
        let damaged = try vcpe("diff", "\(folder)/a/box", "\(folder)/b/box")
        #expect(damaged.status == 1 && damaged.errorText.contains("\(folder)/a/box/box.root"), "\(damaged.errorText)")
        #expect(try vcpe("diff", "\(folder)/a/box", "\(folder)/b/box", "--manifest-only").status == 0)
    }

    @Test func pruningTellsForWhomItWaits() throws {
        try FileSystem.makeDirectory("\(folder)/cache/vcpe")
        let ready = try File("\(folder)/ready", O_RDWR | O_CREAT)
        let build = try Command(
            "flock", ["--no-fork", "--shared", "\(folder)/cache/vcpe/.lock", "sh", "-c", "echo; exec sleep 600"]
        ).start(output: ready)
        while try ready.size() == 0 { usleep(5_000) }
        let images = try definition(Self.good)
        let log = try File("\(folder)/log", O_RDWR | O_CREAT)
        let prune = try Command(
            try Self.program, ["cache", "--prune", "--images", images],
            environment: ["HOME": folder, "XDG_CACHE_HOME": "\(folder)/cache"]
        ).start(output: log)
        func said() throws -> String { String(decoding: try log.readAll(), as: UTF8.self) }
        for _ in 0..<1000 where try !said().contains("\n") { usleep(10_000) }
        let waiting = try said()
        #expect(waiting.hasPrefix("waiting for process \(build.pid) (sleep 600)"), "\(waiting)")
        #expect(prune.poll() == nil)
        build.kill()
        for _ in 0..<1000 where prune.poll() == nil { usleep(10_000) }
        #expect(prune.poll() == 0)
        #expect(try said().hasSuffix("freed 0 B\n"))
    }

    @Test func programsBlockNoSignals() throws {
        var (all, before) = (sigset_t(), sigset_t())
        sigfillset(&all)
        pthread_sigmask(SIG_SETMASK, &all, &before)
        defer { pthread_sigmask(SIG_SETMASK, &before, nil) }
        #expect(try Command("grep", ["SigBlk", "/proc/self/status"]).run().text == "SigBlk:\t0000000000000000\n")
    }
}
