import Digests
import Files
import Glibc
import ImageBuilder
import Processes
import TestSupport
import Testing

/// Own packages whose scripts do what Debian's do, locked and built by the command: an image has
/// what the scripts did, and no build runs them.
@Suite(.serialized) struct EffectsTests {
    private let fixture: LockFixture
    private var folder: String { fixture.folder }

    init() throws { fixture = try LockFixture() }

    private func deb(_ name: String, scripts: [String: String], files: String, fields: String = "") throws {
        try fixture.deb(name, scripts: scripts, files: files, fields: fields)
    }

    private func define(_ more: String) throws { try fixture.define("debs: [debs/]\n\(more)") }

    private func vcpe(_ arguments: [String]) throws -> Command.Result { try fixture.vcpe(arguments) }

    /// A database's hundreds of files are one line; the empty capability set of setcap(8) is one
    /// like others.
    @Test func manyFilesThatDifferAreOneLine() throws {
        try deb(
            "database",
            scripts: [
                "postinst": """
                mkdir -p /var/lib/database/tables
                for i in 1 2 3 4 5 6; do head -c 8 /dev/urandom >/var/lib/database/tables/$i; done
                head -c 8 /dev/urandom >/etc/database.key
                cp /bin/true /usr/bin/probe
                perl -e '($path, $name) = ("/usr/bin/probe", "security.capability");
                    $value = pack("V5", 0x02000000, 0, 0, 0, 0);
                    syscall(188, $path, $name, $value, 20, 0) == 0 or die "setxattr: $!"'
                """
            ], files: "mkdir -p etc")
        try define("packages: [database]\n")
        let refused = try vcpe(["lock", "own"])
        #expect(refused.status == 1)
        let lines = refused.errorText.split(separator: "\n").filter { $0.hasPrefix("  database: ") }.map(String.init)
        #expect(
            lines == [
                "  database: /etc/database.key is different in each installation",
                "  database: /var/lib/database/** (6 files) is different in each installation",
            ], "\(refused.errorText)")
        try define("packages: [database]\ndrop: [/var/lib/database/**, /etc/database.key]\n")
        let locked = try vcpe(["lock", "own"])
        #expect(locked.status == 0, "\(locked.errorText)")
        let effects = String(decoding: try FileSystem.read("\(folder)/images/own.effects"), as: UTF8.self)
        #expect(effects.contains("capabilities: \"=\"") || effects.contains("capabilities: ="), "\(effects)")
    }

    @Test func whatScriptsDoIsInTheImageAndWhatTheyDoAtRandomIsRefused() throws {
        try deb(
            "0probe",
            scripts: [
                "preinst": "dpkg-divert --package 0probe --rename --divert /usr/bin/tool.original --add /usr/bin/tool",
                "postinst": """
                adduser --system --group --home /var/lib/probe --gecos 'Probe, the' probe >/dev/null 2>&1 ||
                    useradd --system --user-group --home-dir /var/lib/probe --comment 'Probe, the' probe
                install -d -o probe -g probe -m 2750 /var/lib/probe /var/cache/probe
                install -d -m 0700 -o probe /etc/probe
                cp /usr/share/probe/default.conf /etc/probe/probe.conf; chmod 0600 /etc/probe/probe.conf
                chown probe:adm /etc/probe/packaged; chmod 4754 /usr/bin/helper
                printf 'a: "b"\\n\\ttab\\n' > /etc/probe/generated
                if [ "$1" = never ]; then chmod 4777 /usr/bin/tool; fi
                update-alternatives --install /usr/bin/prober prober /usr/bin/tool 30 >/dev/null
                ln -s ../probe/probe.conf /etc/probe/link
                rm -f /usr/share/probe/unwanted
                head -c 16 /dev/urandom | od -An -tx1 > /etc/probe/key
                """,
            ],
            files: """
                mkdir -p usr/bin usr/share/probe etc/probe usr/lib/tmpfiles.d
                printf 'x' > usr/bin/tool; printf 'x' > usr/bin/helper; chmod 755 usr/bin/*
                echo default > usr/share/probe/default.conf; echo u > usr/share/probe/unwanted; echo p > etc/probe/packaged
                echo 'd /run/probe 0770 probe probe' > usr/lib/tmpfiles.d/probe.conf
                """, fields: "Depends: passwd\n")
        try deb(
            "1tool", scripts: [:], files: "mkdir -p usr/bin; printf 'original' > usr/bin/tool; chmod 755 usr/bin/tool")
        try define("packages: [0probe, 1tool]\n")
        let refused = try vcpe(["lock", "own"])
        #expect(refused.status == 1)
        #expect(refused.errorText.contains("0probe: /etc/probe/key is different in each installation"))
        #expect(!FileSystem.exists("\(folder)/images/own.lock"))

        try define("packages: [0probe, 1tool]\ndrop: [/etc/probe/key]\n")
        let locked = try vcpe(["lock", "own"])
        #expect(locked.status == 0, "\(locked.errorText)")
        #expect(locked.text.contains("effects of 0probe: + {user: probe"))
        let lock = try #require(try Lock.read("\(folder)/images/own.lock"))
        let row = try #require(lock.packages.first { $0.name == "0probe" })
        #expect(row.archive == "debs" && row.path == "debs/0probe.deb" && row.version == "1:2.0-1")
        #expect(lock.users["probe"] != nil)
        #expect(try vcpe(["lock", "own", "--diff"]).text == "nothing changed\n")

        // No network and no namespace of its own: a build runs no script.
        let manifest = try fixture.manifest()
        func line(_ path: String) -> String? {
            manifest.split(separator: "\n").first { $0.hasSuffix(" \(path)") }.map(String.init)
        }
        let id = try #require(lock.users["probe"])
        #expect(line("/var/lib/probe")?.contains(" 2750 \(id):\(id) ") == true, "\(manifest)")
        #expect(line("/var/cache/probe")?.contains(" 2750 \(id):\(id) ") == true)
        #expect(line("/etc/probe")?.contains(" 700 \(id):0 ") == true)
        #expect(line("/etc/probe/probe.conf")?.contains(" 600 0:0 \(SHA256.hash(Array("default\n".utf8)))") == true)
        #expect(line("/etc/probe/packaged")?.contains(" \(id):4 ") == true)
        #expect(line("/usr/bin/helper")?.contains(" 4754 ") == true)
        #expect(line("/etc/probe/generated")?.contains("\(SHA256.hash(Array("a: \"b\"\n\ttab\n".utf8)))") == true)
        #expect(line("/usr/bin/tool")?.contains(" 755 0:0 \(SHA256.hash(Array("x".utf8)))") == true)
        #expect(line("/usr/bin/tool.original")?.contains("\(SHA256.hash(Array("original".utf8)))") == true)
        #expect(line("/etc/alternatives/prober") != nil && line("/usr/bin/prober") != nil)
        #expect(line("/etc/probe/link") != nil && line("/usr/share/probe/unwanted") == nil)
        #expect(line("/run/probe")?.contains(" 770 \(id):\(id) ") == true)
        #expect(line("/etc/probe/key") == nil)
    }

    @Test func aScriptThatFailsOrReachesOutsideIsAnErrorOfItsPackage() throws {
        let outside = "\(folder)/outside"
        try deb(
            "hostile",
            scripts: [
                "postinst": """
                # Neither the host's files, devices, processes nor networks are there.
                if [ -e '\(folder)' ] || ls /dev/sd* /dev/vd* 2>/dev/null || [ -d /proc/\(getpid()) ]; then
                    echo 'reached the host'; exit 3
                fi
                if mknod /dev/disk b 8 0 2>/dev/null; then echo 'made a device'; exit 4; fi
                if [ "$(ls /sys/class/net 2>/dev/null)" ]; then echo 'saw networks'; exit 5; fi
                echo escaped > '\(outside)' 2>/dev/null || true
                echo 'this fails for a reason'; exit 7
                """
            ], files: "mkdir -p usr/share/hostile; echo x > usr/share/hostile/x")
        try define("packages: [hostile]\n")
        let result = try vcpe(["lock", "own"])
        #expect(result.status == 1)
        #expect(result.errorText.contains("hostile: the maintainer scripts failed"))
        #expect(result.errorText.contains("this fails for a reason"), "\(result.errorText)")
        #expect(!FileSystem.exists(outside))
    }

    @Test func aConflictNamesThePackagesAndTheDefinitionsLines() throws {
        try deb("1tool", scripts: [:], files: "mkdir -p usr/share/tool; echo x > usr/share/tool/x")
        for name in ["7mail", "mailer"] {
            let transport = "Provides: mail-transport-agent\nConflicts: mail-transport-agent\n"
            try deb(name, scripts: [:], files: "mkdir -p usr/share/\(name)", fields: transport)
        }
        try define("packages: [7mail, mailer, 1tool, -netbase]\n")
        let result = try vcpe(["lock", "own"])
        #expect(result.status == 1)
        #expect(result.errorText.contains("own.yaml:5:"), "\(result.errorText)")
        #expect(result.errorText.contains("Conflicts: mail-transport-agent"), "\(result.errorText)")
    }
}
