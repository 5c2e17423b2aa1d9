import Documents
import Files
import Glibc
import ImageBuilder
import Processes
import TestSupport
import Testing

/// `vcpe lock` of definitions with archives, own .debs and removals.
@Suite(.serialized) struct LockTests {
    private let fixture: LockFixture
    private var images: String { fixture.images }

    init() throws { fixture = try LockFixture() }

    private func row(_ name: String, _ lock: Lock, sourceLocation: SourceLocation = #_sourceLocation) throws -> String {
        let row = try #require(lock.packages.first { $0.name == name }, sourceLocation: sourceLocation)
        return "\(row.version) \(row.archive)"
    }

    // MARK: - The cache

    /// apt checks an index when it fetches it, and believes it later: an attacker who can write to
    /// the cache gets another package into the next lock.
    @Test func aPoisonedIndexChangesNoLock() throws {
        try fixture.mirror.add([fixture.package("tool", "1.0")])
        try fixture.define("packages: [tool]\n")
        let before = try fixture.lock()
        let tool = try #require(before.packages.first { $0.name == "tool" })
        let evil = String(repeating: "e", count: 64)
        let script = """
            cd '\(fixture.folder)/cache/vcpe/apt'/*
            for list in $(grep -l \(tool.digest.hex) lists/*_Packages); do
                cp -p "$list" old; sed -i 's/\(tool.digest.hex)/\(evil)/' "$list"; touch -r old "$list"; echo "$list"
            done
            rm -f *pkgcache.bin; echo evil > etc/trusted.gpg.d/evil.asc; echo 'Package: *' > etc/preferences.d/evil
            """
        #expect(try Command("bash", ["-ec", script]).check().text.split(separator: "\n").count == 1)
        let after = try fixture.lock()
        #expect(after.packages.first { $0.name == "tool" } == tool)
        let left = try Command("find", ["\(fixture.folder)/cache/vcpe/apt", "-name", "*evil*"]).check().text
        #expect(left == "")
    }

    // MARK: - Archives

    /// Backports come from Debian's own mirror: the URL alone does not tell which archive has a
    /// package.
    @Test func aPinTakesPackagesFromBackportsAndTheLockNamesThem() throws {
        let mirror = fixture.mirror
        try mirror.add([
            fixture.package("tool", "1.0"), fixture.package("other", "1.0"), fixture.package("third", "1.0"),
        ])
        try mirror.write(
            .init("trixie-backports", label: "Debian Backports", isNotAutomatic: true),
            [fixture.package("tool", "2.0~bpo"), fixture.package("other", "2.0~bpo")])
        let archives = "archives:\n  - suites: [trixie-backports]\n"
        try fixture.define("packages: [tool, other, third]\n\(archives)")
        var lock = try fixture.lock()
        #expect(try row("tool", lock) == "1.0 main" && row("other", lock) == "1.0 main")
        try fixture.define("packages: [tool, other, third]\n\(archives)    pin: {packages: [tool], priority: 990}\n")
        lock = try fixture.lock()
        #expect(try row("tool", lock) == "2.0~bpo trixie-backports")
        #expect(try row("other", lock) == "1.0 main" && row("third", lock) == "1.0 main")
        #expect(try row("netbase", lock).hasSuffix(" main"))
        #expect(lock.dates.keys.sorted() == ["trixie", "trixie-backports", "trixie-security", "trixie-updates"])
        // An image has that version; the build knows the archive's address from its name.
        let tool = try #require(lock.packages.first { $0.name == "tool" })
        try FileSystem.remove(Cache.standard.package(tool.digest))
        #expect(try fixture.manifest().contains("\npackage tool 2.0~bpo "))
    }

    /// Without a server's name, as all archives of files, and with one archive below another's
    /// address.
    @Test func aPinSelectsAllSuitesOfItsArchiveAndNoOtherArchive() throws {
        let mirror = fixture.mirror
        try mirror.add(["tool", "more", "plain"].map { try fixture.package($0, "1.0") })
        for (suite, names) in [("stable", ["tool", "plain"]), ("extra", ["more"])] {
            try mirror.write(
                .init(suite, archive: "debian/vendor", origin: "Vendor", label: "Vendor"),
                try names.map { try fixture.package($0, "3.0") })
        }
        func define(_ pin: String) throws {
            try fixture.define(
                """
                packages: [tool, more, plain]
                archives:
                  - name: vendor
                    uris: ["\(mirror.url("debian/vendor"))"]
                    suites: [stable, extra]
                    signed-by: keyring.gpg
                    pin: \(pin)

                """)
        }
        try define("100")
        var lock = try fixture.lock()
        for name in ["tool", "more", "plain"] { #expect(try row(name, lock) == "1.0 main") }
        try define("{packages: [tool, more], priority: 600}")
        lock = try fixture.lock()
        #expect(try row("tool", lock) == "3.0 vendor" && row("more", lock) == "3.0 vendor")
        try define("-1")
        lock = try fixture.lock()
        for name in ["tool", "more", "plain"] { #expect(try row(name, lock) == "1.0 main") }
        #expect(try row("netbase", lock).hasSuffix(" main"))
    }

    /// `--snapshot` looks for the dates in Debian's archives.
    @Test func aLockHasTheDatesOfDebiansSuitesThoughAnotherArchiveHasOneOfTheSameName() throws {
        let mirror = fixture.mirror
        try mirror.add([fixture.package("tool", "1.0")])
        try mirror.write(
            .init("trixie", archive: "vendor", origin: "Vendor", label: "Vendor", date: "2 days ago"),
            [fixture.package("tool", "3.0")])
        try fixture.define(
            """
            packages: [tool]
            archives: [{name: vendor, uris: ["\(mirror.url("vendor"))"], suites: [trixie], signed-by: keyring.gpg}]

            """)
        let date = try fixture.lock().dates["trixie"].flatMap { SnapshotTime.seconds($0) }
        #expect((date ?? 0) > time(nil) - 86_400)
    }

    @Test func ownDebsWinAgainstDebiansButPinNoOtherArchiveOfFiles() throws {
        let mirror = fixture.mirror
        try mirror.add([fixture.package("tool", "1.0"), fixture.package("other", "1.0")])
        try mirror.write(
            .init("stable", archive: "vendor", origin: "Vendor", label: "Vendor"), [fixture.package("other", "0.5")])
        try fixture.deb("tool", version: "0.1")
        try fixture.define(
            """
            packages: [tool, other]
            debs: [debs/]
            archives: [{name: vendor, uris: ["\(mirror.url("vendor"))"], suites: [stable], signed-by: keyring.gpg}]

            """)
        let lock = try fixture.lock()
        #expect(try row("tool", lock) == "0.1 debs")
        #expect(try row("other", lock) == "1.0 main")
        #expect(lock.packages.first { $0.name == "tool" }?.path == "debs/tool.deb")
    }

    @Test func anArchiveWithAnotherKeyIsRefused() throws {
        let other = try DebianMirror(in: "\(fixture.folder)/other")
        try Command("cp", [other.keyring, "\(images)/keyring.gpg"]).check()
        try fixture.define("")
        let result = try fixture.vcpe(["lock", "own"])
        // Of the key, gpgv and sqv say it in words of their own.
        #expect(result.status == 1 && result.errorText.contains("is not signed"), "\(result.errorText)")
    }

    // MARK: - Removals and users

    @Test func aPackageTakenOutIsMissingThoughOthersDependOnIt() throws {
        try fixture.deb("app", fields: "Depends: helper, netbase\n")
        try fixture.deb("helper", scripts: ["postinst": "echo x > /usr/share/helper/made"])
        try fixture.define("packages: [app, -helper]\ndebs: [debs/]\n")
        let lock = try fixture.lock()
        let image = Set((lock.sections["virtio"] ?? []).map(\.name))
        #expect(image.contains("app") && image.contains("netbase") && !image.contains("helper"))
        // Scripts run with all dependencies installed, as on Debian.
        #expect(lock.sections[Lock.reference]?.contains { $0.name == "helper" } == true)
        let manifest = try fixture.manifest()
        #expect(manifest.contains(" /usr/share/app/version\n") && !manifest.contains("/usr/share/helper"))
    }

    @Test func sysusersOfTreesGetNumbersThatStay() throws {
        let declarations = "\(images)/overlay/usr/lib/sysusers.d"
        try FileSystem.makeDirectory(declarations)
        try FileSystem.makeDirectory("\(images)/overlay/usr/lib/tmpfiles.d")
        try FileSystem.replace("\(declarations)/app.conf", with: "u app - \"The app\" /var/lib/app\nm app logs\n")
        try FileSystem.replace(
            "\(images)/overlay/usr/lib/tmpfiles.d/app.conf", with: "d /var/lib/app 0750 app logs\n")
        try fixture.define("trees: [overlay/]\n")
        let first = try fixture.lock()
        let (user, group) = (try #require(first.users["app"]), try #require(first.groups["logs"]))
        #expect((100...999).contains(user) && (100...999).contains(group))
        let line = try fixture.manifest().split(separator: "\n").first { $0.hasSuffix(" /var/lib/app") }
        #expect(line?.hasPrefix("folder 750 \(user):\(group) ") == true, "\(line ?? "")")
        // A further user takes another number.
        try FileSystem.replace("\(declarations)/aaa.conf", with: "u aaa -\n")
        let second = try fixture.lock()
        #expect(second.users["app"] == user && second.groups["logs"] == group)
        #expect(second.users["aaa"].map { $0 != user } == true)
    }

    // MARK: - The files and the command

    @Test func effectsEditedByHandAreAnErrorOfTheBuildAndRecordedAnew() throws {
        try fixture.deb("app", scripts: ["postinst": "echo made > /etc/made"])
        try fixture.define("packages: [app]\ndebs: [debs/]\n")
        try fixture.lock()
        let path = "\(images)/own.effects"
        let recorded = String(decoding: try FileSystem.read(path), as: UTF8.self)
        #expect(recorded.contains("/etc/made"))
        let edited = recorded.replacing("mode: \"0644\"", with: "mode: \"0666\"")
        #expect(edited != recorded)
        try FileSystem.replace(path, with: edited)
        let build = [
            "build", "own", "--output", "\(fixture.folder)/out", "--box", "\(BuildTests.repository)/.build/box",
        ]
        let refused = try fixture.vcpe(build)
        #expect(refused.status == 1)
        #expect(refused.errorText.contains("\(path) has SHA-256 "), "\(refused.errorText)")
        #expect(refused.errorText.contains("vcpe lock own"), "\(refused.errorText)")
        #expect(!FileSystem.exists("\(fixture.folder)/out/own/own.raw"))
        try fixture.lock()
        #expect(String(decoding: try FileSystem.read(path), as: UTF8.self) == recorded)
    }

    @Test func changesAreJSONOnRequest() throws {
        try fixture.deb("app", version: "1.0", scripts: ["postinst": "echo made > /etc/made"])
        try fixture.define("packages: [app]\ndebs: [debs/]\n")
        func last(_ words: [String]) throws -> JSON {
            let result = try fixture.vcpe(["lock", "own", "--json"] + words)
            #expect(result.errorText.isEmpty, "\(result.errorText)")
            let lines = result.text.split(separator: "\n")
            return try JSON.parse(try #require(lines.last).utf8)
        }
        try fixture.lock()
        try fixture.deb("app", version: "1.1", scripts: ["postinst": "echo made > /etc/other"])
        for _ in 0..<2 {
            let changes = try last(["--diff"])
            #expect(changes["event"]?.text == "done" && changes["milliseconds"]?.integer != nil)
            #expect(
                changes["packages"] == [["section": "virtio", "name": "app", "from": "1.0", "to": "1.1"]],
                "\(changes.line)")
            let effects = changes["effects"]?.list ?? []
            #expect(effects.map { $0["change"]?.text } == ["removed", "added"], "\(changes.line)")
            #expect(effects.last?["package"]?.text == "app" && effects.last?["kind"]?.text == "effect")
            #expect(effects.last?["text"]?.text?.hasPrefix("{file: /etc/other, ") == true, "\(changes.line)")
            #expect(changes["users"] == [])
        }
        #expect(try last([])["packages"]?.list?.count == 1)
        #expect(try last([])["packages"] == [])
        try fixture.define("packages: [no-such-package]\n")
        let failed = try fixture.vcpe(["lock", "own", "--json"])
        let event = try JSON.parse(try #require(failed.text.split(separator: "\n").last).utf8)
        #expect(failed.status == 1 && event["event"]?.text == "failed")
        #expect(event["problems"]?.list?.first?["line"]?.integer == 4, "\(failed.text)")
    }

    @Test func aLockThatWaitsForAnotherTellsForWhich() throws {
        try fixture.define("")
        try fixture.lock()
        let lists = "\(fixture.folder)/cache/vcpe/apt"
        let place = try #require(try FileSystem.list(lists).first { $0.hasPrefix("trixie-") })
        let ready = try File("\(fixture.folder)/ready", O_RDWR | O_CREAT)
        let other = try Command(
            "flock", ["--no-fork", "\(lists)/\(place)/lock", "sh", "-c", "echo; exec sleep 600"]
        ).start(output: ready)
        defer { other.kill() }
        #expect(try Wait.until { try ready.size() > 0 })
        let log = try File("\(fixture.folder)/log", O_RDWR | O_CREAT)
        let waiting = try fixture.command(["lock", "own"]).start(output: log)
        func said() throws -> String { String(decoding: try log.readAll(), as: UTF8.self) }
        #expect(try Wait.until { try said().contains("\n") })
        #expect(
            try said().hasPrefix("waiting for process \(other.pid) (sleep 600), which uses the same package lists\n"))
        #expect(waiting.poll() == nil)
        other.kill()
        #expect(Wait.until(120) { waiting.poll() != nil })
        let all = try said()
        #expect(waiting.poll() == 0 && all.hasSuffix("nothing changed\n"), "\(all)")
    }
}
