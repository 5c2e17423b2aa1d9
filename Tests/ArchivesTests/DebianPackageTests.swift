import Archives
import Files
import Glibc
import Testing

/// Real .debs, made by dpkg-deb or, where it would refuse, from ar and tar by hand.
@Suite final class DebianPackageTests {
    let folder: String

    init() throws { folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-archives") }

    deinit { try? FileSystem.remove(folder) }

    func shell(_ script: String) throws {
        let status = system("set -e; umask 022; cd \(folder); { \(script); } >/dev/null")
        try #require(status == 0, "\(script)")
    }

    func makePackage(compression: String) throws -> String {
        try shell(
            """
            mkdir -p p/DEBIAN p/usr/bin p/etc
            printf 'Package: p\\nVersion: 1\\nArchitecture: all\\nMaintainer: x <x@example.org>\\nDescription: x\\n' > p/DEBIAN/control
            printf '#!/bin/sh\\nexit 0\\n' > p/DEBIAN/postinst; chmod 755 p/DEBIAN/postinst
            head -c 300000 /dev/zero > p/usr/bin/tool; chmod 4755 p/usr/bin/tool
            ln p/usr/bin/tool p/usr/bin/hard; ln -s ../usr/bin/tool p/etc/soft
            dpkg-deb --root-owner-group -Z\(compression) -b p p.deb
            """)
        return "\(folder)/p.deb"
    }

    @Test(arguments: ["xz", "zstd", "gzip", "none"])
    func everyCompressionIsRead(compression: String) throws {
        let path = try makePackage(compression: compression)
        var controls: [String] = []
        var entries: [String: ArchiveEntry] = [:]
        var bytes = 0
        try DebianPackage.read(path) { name, _ in
            controls.append(name)
        } data: { entry, content in
            entries[entry.path] = entry
            if case .file = entry.kind { try content { bytes += $0.count } }
        }
        #expect(controls.sorted() == ["control", "postinst"])
        #expect(bytes == 300_000)
        #expect(entries["etc/soft"]?.kind == .symbolicLink(target: "../usr/bin/tool"))
        let links = [entries["usr/bin/hard"], entries["usr/bin/tool"]].compactMap { $0 }
        #expect(links.contains { $0.kind == .file(size: 300_000) && $0.mode == 0o4755 && $0.uid == 0 })
        #expect(links.contains { if case .hardLink = $0.kind { true } else { false } })
        #expect(entries[""]?.kind == .directory)
        try FileSystem.remove(folder)
    }

    @Test func hostileAndBrokenPackagesAreRefused() throws {
        func failure(_ path: String) -> String {
            do {
                try DebianPackage.read(path, control: { _, _ in }) { entry, content in
                    if case .file = entry.kind { try content { _ in } }
                }
                return "no error"
            } catch { return "\(error)" }
        }
        let whole = try makePackage(compression: "xz")
        try shell(
            """
            printf '2.0\\n' > debian-binary; touch f; tar cJf control.tar.xz f
            tar cJPf data.tar.xz --transform 's,^f,../../escape,' f; ar rc dots.deb debian-binary control.tar.xz data.tar.xz
            tar cJPf data.tar.xz --transform 's,^f,/etc/abs,' f; ar rc absolute.deb debian-binary control.tar.xz data.tar.xz
            ar rc nodata.deb debian-binary control.tar.xz
            : > empty.deb; head -c 400 p.deb > cut.deb; head -c 5000 /dev/urandom > garbage.deb
            """)
        #expect(failure(whole) == "no error")
        #expect(failure("\(folder)/dots.deb") == "dots.deb: \"../../escape\" leaves the tree through \"..\"")
        #expect(failure("\(folder)/absolute.deb").contains("absolute path"))
        #expect(failure("\(folder)/nodata.deb").contains("no data.tar"))
        for broken in ["empty", "cut", "garbage", "missing"] {
            #expect(failure("\(folder)/\(broken).deb").hasPrefix("\(broken).deb") || broken == "missing", "\(broken)")
            #expect(failure("\(folder)/\(broken).deb") != "no error", "\(broken)")
        }
        try FileSystem.remove(folder)
    }
}
