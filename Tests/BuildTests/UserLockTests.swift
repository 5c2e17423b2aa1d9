import Files
import ImageBuilder
import Processes
import Testing

/// `vcpe lock` by an ordinary user: the reference root is in a user namespace.
@Suite(.serialized) struct UserLockTests {
    private let fixture: LockFixture
    private var folder: String { fixture.folder }

    init() throws {
        fixture = try LockFixture()
        try #require(FileSystem.exists("/usr/bin/newuidmap"), "apt-get install uidmap")
        try fixture.deb(
            "app",
            scripts: [
                "postinst":
                    "useradd --system --home-dir /var/lib/app app; install -d -o app -g app -m 2750 /var/lib/app"
            ], fields: "Depends: passwd\n")
        try fixture.define("packages: [app]\ndebs: [debs/]\n")
    }

    /// Gives the folder to a user, with a program and a cache of the user's own.
    private func giveAway() throws {
        let debs = "\(folder)/cache/vcpe/debs"
        try Command("rm", ["-rf", "\(folder)/cache"]).check()
        try FileSystem.makeDirectory("\(folder)/cache/vcpe")
        try Command("cp", ["-r", try Cache.standard.folder("debs"), debs]).check()
        try Command("cp", [fixture.command([]).program, folder]).check()
        try Command("chown", ["-R", "\(Self.nobody):\(Self.nobody)", folder]).check()
    }

    private static let nobody = 65_534
    private static let ranges = "nobody:100000:65536\n"

    /// Runs a script, whose further arguments are the command of `vcpe lock`.
    private func lock(_ script: String) throws -> Command.Result {
        var command = fixture.command(["lock", "own"])
        (command.environment["HOME"], command.environment["XDG_CACHE_HOME"]) = (folder, "\(folder)/cache")
        command.arguments = ["-euc", script, "sh", "\(folder)/vcpe"] + command.arguments
        command.program = "sh"
        return try command.run()
    }

    /// - Parameters:
    ///   - ranges: the lines of /etc/subuid and /etc/subgid.
    ///   - enter: a command in front of setpriv(1).
    private func lock(ranges: String, enter: String = "exec") throws -> Command.Result {
        try FileSystem.replace("\(folder)/ranges", with: ranges, mode: 0o644)
        return try lock(
            """
            exec unshare --mount sh -euc '
                for file in /etc/subuid /etc/subgid; do mount --bind "\(folder)/ranges" $file; done
                \(enter) setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all "$@"' sh "$@"
            """)
    }

    private func expectTheHint(_ result: Command.Result, _ reason: String) {
        #expect(result.status == 1)
        for text in ["the packages' effects can't be recorded here", reason, "apt-get install uidmap", "/etc/subuid"] {
            #expect(result.errorText.contains(text), "\(result.errorText)")
        }
        #expect(!FileSystem.exists("\(fixture.images)/own.lock"))
    }

    @Test func aUserWithSubordinateIdsRecordsWhatRootRecords() throws {
        try fixture.lock()
        func files() throws -> [String] {
            try ["lock", "effects"].map {
                String(decoding: try FileSystem.read("\(fixture.images)/own.\($0)"), as: UTF8.self)
            }
        }
        let ofRoot = try files()
        #expect(ofRoot[1].contains("{directory: /var/lib/app, mode: \"2750\", owner: \"app:app\"}"), "\(ofRoot[1])")
        for name in ["lock", "effects"] { try FileSystem.remove("\(fixture.images)/own.\(name)") }
        try giveAway()
        let result = try lock(ranges: Self.ranges)
        #expect(result.status == 0, "\(result.errorText)")
        #expect(try File("\(fixture.images)/own.lock").status().st_uid == UInt32(Self.nobody))
        #expect(try files() == ofRoot)
    }

    @Test func aUserWithoutSubordinateIdsIsToldWhatToDo() throws {
        try giveAway()
        try expectTheHint(lock(ranges: ""), "unshare: ")
    }

    /// The limit is one of a user namespace that the test makes, so that no other process of the
    /// host has it.
    @Test func aHostWithoutUserNamespacesIsToldWhatToDo() throws {
        try giveAway()
        let enter = """
            unshare --user sleep 600 & holder=$!
                trap "kill $holder" EXIT
                while [ "$(readlink /proc/$holder/ns/user)" = "$(readlink /proc/$$/ns/user)" ]; do sleep 0.05; done
                for map in uid_map gid_map; do printf "0 0 1\\n65534 65534 1\\n" > /proc/$holder/$map; done
                nsenter --user --target $holder --setuid 0 --setgid 0 sh -euc "
                    echo 0 > /proc/sys/user/max_user_namespaces; exec \\"\\$@\\"" sh
            """
        try expectTheHint(lock(ranges: Self.ranges, enter: enter), "No space left on device")
    }
}
