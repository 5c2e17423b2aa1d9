import ImageBuilder
import Processes
import Testing

/// What tmpfiles.d and units want to be there at boot.
@Suite final class TemporaryFilesTests: ComposedImage {
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
}
