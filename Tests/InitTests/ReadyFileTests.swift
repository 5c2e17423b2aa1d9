import Files
import Glibc
import Testing

/// PID 1 removes the file that says that a service is ready, in a folder that may be the service's
/// own.
@Suite(.serialized) struct ReadyFileTests {
    @Test func aLinkInTheServicesFolderLeadsNowhere() throws {
        let box = try Sandbox(
            units: [
                "victim": "command /usr/lib/test/victim\n"
                    + "ready file /run/kept/file\n",
                "evil": "command /usr/lib/test/evil\nafter victim\nuser 65534\ndirectory /run/evil\n"
                    + "ready file /run/evil/folder/file\n",
            ],
            scripts: [
                "victim": "#!/bin/sh\nmkdir -p /run/kept; : >/run/kept/file; exec sleep 1000\n",
                // The first start makes a folder, the second one finds a link in its place.
                "evil": """
                #!/bin/sh
                cd /run/evil
                if [ ! -e once ]; then
                    : >once; mkdir folder; : >folder/file; sleep 1
                    rm -r folder; ln -s /run/kept folder; exit 1
                fi
                : >twice; exec sleep 1000

                """,
            ])
        #expect(
            box.wait(15) { FileSystem.exists(box.path("/run/evil/twice")) }, "\(box.ask("status") ?? "") \(box.console)"
        )
        #expect(FileSystem.exists(box.path("/run/kept/file")), "\(box.console)")
        #expect(box.service("victim")?[1] == "running")
    }

    /// A file that is left from before says nothing of this start, also by Debian's /var/run.
    @Test func aLeftFileIsRemoved() throws {
        let box = try Sandbox(
            units: ["slow": "command /usr/lib/test/slow\nready file /var/run/slow\nready-timeout 60\nrestart never\n"],
            scripts: ["slow": "#!/bin/sh\ntest -e /run/slow && : >/run/found\n: >/run/asked; exec sleep 1000\n"])
        #expect(box.wait(10) { FileSystem.exists(box.path("/run/asked")) }, "\(box.console)")
        #expect(!FileSystem.exists(box.path("/run/found")))
    }
}
