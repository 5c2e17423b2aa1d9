import Documents
import Files
import Glibc
import Planning
import PluginKit
import TestSupport
import Testing

/// A plugin of a box that was taken over. Its program is run as the engine runs it.
@Suite final class ConfinedPluginTests {
    let folder: String

    // Not /tmp: that must be empty.
    init() throws { folder = try FileSystem.makeTemporaryDirectory(in: "/srv", prefix: "vcpe-confined") }

    deinit { try? FileSystem.remove(folder) }

    private func runner(_ program: String) throws -> PluginRunner {
        chmod(folder, 0o755)
        try FileSystem.makeDirectory("\(folder)/plugins/other")
        try FileSystem.replace("\(folder)/plugins/other/other", with: program, mode: 0o755)
        return try #require(try PluginRunner.all(in: "\(folder)/plugins").first)
    }

    private func failure(_ runner: PluginRunner) -> String {
        do {
            _ = try runner.lines("plan", [:])
            return ""
        } catch { return "\(error)" }
    }

    @Test(.enabled(if: geteuid() == 0, "a box runs plugins as root")) func aPluginOfABoxGetsNothing() throws {
        try FileSystem.replace("\(folder)/secret", with: "secret\n", mode: 0o644)
        let socket = "\(folder)/socket"
        let program = HostilePlugin.program(files: ["\(folder)/secret"], sockets: [socket], port: 22)
        let text = failure(try runner(program))
        let start = try #require(text.firstIndex(of: "{"), "\(text)")
        // The first plugin of a folder.
        #expect(HostilePluginOutcome(try JSON.parse(Array(text[start...].utf8))).findings(user: 64_000) == [])
    }

    /// Interpreters and libraries make calls of which a plugin's author knows nothing.
    @Test(
        .enabled(if: geteuid() == 0, "a box runs plugins as root"),
        arguments: [
            "#!/bin/sh\nx=$(cat | jq -c .a); echo \"{\\\"got\\\":$x}\" | sort | awk '{print $1}' | sed s/got/b/",
            """
            #!/usr/bin/python3
            import hashlib, json, os, random, re, subprocess, sys, threading, time, datetime
            thread = threading.Thread(target=time.sleep, args=(0.01,)); thread.start(); thread.join()
            random.random(); os.urandom(4); datetime.datetime.now()
            got = json.load(sys.stdin)["a"]
            print(subprocess.run(["jq", "-cn", '{b: %d}' % got], capture_output=True, check=True, text=True).stdout, end="")
            """,
            "#!/usr/bin/perl\nlocal $/; <STDIN> =~ /\"a\":(\\d+)/; print `echo '{\"b\":$1}'`;",
            "#!/bin/bash\nread -r x; cat <(echo \"{\\\"b\\\":$(jq .a <<<\"$x\")}\")",
        ])
    func aPluginInAnyLanguageComputes(program: String) throws {
        #expect(try runner(program + "\n").lines("plan", ["a": 1]) == [#"{"b":1}"#])
    }
}
