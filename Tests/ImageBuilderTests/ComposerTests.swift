import Digests
import Documents
import Files
import ImageBuilder
import Processes
import Testing

/// Packages made by dpkg-deb, composed as an image's are: what dpkg and maintainer scripts would have done is done on
/// purpose, or said.
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
            archive: .main, path: "pool/\(name).deb")
        _ = try cache.folder("debs")
        try FileSystem.replace(cache.package(locked.digest), with: bytes)
        return try UnpackedPackage.read(locked, cache: cache)
    }

    func compose(_ packages: [UnpackedPackage], definition: String = "", lock: Lock = Lock()) async throws
        -> Composer.Result
    {
        let kernel = try package("linux-image-1", "mkdir -p boot; echo kernel > boot/vmlinuz-1")
        try FileSystem.replace(
            "\(folder)/images/box.yaml",
            with: "name: box\nversion: '1'\nbase: {suite: trixie, architecture: amd64}\nprofiles: [none]\n" + definition
        )
        let read = try Definition.read("\(folder)/images/box.yaml")
        var composer = Composer(
            definition: read, profile: try HardwareProfile.read(read.profiles[0], folder: "\(folder)/images"),
            packages: packages + [kernel], lock: lock, folder: "\(folder)/images", cache: cache)
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

    @Test func diversionsAlternativesAndCapabilitiesOfScriptsAreDone() async throws {
        let diverting = try package(
            "aaa", postinst: "dpkg-divert --package aaa --rename --divert /usr/bin/tool.bbb --add /usr/bin/tool",
            "mkdir -p usr/bin; echo a > usr/bin/tool")
        let diverted = try package("bbb", "mkdir -p usr/bin; echo b > usr/bin/tool")
        let low = try package(
            "low", postinst: "update-alternatives --install /usr/bin/awk awk /usr/bin/mawk 5",
            "mkdir -p usr/bin; echo low > usr/bin/mawk")
        let high = try package(
            "high",
            postinst:
                "setcap cap_net_raw+ep /usr/bin/gawk\nupdate-alternatives --install /usr/bin/awk awk \\\n  /usr/bin/gawk 10",
            "mkdir -p usr/bin; echo high > usr/bin/gawk; chmod 4755 usr/bin/gawk")
        let result = try await compose([diverting, diverted, low, high])
        #expect(try text(result.tree, "usr/bin/tool") == "a\n")
        #expect(try text(result.tree, "usr/bin/tool.bbb") == "b\n")
        #expect(result.tree["usr/bin/awk"]?.kind == .symbolicLink(target: "/etc/alternatives/awk"))
        #expect(result.tree["etc/alternatives/awk"]?.kind == .symbolicLink(target: "/usr/bin/gawk"))
        #expect(result.tree["usr/bin/gawk"]?.mode == 0o4755)
        // linux/capability.h: revision 2, effective; cap_net_raw is bit 13.
        #expect(
            result.tree["usr/bin/gawk"]?.attributes["security.capability"]
                == [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
        #expect(result.unknownScripts.isEmpty)
    }

    @Test func scriptsThatNobodyKnowsAreReported() async throws {
        let result = try await compose([
            try package(
                "odd", postinst: "if [ \"$1\" = configure ]; then\n  make-coffee --strong\nfi\nldconfig\n",
                "mkdir -p usr/share/odd; echo x > usr/share/odd/x")
        ])
        #expect(result.unknownScripts == ["odd": ["make-coffee --strong"]])
    }

    @Test func libraryFoldersThatWouldNeedACacheAreReported() async throws {
        let result = try await compose([
            try package(
                "odd", "mkdir -p etc/ld.so.conf.d; echo /usr/lib/odd > etc/ld.so.conf.d/odd.conf")
        ])
        #expect(
            result.remarks.count == 1 && result.remarks[0].contains("/usr/lib/odd, which is found only by ldconfig"))
    }

    @Test func usersComeFromSysusersWithTheLocksNumbers() async throws {
        let daemon = try package(
            "daemon",
            """
            mkdir -p usr/lib/sysusers.d usr/bin; echo 'u web - "Web server" /srv/web' > usr/lib/sysusers.d/daemon.conf
            echo 'g logs -' >> usr/lib/sysusers.d/daemon.conf; echo 'm web logs' >> usr/lib/sysusers.d/daemon.conf
            echo x > usr/bin/daemon
            """)
        await #expect {
            try await compose([daemon])
        } throws: { error in "\(error)".contains("no number for the system user web") }
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
                == "command /usr/bin/daemon a\\ b\nuser 417\ngroup 417\nrestart always\n")
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

    @Test func whatNobodyOnTheBoxReadsIsLeftOutAndCounted() async throws {
        let result = try await compose([
            try package(
                "docs",
                "mkdir -p usr/share/doc/docs usr/bin; head -c 5000 /dev/zero > usr/share/doc/docs/x; echo x > usr/bin/y"
            )
        ])
        #expect(result.tree["usr/share/doc/docs/x"] == nil && result.tree["usr/bin/y"] != nil)
        #expect(result.stripped["usr/share/doc/"] == 5000)
    }
}
