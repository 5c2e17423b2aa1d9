import Digests
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

    @Test func hugeDefinitionIsRefusedQuickly() throws {
        let images = try definition(Self.good)
        try File("\(images)/box.yaml", O_RDWR).resize(to: 100 << 20)
        let result = try vcpe("build", "box", "--images", images)
        #expect(result.status == 1)
        #expect(result.errorText.contains("box.yaml") && result.errorText.contains("4"), "\(result.errorText)")
    }

    @Test func missingAndStaleLocksSayWhatToDo() throws {
        let images = try definition(Self.good)
        #expect(try vcpe("build", "box", "--images", images).errorText.contains("try: vcpe lock box"))
        let lock = String(decoding: try FileSystem.read("\(Self.repository)/images/lab-minimal.lock"), as: UTF8.self)
        try FileSystem.replace("\(images)/box.lock", with: lock)
        let stale = try vcpe("build", "box", "--images", images).errorText
        #expect(stale.contains("e2fsprogs is in the lock and no longer wanted"), "\(stale)")
        try FileSystem.replace("\(images)/box.lock", with: lock.replacing("e2fsprogs", with: "e3fsprogs"))
        #expect(try vcpe("build", "box", "--images", images).errorText.contains("edited by hand"))
    }

    @Test func runAndFlashRefuseWhatCantWork() throws {
        #expect(try vcpe("run", "box", "--output", folder).errorText.contains("try: vcpe build box"))
        try FileSystem.makeDirectory("\(folder)/box")
        try FileSystem.replace("\(folder)/box/box.raw", with: "x")
        try FileSystem.replace("\(folder)/box/box.manifest", with: "image box 1 virtio\n")
        #expect(
            try vcpe("flash", "box", "--output", folder, "--to", "/dev/null").errorText.contains("is no block device"))
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

    @Test func programsBlockNoSignals() throws {
        var (all, before) = (sigset_t(), sigset_t())
        sigfillset(&all)
        pthread_sigmask(SIG_SETMASK, &all, &before)
        defer { pthread_sigmask(SIG_SETMASK, &before, nil) }
        #expect(try Command("grep", ["SigBlk", "/proc/self/status"]).run().text == "SigBlk:\t0000000000000000\n")
    }
}
