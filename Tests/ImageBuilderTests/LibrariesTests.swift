import Files
import ImageBuilder
import Processes
import Testing

/// Programs, and the libraries that they load.
@Suite final class LibrariesTests: ComposedImage {
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
}
