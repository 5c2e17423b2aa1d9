import ImageBuilder
import Testing

/// Users and groups of sysusers.d, with the lock's numbers.
@Suite final class SystemUsersTests: ComposedImage {
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
}
