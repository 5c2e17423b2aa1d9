import ImageBuilder
import Processes
import Testing

/// Trees and files that a definition adds.
@Suite final class OverlayTreesTests: ComposedImage {
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
