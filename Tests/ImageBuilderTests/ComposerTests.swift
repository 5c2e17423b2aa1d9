import Digests
import Documents
import Files
import ImageBuilder
import Processes
import Testing

/// Packages made by dpkg-deb, composed as an image's are: what dpkg and maintainer scripts would
/// have done is done on purpose, or said.
@Suite final class ComposerTests {
    let folder: String
    let cache: Cache

    init() throws {
        folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-compose")
        cache = Cache(root: "\(folder)/cache")
        try FileSystem.makeDirectory("\(folder)/images/profiles")
        try FileSystem.replace(
            "\(folder)/images/profiles/none.yaml", with: "summary: x\nkernel: linux-image-1\nboot-modules: []\n")
    }

    deinit { try? FileSystem.remove(folder) }

    /// Makes a package of `script`, which runs in the folder that will be its tree.
    func package(_ name: String, fields: String = "", postinst: String = "", _ script: String) throws -> UnpackedPackage
    {
        let tree = "\(folder)/\(name)"
        try FileSystem.makeDirectory("\(tree)/DEBIAN")
        try FileSystem.replace(
            "\(tree)/DEBIAN/control",
            with:
                "Package: \(name)\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example.org>\n\(fields)Description: x\n"
        )
        if !postinst.isEmpty {
            try FileSystem.replace(
                "\(tree)/DEBIAN/postinst", with: "#!/bin/sh\nset -e\n\(postinst)\nexit 0\n", mode: 0o755)
        }
        try Command("sh", ["-ec", "umask 022; cd '\(tree)'; chmod 755 . DEBIAN; \(script)"]).check()
        try Command("dpkg-deb", ["--root-owner-group", "-b", tree, "\(folder)/\(name).deb"]).check()
        let bytes = try FileSystem.read("\(folder)/\(name).deb")
        let locked = LockedPackage(
            name: name, version: "1", architecture: "all", size: bytes.count, digest: SHA256.hash(bytes),
            archive: "main", path: "pool/\(name).deb")
        _ = try cache.folder("debs")
        try FileSystem.replace(cache.package(locked.digest), with: bytes)
        return try UnpackedPackage.read(locked, cache: cache)
    }

    /// - Parameter effects: as a `.effects` file has them below `effects:`.
    func compose(
        _ packages: [UnpackedPackage], definition: String = "", lock: Lock = Lock(), effects: String = "",
        diversions: String = "", alternatives: String = ""
    ) async throws -> Composer.Result {
        try FileSystem.replace(
            "\(folder)/images/box.effects",
            with: "reference: none\ndiversions: [\(diversions)]\nalternatives: [\(alternatives)]\nunresolved: []\n"
                + (effects.isEmpty ? "effects: {}\n" : "effects:\n\(effects)\n"))
        let kernel = try package("linux-image-1", "mkdir -p boot; echo kernel > boot/vmlinuz-1")
        try FileSystem.replace(
            "\(folder)/images/box.yaml",
            with: "name: box\nversion: '1'\nbase: {suite: trixie, architecture: amd64}\nprofiles: [none]\n" + definition
        )
        let read = try Definition.read("\(folder)/images/box.yaml")
        var composer = Composer(
            definition: read, profile: try HardwareProfile.read(read.profiles[0], folder: "\(folder)/images"),
            packages: packages + [kernel], lock: lock,
            effects: try #require(try Effects.read("\(folder)/images/box.effects")), folder: "\(folder)/images",
            cache: cache)
        return try await composer.compose(box: [:])
    }

    func text(_ tree: Tree, _ path: String) throws -> String? {
        guard case .file(let content)? = tree[path]?.kind else { return nil }
        return String(decoding: try content.read(), as: UTF8.self)
    }

    @Test func twoPackagesWithOneFileAreAnErrorUnlessOneReplacesTheOther() async throws {
        let a = try package("aaa", "mkdir -p usr/bin; echo a > usr/bin/tool")
        let b = try package("bbb", "mkdir -p usr/bin; echo b > usr/bin/tool")
        await #expect {
            _ = try await compose([a, b])
        } throws: { error in
            "\(error)".contains("/usr/bin/tool is in aaa and in bbb, and neither replaces the other")
        }
        let c = try package("ccc", fields: "Replaces: aaa (<< 2)\n", "mkdir -p usr/bin; echo c > usr/bin/tool")
        #expect(try text(await compose([a, c]).tree, "usr/bin/tool") == "c\n")
    }

    @Test func filesBelowTheMergedFoldersLandInUsr() async throws {
        let base = try package("base", "mkdir -p usr/bin usr/lib; ln -s usr/bin bin; ln -s usr/lib lib")
        let old = try package("old", "mkdir -p bin lib; echo x > bin/sh; echo y > lib/liby.so")
        let tree = try await compose([base, old]).tree
        #expect(try text(tree, "usr/bin/sh") == "x\n")
        #expect(try text(tree, "usr/lib/liby.so") == "y\n")
        #expect(tree["bin"]?.kind == .symbolicLink(target: "usr/bin"))
    }

    @Test func diversionsAlternativesAndCapabilitiesAreAppliedAsRecorded() async throws {
        let diverting = try package("aaa", "mkdir -p usr/bin; echo a > usr/bin/tool")
        let diverted = try package("bbb", "mkdir -p usr/bin; echo b > usr/bin/tool; ln usr/bin/tool usr/bin/twin")
        let low = try package("low", "mkdir -p usr/bin; echo low > usr/bin/mawk")
        let high = try package("high", "mkdir -p usr/bin; echo high > usr/bin/gawk; chmod 4755 usr/bin/gawk")
        let awk =
            "{alternative: awk, link: /usr/bin/awk, slaves: {nawk: /usr/bin/nawk}, candidates: [{path: /usr/bin/mawk, priority: 5}, "
            + "{path: /usr/bin/gawk, priority: 10, slaves: {nawk: /usr/bin/gawk}}]}"
        let effects = """
              high:
                - {attributes: /usr/bin/gawk, mode: "4755", owner: "root:root", capabilities: cap_net_raw=ep}
            """
        let diversion = "{path: /usr/bin/tool, to: /usr/bin/tool.bbb, package: aaa}"
        let result = try await compose(
            [diverting, diverted, low, high], effects: effects, diversions: diversion, alternatives: awk)
        #expect(try text(result.tree, "usr/bin/tool") == "a\n")
        #expect(try text(result.tree, "usr/bin/tool.bbb") == "b\n")
        #expect(result.tree["usr/bin/twin"]?.kind == .hardLink(path: "usr/bin/tool.bbb"))
        #expect(result.tree["usr/bin/awk"]?.kind == .symbolicLink(target: "/etc/alternatives/awk"))
        #expect(result.tree["etc/alternatives/awk"]?.kind == .symbolicLink(target: "/usr/bin/gawk"))
        #expect(result.tree["etc/alternatives/nawk"]?.kind == .symbolicLink(target: "/usr/bin/gawk"))
        #expect(result.tree["usr/bin/gawk"]?.mode == 0o4755)
        // linux/capability.h: revision 2, effective; cap_net_raw is bit 13.
        #expect(
            result.tree["usr/bin/gawk"]?.attributes["security.capability"]
                == [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
        // Without the better candidate the next one is taken, as update-alternatives would.
        let without = try await compose([diverting, low], alternatives: awk)
        #expect(without.tree["etc/alternatives/awk"]?.kind == .symbolicLink(target: "/usr/bin/mawk"))
        #expect(without.tree["etc/alternatives/nawk"] == nil)
    }

    @Test func recordedUsersFilesAndDirectoriesAreInTheImage() async throws {
        let daemon = try package(
            "daemon",
            "mkdir -p etc/daemon usr/share/daemon; echo secret > etc/daemon/key; echo a > usr/share/daemon/a.conf")
        var lock = Lock()
        (lock.users, lock.groups) = (["web": 417], ["web": 417, "logs": 101])
        let digest = SHA256.hash(Array("a\n".utf8)).hex
        let made = SHA256.hash(Array("one\ntwo\n".utf8)).hex
        let effects = """
              daemon:
                - {group: web}
                - {group: logs}
                - {user: web, group: web, comment: "Web, server", home: /srv/web, shell: /usr/sbin/nologin}
                - {member: web, of: logs}
                - {attributes: /etc/daemon, mode: "0750", owner: "root:web"}
                - {directory: /var/lib/daemon, mode: "2770", owner: "web:logs"}
                - {file: /etc/daemon/a.conf, mode: "0640", owner: "root:web", sha256: \(digest), copy-of: /usr/share/daemon/a.conf}
                - {file: /etc/daemon/b.conf, mode: "0644", owner: "root:root", sha256: \(made), content: "one\\ntwo\\n"}
                - {removed: /etc/daemon/key}
              absent:
                - {directory: /var/lib/absent, mode: "0755", owner: "root:root"}
            """
        let tree = try await compose([daemon], lock: lock, effects: effects).tree
        #expect(try text(tree, "etc/passwd")?.contains("web:x:417:417:Web, server:/srv/web:/usr/sbin/nologin") == true)
        #expect(try text(tree, "etc/group")?.contains("logs:x:101:web\n") == true)
        #expect(tree["etc/daemon"]?.mode == 0o750 && tree["etc/daemon"]?.gid == 417)
        #expect(tree["var/lib/daemon"]?.mode == 0o2770 && tree["var/lib/daemon"]?.uid == 417)
        #expect(tree["var/lib/daemon"]?.gid == 101)
        #expect(try text(tree, "etc/daemon/a.conf") == "a\n" && tree["etc/daemon/a.conf"]?.mode == 0o640)
        #expect(try text(tree, "etc/daemon/b.conf") == "one\ntwo\n")
        #expect(tree["etc/daemon/key"] == nil)
        #expect(tree["var/lib/absent"] == nil)
    }

    @Test func replacesCountsForTheVersionsThatItNames() async throws {
        let a = try package("aaa", "mkdir -p usr/bin; echo a > usr/bin/tool")
        let older = try package("older", fields: "Replaces: aaa (<< 1~)\n", "mkdir -p usr/bin; echo c > usr/bin/tool")
        await #expect {
            _ = try await compose([a, older])
        } throws: { "\($0)".contains("/usr/bin/tool is in aaa and in older") }
    }

    @Test func versionsAreInDebiansOrder() throws {
        // dpkg itself is the oracle.
        let versions = [
            "1.0", "1.0~rc1", "1.0-1", "1.0+b1", "1:0.9", "1.10", "1.9", "1.0a", "1.0-1~", "2", "1.0.0", "1.0-01",
        ]
        for a in versions {
            for b in versions {
                let isLess = try Command("dpkg", ["--compare-versions", a, "lt", b]).run().status == 0
                #expect((DebianVersion(a) < DebianVersion(b)) == isLess, "\(a) \(b)")
            }
        }
    }

    @Test func packagesFollowLinksToDirectoriesAsDpkgDoes() async throws {
        let linking = try package(
            "aaa", "mkdir -p usr/share/real; ln -s real usr/share/thing; echo a > usr/share/real/a")
        let below = try package("bbb", "mkdir -p usr/share/thing; echo b > usr/share/thing/inside")
        let tree = try await compose([linking, below]).tree
        #expect(try text(tree, "usr/share/real/inside") == "b\n")
        #expect(tree["usr/share/thing"]?.kind == .symbolicLink(target: "real"))
    }

    @Test func temporaryFilesAndUnitDirectoriesAreThereAtBoot() async throws {
        let daemon = try package(
            "daemon",
            """
            mkdir -p usr/lib/tmpfiles.d usr/lib/sysusers.d usr/lib/systemd/system usr/share/factory/etc
            echo 'u svc 77 "A service"' > usr/lib/sysusers.d/svc.conf
            printf 'd /run/svc 0750 svc svc - -\nf /var/lib/svc.state 0600 svc - - two words\nL /etc/link - - - - ../usr/x\n' \
                > usr/lib/tmpfiles.d/svc.conf
            printf 'd /var/run/legacy 1777 root root 10d\nC /etc/factory.conf\nw /sys/x - - - - 1\nd /run/%%m 0755\n' \
                >> usr/lib/tmpfiles.d/svc.conf
            echo factory > usr/share/factory/etc/factory.conf
            printf '[Service]\nUser=svc\nRuntimeDirectory=svc-run svc-two:link\nRuntimeDirectoryMode=0700\nStateDirectory=svc\n' \
                > usr/lib/systemd/system/svc.service
            """)
        let result = try await compose([daemon])
        let tree = result.tree
        #expect(tree["run/svc"]?.mode == 0o750 && tree["run/svc"]?.uid == 77)
        #expect(try text(tree, "var/lib/svc.state") == "two words" && tree["var/lib/svc.state"]?.mode == 0o600)
        #expect(tree["etc/link"]?.kind == .symbolicLink(target: "../usr/x"))
        #expect(tree["run/legacy"]?.mode == 0o1777)
        #expect(try text(tree, "etc/factory.conf") == "factory\n")
        #expect(tree["run/svc-run"]?.mode == 0o700 && tree["run/svc-two"]?.uid == 77)
        #expect(tree["var/lib/svc"]?.kind == .directory && tree["var/lib/svc"]?.mode == 0o755)
        #expect(result.remarks.count == 2, "\(result.remarks)")
    }

    @Test func sysusersReadsItsWholeGrammar() async throws {
        let users = try package(
            "users",
            """
            mkdir -p usr/lib/sysusers.d etc/sysusers.d usr/bin; echo x > usr/bin/owned
            printf 'u first 401:last "One"\ng last 402\nu! locked 403 - /home/l /bin/sh\nu path /usr/bin/owned\nr - 500-900\n' \
                > usr/lib/sysusers.d/a.conf
            echo 'u masked 404' > usr/lib/sysusers.d/b.conf; echo '# nothing' > etc/sysusers.d/b.conf
            """)
        var lock = Lock()
        (lock.users, lock.groups) = (["path": 450], ["path": 450])
        let passwd = try await text(compose([users], lock: lock).tree, "etc/passwd") ?? ""
        // The group is declared after its user; systemd reads groups first, too.
        #expect(passwd.contains("first:x:401:402:One:/:/usr/sbin/nologin\n"), "\(passwd)")
        #expect(passwd.contains("locked:x:403:403::/home/l:/bin/sh\n"))
        // The owner's number is root's, which no other name has.
        #expect(passwd.contains("path:x:450:450:"), "\(passwd)")
        #expect(!passwd.contains("masked"))
    }

    /// sysusers.d(5): a line `m` creates the user and the group that it names.
    @Test func aSysusersMemberLineCreatesItsUserAndGroup() async throws {
        let users = try package(
            "users",
            "mkdir -p usr/lib/sysusers.d; printf 'm late logs\nm late adm\ng adm 4\n' > usr/lib/sysusers.d/a.conf")
        var lock = Lock()
        (lock.users, lock.groups) = (["late": 450], ["late": 450, "logs": 451])
        let tree = try await compose([users], lock: lock).tree
        let passwd = try text(tree, "etc/passwd") ?? ""
        let group = try text(tree, "etc/group") ?? ""
        #expect(passwd.contains("late:x:450:450::/:/usr/sbin/nologin\n"), "\(passwd)")
        #expect(group.contains("adm:x:4:late\n") && group.contains("logs:x:451:late\n"), "\(group)")
    }

    @Test(arguments: [
        ("u one 410\nu two 410\n", "the users two and one have the same number 410"),
        ("g one 410\ng two 410\n", "the groups two and one have the same number 410"),
        ("u zero 0\n", "the users zero and root have the same number 0"),
        // The lock's number of a name without a fixed one.
        ("u given -\nu two 450\n", "the users two and given have the same number 450"),
        ("u two 450\nu given -\n", "the users given and two have the same number 450"),
    ])
    func twoNamesWithOneNumberAreAnErrorThatNamesBoth(lines: String, message: String) async throws {
        let users = try package("users", "mkdir -p usr/lib/sysusers.d; printf '\(lines)' > usr/lib/sysusers.d/a.conf")
        var lock = Lock()
        (lock.users, lock.groups) = (["given": 450], ["given": 450])
        await #expect {
            _ = try await compose([users], lock: lock)
        } throws: { error in "\(error)".contains(message) }
    }

    /// As systemd-sysusers: the group's number is the user's, and another one where that is another
    /// group's.
    @Test func aUsersOwnGroupTakesAnotherNumberWhereItsOwnIsUsed() async throws {
        let users = try package(
            "users", "mkdir -p usr/lib/sysusers.d; printf 'g first 410\nu second 410\n' > usr/lib/sysusers.d/a.conf")
        var lock = Lock()
        lock.groups = ["second": 460]
        let tree = try await compose([users], lock: lock).tree
        #expect(try text(tree, "etc/passwd")?.contains("second:x:410:460:") == true)
        #expect(try text(tree, "etc/group")?.contains("first:x:410:") == true)
    }

    /// tmpfiles.d(5): fields and contents have C escapes; what follows the age is one argument as
    /// it is written.
    @Test func temporaryFilesHaveEscapesAndArgumentsAsWritten() async throws {
        let lines = [
            #"d /run/with\x20blank 0750"#, #"d "/run/in quotes\x21" 0755"#, #"d /run/octal\101 0755"#,
            #"f /run/content 0644 - - - one\x20two\n\ttab\101\\"#, #"f /run/quoted 0644 - - - "a"  'b'"#,
            #"f /run/snow 0644 - - - \u2603"#, #"L /run/link - - - - target\x20with blank"#,
            #"d /run/broken\q 0755"#, #"f /run/unknown 0644 - - - %b"#,
        ]
        let daemon = try package(
            "daemon",
            "mkdir -p usr/lib/tmpfiles.d; cat > usr/lib/tmpfiles.d/a.conf <<'END'\n"
                + lines.joined(separator: "\n") + "\nEND")
        let result = try await compose([daemon])
        let tree = result.tree
        #expect(tree["run/with blank"]?.mode == 0o750)
        #expect(tree["run/in quotes!"] != nil && tree["run/octalA"] != nil)
        #expect(try text(tree, "run/content") == "one two\n\ttabA\\")
        #expect(try text(tree, "run/quoted") == "\"a\"  'b'")
        #expect(try text(tree, "run/snow") == "\u{2603}")
        #expect(tree["run/link"]?.kind == .symbolicLink(target: "target with blank"))
        #expect(!tree.entries.keys.contains { $0.hasPrefix("run/broken") } && tree["run/unknown"] == nil)
        #expect(result.remarks.count == 2, "\(result.remarks)")
        #expect(result.remarks.contains { $0.contains(#"/run/broken\q"#) }, "\(result.remarks)")
    }

    /// The definition's own sysusers.d and tmpfiles.d files count as a package's do, and mask those
    /// in /usr/lib.
    @Test func sysusersAndTmpfilesOfTreesAreDone() async throws {
        let daemon = try package(
            "daemon",
            """
            mkdir -p usr/lib/sysusers.d usr/lib/tmpfiles.d
            echo 'u masked 404' > usr/lib/sysusers.d/daemon.conf
            echo 'd /run/masked 0755' > usr/lib/tmpfiles.d/daemon.conf
            """)
        try Command(
            "sh",
            [
                "-ec",
                """
                cd '\(folder)/images'; mkdir -p overlay/usr/lib/sysusers.d overlay/etc/sysusers.d overlay/etc/tmpfiles.d
                echo 'u app - "The app" /var/lib/app' > overlay/usr/lib/sysusers.d/app.conf
                echo '# nothing' > overlay/etc/sysusers.d/daemon.conf
                ln -s /dev/null overlay/etc/tmpfiles.d/daemon.conf
                echo 'd /var/lib/app 0750 app app' > overlay/etc/tmpfiles.d/app.conf
                """,
            ]
        ).check()
        var lock = Lock()
        (lock.users, lock.groups) = (["app": 450], ["app": 451])
        let tree = try await compose([daemon], definition: "trees: [overlay/]\n", lock: lock).tree
        let passwd = try text(tree, "etc/passwd") ?? ""
        #expect(passwd.contains("app:x:450:451:The app:/var/lib/app:/usr/sbin/nologin\n"), "\(passwd)")
        #expect(!passwd.contains("masked") && tree["run/masked"] == nil)
        let state = tree["var/lib/app"]
        #expect(state?.kind == .directory && state?.mode == 0o750 && state?.uid == 450 && state?.gid == 451)
    }

    @Test func programsThatCantStartAreErrorsWithThePackageThatWouldHelp() async throws {
        let scripts = try package(
            "scripts",
            "mkdir -p usr/bin usr/sbin; printf '#!/bin/sh\nexit 0\n' > usr/bin/run-me; chmod 755 usr/bin/run-me; "
                + "printf '#!/usr/bin/env -S pyth -x\n' > usr/sbin/other; chmod 755 usr/sbin/other; "
                + "printf '#!/bin/none\n' > usr/bin/data; chmod 644 usr/bin/data")
        await #expect {
            _ = try await compose([scripts])
        } throws: { error in
            let text = "\(error)"
            return text.contains(
                "/bin/sh is not in the image; needed by /usr/bin/run-me (scripts); the package dash brings it")
                && text.contains("/usr/bin/env is not in the image") && !text.contains("/bin/none")
        }
        let pruned = try await compose([scripts], definition: "prune: [scripts-without-interpreter]\n")
        #expect(pruned.tree["usr/bin/run-me"] == nil && pruned.tree["usr/bin/data"] != nil)
        #expect(pruned.leftOut["scripts"]?.byReason.keys.sorted() == ["no /bin/sh", "no /usr/bin/env"])
        let passed = try await compose([scripts], definition: "unchecked: [/usr/bin/run-me, /usr/sbin/*]\n")
        #expect(passed.tree["usr/bin/run-me"] != nil)
    }

    @Test func librariesAreFoundAsTheLoaderFindsThemAndUnusedOnesGo() async throws {
        let elf = try package(
            "elf",
            """
            mkdir -p usr/bin usr/lib/x86_64-linux-gnu/private usr/lib64; cd usr/lib/x86_64-linux-gnu
            for name in needed named unused; do
                echo "int $name(void) { return 1; }" | gcc -shared -nostdlib -Wl,-soname,lib$name.so.1 -x c - -o lib$name.so.1
            done
            echo 'int p(void) { return 2; }' | gcc -shared -nostdlib -Wl,-soname,libprivate.so.1 -x c - -o private/libprivate.so.1
            echo 'int needed(void); int p(void); const char *later = "libnamed.so.1"; int _start(void) { return needed() + p() + later[0]; }' \
                > program.c
            gcc -nostdlib -pie -fPIC program.c -o ../../bin/program -Wl,-rpath,'$ORIGIN/../lib/x86_64-linux-gnu/private' \
                -Wl,--dynamic-linker=/lib64/ld-linux-x86-64.so.2 libneeded.so.1 private/libprivate.so.1
            rm program.c
            ln -s libunused.so.1 libunused.so
            """)
        let loader = try package(
            "loader", "mkdir -p usr/lib64; echo x > usr/lib64/ld-linux-x86-64.so.2; ln -s usr/lib64 lib64")
        let whole = try await compose([elf, loader], definition: "prune: [unused-libraries]\n").tree
        let folder = "usr/lib/x86_64-linux-gnu"
        #expect(whole["\(folder)/libneeded.so.1"] != nil && whole["\(folder)/private/libprivate.so.1"] != nil)
        #expect(whole["\(folder)/libnamed.so.1"] != nil)
        #expect(whole["\(folder)/libunused.so.1"] == nil && whole["\(folder)/libunused.so"] == nil)
        let kept = try await compose(
            [elf, loader], definition: "prune: [unused-libraries]\nkeep: [/usr/lib/*/libunused*]\n"
        ).tree
        #expect(kept["\(folder)/libunused.so.1"] != nil)
        await #expect {
            _ = try await compose([elf, loader], definition: "drop: [/usr/lib/*/libneeded.so.1]\n")
        } throws: { error in
            "\(error)".contains(
                "libneeded.so.1 is not in the image; needed by /usr/bin/program (elf); drop: or files: took it out of elf"
            )
        }
    }

    @Test func keepAndDropDecideWhatIsLeftOut() async throws {
        let docs = try package(
            "docs",
            "mkdir -p usr/share/doc/docs usr/share/man/man8 etc/rclone etc/cron.d usr/bin; head -c 5000 /dev/zero > usr/share/doc/docs/x; "
                + "echo m > usr/share/man/man8/y; echo r > etc/rclone/conf; echo c > etc/cron.d/job; echo x > usr/bin/y; ln usr/bin/y usr/bin/z"
        )
        let plain = try await compose([docs])
        #expect(plain.tree["usr/share/doc/docs/x"] == nil && plain.tree["usr/share/doc"] == nil)
        // Names that only begin like a dropped directory's, and what daemons read, remain.
        #expect(plain.tree["etc/rclone/conf"] != nil && plain.tree["etc/cron.d/job"] != nil)
        #expect(plain.leftOut["docs"]?.size == 5002 && plain.leftOut["docs"]?.byReason["/usr/share/doc/"] == 5000)
        let other = try await compose(
            [docs], definition: "keep: [/usr/share/doc/docs/]\ndrop: [/usr/bin/y, /etc/cron*/, /usr/nothing]\n")
        #expect(other.tree["usr/share/doc/docs/x"] != nil)
        // The other name of the file keeps its contents.
        #expect(other.tree["usr/bin/y"] == nil)
        #expect(try text(other.tree, "usr/bin/z") == "x\n")
        #expect(other.tree["etc/cron.d"] == nil)
        #expect(other.remarks.contains { $0.contains("drop: /usr/nothing matches nothing") })
    }

    @Test func overlayTreesBringDirectoriesWithModesAndOwners() async throws {
        let base = try package("base", "mkdir -p etc usr/bin; echo x > etc/old; echo x > usr/bin/x; ln -s usr/bin bin")
        try Command(
            "sh",
            [
                "-ec",
                "cd '\(folder)/images'; mkdir -p overlay/etc/app overlay/bin; echo new > overlay/etc/old; echo k > overlay/etc/app/key; "
                    + "printf 'x' > overlay/bin/tool; chmod 700 overlay/bin/tool; ln -s ../old overlay/etc/app/link",
            ]
        ).check()
        let tree = try await compose(
            [base],
            definition: """
                users: {app: {}}
                trees:
                  - {path: overlay/, rules: {"/etc/app/key": {mode: "0400", owner: app, group: app}}}

                """,
            lock: {
                var lock = Lock(); (lock.users, lock.groups) = (["app": 500], ["app": 500]); return lock
            }()
        ).tree
        #expect(try text(tree, "etc/old") == "new\n" && tree["etc/old"]?.mode == 0o644)
        #expect(tree["etc/app/key"]?.mode == 0o400 && tree["etc/app/key"]?.uid == 500)
        #expect(tree["usr/bin/tool"]?.mode == 0o755)
        #expect(tree["etc/app/link"]?.kind == .symbolicLink(target: "../old"))
    }

    @Test func whatTheImageNeedsToBootCantBeReplaced() async throws {
        let base = try package("base", "mkdir -p usr/bin usr/sbin; printf x > usr/bin/x; chmod 755 usr/bin/x")
        let wrong = [
            "files: {/sbin/init: {absent: true}}": "is PID 1's",
            "files: {/usr/lib/vcpe/vcpe-init: {absent: true}}": "belongs to vcpe",
            "files: {/bin: {directory: true}}": "is a link to /usr/bin",
            "files: {/proc/x: {content: x}}": "is hidden on a running box",
            "files: {/data/x: {content: x}}": "is hidden on a running box",
            "services: {s: {command: [/usr/bin/gone]}}": "there is no program /usr/bin/gone",
            "services: {s: {command: [/usr/bin/x], user: nobody-here}}": "there is no user nobody-here",
        ]
        for (line, message) in wrong {
            await #expect {
                _ = try await compose([base], definition: line + "\n")
            } throws: { error in "\(error)".contains(message) && "\(error)".contains("box.yaml:5:") }
        }
    }

    @Test func usersComeFromSysusersWithTheLocksNumbers() async throws {
        let daemon = try package(
            "daemon",
            """
            mkdir -p usr/lib/sysusers.d usr/bin; echo 'u web - "Web server" /srv/web' > usr/lib/sysusers.d/daemon.conf
            echo 'g logs -' >> usr/lib/sysusers.d/daemon.conf; echo 'm web logs' >> usr/lib/sysusers.d/daemon.conf
            echo x > usr/bin/daemon; chmod 755 usr/bin/daemon
            """)
        await #expect {
            try await compose([daemon])
        } throws: { error in "\(error)".contains("no number for the system user logs, web") }
        var lock = Lock()
        (lock.users, lock.groups) = (["web": 417, "gone": 100], ["web": 417, "logs": 101])
        let result = try await compose(
            [daemon],
            definition: "services:\n  d: {command: [/usr/bin/daemon, a b], user: web}\n", lock: lock)
        #expect(
            try text(result.tree, "etc/passwd")?.contains("web:x:417:417:Web server:/srv/web:/usr/sbin/nologin") == true
        )
        #expect(try text(result.tree, "etc/group")?.contains("logs:x:101:web\n") == true)
        #expect(result.tree["etc/shadow"]?.mode == 0o640)
        #expect(
            try text(result.tree, "usr/lib/vcpe/units/d")
                == "command /usr/bin/daemon a\\ b\nuser 417\ngroup 417\ngroups 101\n")
    }

    /// ldconfig(8) of the host reads the cache, and a program finds a library in a directory of
    /// ld.so.conf(5) by it.
    @Test func librariesOfConfiguredDirectoriesAreInTheLoadersCache() async throws {
        let own = try package(
            "own",
            """
            mkdir -p usr/lib/own usr/lib/x86_64-linux-gnu usr/bin etc/ld.so.conf.d lib64
            echo /usr/lib/own > etc/ld.so.conf.d/own.conf
            echo 'int answer(void) { return 42; }' > a.c
            for i in 2 10; do gcc -shared -fPIC -Wl,-soname,libown.so.$i -o usr/lib/own/libown.so.$i.0 a.c; done
            ln -s libown.so.2.0 usr/lib/own/libown.so.2; ln -s libown.so.10.0 usr/lib/own/libown.so.10
            echo 'int answer(void); int main(void) { return answer() != 42; }' > b.c
            gcc -o usr/bin/own b.c usr/lib/own/libown.so.10.0
            cp -L /lib/x86_64-linux-gnu/libc.so.6 usr/lib/x86_64-linux-gnu/
            cp -L /lib64/ld-linux-x86-64.so.2 usr/lib/x86_64-linux-gnu/
            ln -s /usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 lib64/ld-linux-x86-64.so.2
            rm a.c b.c
            """)
        let tree = try await compose([own]).tree
        guard case .file(let content)? = tree["etc/ld.so.cache"]?.kind else {
            Issue.record("there is no cache")
            return
        }
        let cache = try content.read()
        try FileSystem.replace("\(folder)/ld.so.cache", with: cache)
        let listed = try Command("/sbin/ldconfig", ["-p", "-C", "\(folder)/ld.so.cache"]).check().text
        let lines = listed.split(separator: "\n").dropFirst().map { $0.drop { $0 == "\t" || $0 == " " } }
        #expect(
            lines.filter { $0.hasPrefix("libown") } == [
                "libown.so.10.0 (libc6,x86-64) => /usr/lib/own/libown.so.10.0",
                "libown.so.10 (libc6,x86-64) => /usr/lib/own/libown.so.10",
                "libown.so.2.0 (libc6,x86-64) => /usr/lib/own/libown.so.2.0",
                "libown.so.2 (libc6,x86-64) => /usr/lib/own/libown.so.2",
            ], "\(listed)")
        #expect(lines.contains { $0.hasPrefix("libc.so.6 ") })
        // The loader itself: in a root that has the image's files.
        let root = "\(folder)/root"
        try FileSystem.makeDirectory("\(root)/etc")
        for name in ["usr", "lib64"] { try Command("cp", ["-a", "\(folder)/own/\(name)", root]).check() }
        let run = Command("unshare", ["--user", "--map-root-user", "--root", root, "/usr/bin/own"])
        #expect(try run.run().status == 127, "without the cache the loader does not find it")
        try FileSystem.replace("\(root)/etc/ld.so.cache", with: cache)
        #expect(try run.run().status == 0)
    }

    @Test func writableDirectoriesAreListedForPIDOne() async throws {
        let base = try package("base", "mkdir -p etc/app; echo x > etc/app/x")
        let tree = try await compose([base], definition: "writable: [/etc/app]\n").tree
        #expect(try text(tree, "usr/lib/vcpe/writable") == "/etc/app\n")
        for (path, message) in ["/etc/none": "is not a directory", "/usr/bin": "allowed is", "/etc": "allowed is"] {
            await #expect {
                _ = try await compose([base], definition: "writable: [\(path)]\n")
            } throws: { error in "\(error)".contains(message) && "\(error)".contains("box.yaml:5:") }
        }
    }

    @Test func servicesAreTakenFromSystemdUnits() async throws {
        let daemon = try package(
            "daemon",
            """
            mkdir -p usr/lib/sysusers.d usr/sbin usr/libexec etc/default usr/lib/systemd/system/web.service.d
            printf 'u web -\\ng logs -\\nm web logs\\n' > usr/lib/sysusers.d/daemon.conf
            printf '# comment\\nOPTIONS="-a  b" \\nLEVEL=2\\n' > etc/default/web
            for name in sbin/web libexec/prepare sbin/pppd; do echo x > usr/$name; chmod 755 usr/$name; done
            cat > usr/lib/systemd/system/web.service <<'END'
            [Unit]
            Description=x
            After=network-online.target dialler.service
            ConditionPathExists=!/etc/web/off
            [Service]
            Type=forking
            PIDFile=web.pid
            EnvironmentFile=-/etc/default/none
            EnvironmentFile=/etc/default/web
            Environment="GREETING=hello there" COLOUR=red
            ExecStartPre=-+/usr/libexec/prepare \\
                --in ${STATE_DIRECTORY}
            ExecStart=
            ExecStart=@/usr/sbin/web other-name $OPTIONS --level=${LEVEL} --cost=$$5 'two words' $NONE %p
            User=web
            RuntimeDirectory=web
            RuntimeDirectoryMode=0750
            StateDirectory=web
            AmbientCapabilities=CAP_NET_BIND_SERVICE CAP_NET_RAW
            LimitNOFILE=1024:4096
            Restart=on-abnormal
            TimeoutStopSec=1min 5s
            KillSignal=SIGQUIT
            UMask=0027
            ProtectSystem=strict
            ExecStartPost=-/usr/libexec/prepare --out
            ExecStopPost=/bin/true
            END
            printf '[Service]\\nNoNewPrivileges=yes\\n' > usr/lib/systemd/system/web.service.d/10-more.conf
            cat > usr/lib/systemd/system/dial@.service <<'END'
            [Service]
            Type=oneshot
            DynamicUser=yes
            StateDirectory=dial/%i
            ExecStart=/usr/libexec/prepare
            ExecStart=pppd call %i
            END
            """)
        var lock = Lock()
        (lock.users, lock.groups) = (["web": 417, "dial": 418], ["web": 417, "logs": 101, "dial": 418])
        let result = try await compose(
            [daemon],
            definition: """
                services:
                  w: {unit: web.service, environment: {COLOUR: blue}, directories: [/run/more]}
                  dialler: {unit: dial@office.service, restart: on-failure}

                """, lock: lock)
        let tree = result.tree
        #expect(
            try text(tree, "usr/lib/vcpe/units/w") == """
                command /usr/sbin/web -a b --level=2 --cost=$5 two\\ words web
                before -+/usr/libexec/prepare --in /var/lib/web
                after-start -/usr/libexec/prepare --out
                condition !exists /etc/web/off
                user 417
                group 417
                groups 101
                umask 27
                capabilities net_bind_service net_raw
                no-new-privileges
                directory /run/more
                environment COLOUR=blue
                environment GREETING=hello there
                environment HOME=/
                environment LEVEL=2
                environment LOGNAME=web
                environment OPTIONS=-a  b
                environment PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin
                environment RUNTIME_DIRECTORY=/run/web
                environment SHELL=/usr/sbin/nologin
                environment STATE_DIRECTORY=/var/lib/web
                environment USER=web
                limit nofile 4096
                ready forked /run/web.pid
                restart on-failure
                stop-signal QUIT
                stop-all
                stop-timeout 65

                """)
        let dialler = try #require(try text(tree, "usr/lib/vcpe/units/dialler"))
        #expect(
            dialler.hasPrefix(
                "command /usr/sbin/pppd call office\nbefore /usr/libexec/prepare\nuser 418\ngroup 418\n")
                && dialler.contains("\nonce\n"))
        #expect(tree["run/web"]?.mode == 0o750 && tree["run/web"]?.uid == 417)
        #expect(tree["var/lib/dial/office"]?.uid == 418)
        let remarks = result.remarks.filter { $0.hasPrefix("service w, /usr/lib/systemd/system/web.service: ") }
        #expect(remarks.count == 2 && remarks.contains { $0.contains("ExecStopPost") }, "\(remarks)")
        #expect(remarks.contains { $0.contains("ProtectSystem") })

        // What systemd's own documentation and Debian's units have, and PID 1's words for it.
        func lines(_ unit: String, _ more: [String: String] = [:]) async throws -> [String] {
            let files = ([("/etc/systemd/system/x.service", unit)] + more.map { ($0.key, $0.value) }).map {
                "  \($0.0): {content: \(JSON.text($0.1).line)}\n"
            }.joined()
            let tree = try await compose(
                [daemon], definition: "files:\n\(files)services: {x: {unit: x.service}}\n", lock: lock
            ).tree
            return try text(tree, "usr/lib/vcpe/units/x")?.split(separator: "\n").map(String.init) ?? []
        }
        let never = try await lines(
            "[Service]\r\nUser=web\r\nExecStart=!/usr/sbin/web a\\sb ';' \\; c\\.d\r\nTimeoutStartSec=0\r\n")
        #expect(never.first == "command /usr/sbin/web a\\ b ; ; c\\\\.d" && !never.contains("user 417"), "\(never)")
        #expect(
            never.contains("ready-timeout 86400") && never.contains("stop-timeout 90") && never.contains("stop-all"))
        let bounded = try await lines(
            "[Service]\nExecStart=/usr/sbin/web\nExecStartPre=-nothing\nExecStartPost=/usr/sbin/web ${MAINPID} $MAINPID\n"
                + "CapabilityBoundingSet=\nLimitNOFILE=infinity\nKillMode=mixed\nRemainAfterExit=yes\n",
            ["/etc/systemd/system/x.service.d/a.conf": "[Service]\nTimeoutStopSec=3\nEnvironment=PATH=/x\n"])
        #expect(bounded.contains("capabilities") && bounded.contains("limit nofile 1048576"), "\(bounded)")
        #expect(bounded.contains("after-start /usr/sbin/web ${MAINPID} ${MAINPID}"))
        #expect(!bounded.contains { $0.hasPrefix("before") || $0 == "stop-all" })
        #expect(bounded.contains("restart never") && bounded.contains("stop-timeout 3"))
        #expect(bounded.contains("environment PATH=/x"))
        await #expect {
            try await compose(
                [daemon],
                definition:
                    "files: {/etc/systemd/system/web.service: {link: /dev/null}}\nservices: {x: {unit: web.service}}\n",
                lock: lock)
        } throws: { "\($0)".contains("there is no unit web.service") }
        await #expect {
            try await lines("[Service]\nExecStart=/usr/sbin/web\nExecStartPre=/usr/bin/none\n")
        } throws: { "\($0)".contains("there is no program /usr/bin/none") }

        let wrong = [
            "{unit: gone.service}": "there is no unit gone.service",
            "{unit: web.service, command: [/usr/sbin/web]}": "both command and unit",
            "{user: web}": "neither command nor unit",
            "{unit: dial@.service}": "allowed is a service unit's name",
        ]
        for (line, message) in wrong {
            await #expect {
                _ = try await compose([daemon], definition: "services:\n  s: \(line)\n", lock: lock)
            } throws: { error in "\(error)".contains(message) && "\(error)".contains("box.yaml:6:") }
        }
    }

    @Test func filesOfTheDefinitionCantLeaveTheTreeOrTheFolder() async throws {
        let base = try package("base", "mkdir -p etc usr/bin; ln -s /run/resolv etc/link; echo x > usr/bin/x")
        let tree = try await compose(
            [base],
            definition: """
                files:
                  /etc/motd: {content: "hello\\n", mode: "0600"}
                  /usr/bin/x: {absent: true}
                  /opt/y: {link: ../usr/bin/z}

                """
        ).tree
        #expect(try text(tree, "etc/motd") == "hello\n" && tree["etc/motd"]?.mode == 0o600)
        #expect(tree["usr/bin/x"] == nil)
        #expect(tree["opt/y"]?.kind == .symbolicLink(target: "../usr/bin/z"))
        let wrong = [
            "/etc/link/x: {content: a}": "/etc/link is no folder",
            "/etc/a: {source: ../secret}": "leads out of the definition's folder",
            "/etc/a: {source: missing}": "No such file or directory (ENOENT)",
            "/etc/a: {content: a, owner: nobody-here}": "there is no user or group",
        ]
        for (rule, message) in wrong {
            await #expect {
                try await compose([base], definition: "files:\n  \(rule)\n")
            } throws: { error in "\(error)".contains(message) && "\(error)".contains("box.yaml:6:") }
        }
    }
}
