import Digests
import ImageBuilder
import Processes
import Testing

/// What dpkg and maintainer scripts would have done with packages is done on purpose, or said.
@Suite final class ComposerTests: ComposedImage {
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
}
